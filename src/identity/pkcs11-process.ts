/**
 * One run of `selvedge-signer` (native/signer): lines to it and from it, one request at a time. It is started when it is needed, ended when something is
 * wrong with it, and started anew for the next request: so a token that was taken out and put back in works again without a restart of anything.
 */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

const PROGRAM = fileURLToPath(new URL('../../native/signer/build/selvedge-signer', import.meta.url));

export interface Pkcs11Token {
  /** The vendor's library. */
  readonly module: string;
  /** Label of the token. */
  readonly token: string;
  /** Read anew at each log-in: it is kept nowhere. */
  readonly pin: () => Promise<string>;
}

export class Pkcs11Process {
  readonly #where: Pkcs11Token;
  #child: ChildProcessWithoutNullStreams | null = null;
  #asking: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(where: Pkcs11Token) {
    this.#where = where;
  }

  /** Octets of the answer. A token that has lost its session is opened again, once. @throws signer_unavailable, handle_closed */
  ask(request: string, ...words: readonly (string | Uint8Array)[]): Promise<Uint8Array> {
    const answer = this.#asking.then(async () => {
      const wasOpen = this.#child !== null;
      try {
        return await this.#askNow(request, words);
      } catch (error) {
        if (!wasOpen || this.#isClosed || !isPassing(error)) throw error;
        return await this.#askNow(request, words);
      }
    });
    this.#asking = answer.catch(() => undefined);
    return answer;
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#asking;
    await this.#stop();
  }

  async #askNow(request: string, words: readonly (string | Uint8Array)[]): Promise<Uint8Array> {
    if (this.#isClosed) throw new SelvedgeError('handle_closed', { what: 'signer' });
    try {
      this.#child ??= await this.#open();
      const child = this.#child;
      return await say(child, this.#where.token, request, words);
    } catch (error) {
      await this.#stop();
      throw error;
    }
  }

  async #open(): Promise<ChildProcessWithoutNullStreams> {
    const { module, token, pin } = this.#where;
    const secret = await pin();
    const child = spawn(PROGRAM, [], { stdio: 'pipe' });
    // What a library prints is nobody's; a program that is gone is told by its end.
    child.stderr.resume();
    child.stdin.on('error', () => undefined);
    child.on('error', () => undefined);
    this.#child = child;
    await say(child, token, 'open', [module, token, secret]);
    return child;
  }

  async #stop(): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'close');
    child.kill('SIGKILL');
    await gone;
  }
}

async function say(child: ChildProcessWithoutNullStreams, token: string, request: string, words: readonly (string | Uint8Array)[]): Promise<Uint8Array> {
  const line = [request, ...words.map((word) => Buffer.from(word as string).toString('hex'))].join(' ');
  child.stdin.write(`${line}\n`);
  const answer = await answerOf(child, token);
  const [verdict, first = '', second = ''] = answer.split(' ');
  if (verdict === 'ok') return new Uint8Array(Buffer.from(first, 'hex'));
  throw unavailable(token, verdict === 'error' ? Buffer.from(second, 'hex').toString() : 'its program says what it should not', first);
}

/** The next line; bounded in length and time. */
function answerOf(child: ChildProcessWithoutNullStreams, token: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let heard = '';
    const done = (settle: () => void): void => {
      clearTimeout(patience);
      child.stdout.off('data', onData);
      child.off('close', onClose);
      child.off('error', onError);
      settle();
    };
    const patience = setTimeout(
      () => done(() => reject(unavailable(token, `no answer for ${limits.signer_answer_ms_max} ms`, 'token'))),
      limits.signer_answer_ms_max,
    );
    const onData = (chunk: Buffer): void => {
      heard += chunk.toString('latin1');
      const end = heard.indexOf('\n');
      if (end >= 0) done(() => resolve(heard.slice(0, end)));
      else if (heard.length > limits.signer_line_bytes_max) done(() => reject(unavailable(token, 'its program says too much', 'usage')));
    };
    const onClose = (): void => done(() => reject(unavailable(token, 'the process with its library ended', 'token')));
    const onError = (error: Error): void => done(() => reject(unavailable(token, error.message, 'missing')));
    child.stdout.on('data', onData);
    child.once('close', onClose);
    child.once('error', onError);
    if (child.exitCode !== null || child.signalCode !== null) onClose();
  });
}

function unavailable(token: string, why: string, kind: string): SelvedgeError {
  return new SelvedgeError('signer_unavailable', { what: `PKCS#11 token ${token}`, why, kind });
}

function isPassing(error: unknown): boolean {
  return error instanceof SelvedgeError && error.code === 'signer_unavailable' && error.facts.kind === 'token';
}
