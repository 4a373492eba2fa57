/**
 * Somebody who shows any octets as a chain, as a dialer and as a listener, over QUIC and TCP: the program of test/fixtures/presenter, built here, since our own stack and Node's
 * refuse to show most of what must be refused. What became of it is what the other end said or did.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { Test } from 'tap';
import { codeOfWire, type ErrorCode } from '../../src/base/errors.ts';
import { encodeHello } from '../../src/channel/hello.ts';
import { RecordKind } from '../../src/transport/tcp-lane.ts';
import { encodePreface, SESSION_ID_BYTES } from '../../src/transport/tcp-preface.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { systemRandom } from '../../src/transport/system.ts';
import { CLUSTER, NODE } from '../unit/identity/forge.ts';
import { helloOf } from '../../src/lab/hello-of.ts';
import type { ScenarioTransport } from './ways.ts';

/** `tls`: TLS ended it, before a verdict was asked for. `gone`: without a word, as a connection may end whose other end had more to read. */
export type Outcome = 'accepted' | 'tls' | 'gone' | ErrorCode;

interface Answer {
  readonly id: number;
  readonly port?: number;
  readonly end?: 'said' | 'closed' | 'tls' | 'gone';
  readonly code?: number;
}

/** A place to be dialed at, where one chain is shown. */
export interface Stand {
  readonly port: number;
  /** Of the first one that dials. */
  readonly outcome: Promise<Outcome>;
  close(): void;
}

export class Presenter {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #ids = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    createInterface({ input: child.stdout ?? process.stdin }).on('line', (line) => {
      const answer = JSON.parse(line) as Answer;
      this.#waiting.get(answer.id)?.(answer);
    });
  }

  /** Builds it (seconds; a minute where the module's packages have to be fetched) and starts it. */
  static async start(t: Test): Promise<Presenter> {
    const program = join(t.testdir({}), 'presenter');
    const cwd = fileURLToPath(new URL('../fixtures/presenter', import.meta.url));
    await promisify(execFile)('go', ['build', '-buildvcs=false', '-o', program, '.'], { cwd, env: { ...process.env, CGO_ENABLED: '0' } });
    const child = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] });
    t.teardown(() => void child.kill('SIGKILL'));
    return new Presenter(child);
  }

  async dial(transport: ScenarioTransport, port: number, credentials: Credentials): Promise<Outcome> {
    const hello = encodeHello('hello', helloOf({ cluster: CLUSTER, ...nameIn(credentials) }));
    const id = this.#ask({ do: 'dial', transport, port, first: transport === 'tcp' ? asRecord(hello) : hello }, credentials);
    return await this.#outcome(id);
  }

  async stand(transport: ScenarioTransport, credentials: Credentials): Promise<Stand> {
    const id = this.#ask({ do: 'stand', transport }, credentials);
    const { port = 0 } = await this.#next(id);
    return { port, outcome: this.#outcome(id), close: () => this.#send({ id, do: 'leave' }) };
  }

  #ask(what: { readonly do: string; readonly transport: string; readonly port?: number; readonly first?: Uint8Array }, { chain, key }: Credentials): number {
    const id = ++this.#ids;
    this.#send({ ...what, id, chain: chain.map(base64), key: base64(key), ...(what.first && { first: base64(what.first) }) });
    return id;
  }

  #send(line: object): void {
    this.#child.stdin?.write(`${JSON.stringify(line)}\n`);
  }

  async #outcome(id: number): Promise<Outcome> {
    const { end, code = 0 } = await this.#next(id);
    this.#waiting.delete(id);
    if (end === 'said') return 'accepted';
    return end === 'closed' ? codeOfWire(code) : (end ?? 'gone');
  }

  #next(id: number): Promise<Answer> {
    return new Promise((resolve) => this.#waiting.set(id, resolve));
  }
}

const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64');

/** What a dialer says first on a TCP connection: preface, and a record of data. */
function asRecord(frame: Uint8Array): Uint8Array {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(frame.length);
  header[0] = RecordKind.data;
  return Buffer.concat([encodePreface({ lane: 'urgent', session: systemRandom.bytes(SESSION_ID_BYTES) }), header, frame]);
}

/** Whoever the leaf names. */
function nameIn({ chain: [leaf] }: Credentials): { site: string; node: string } {
  const match = /spiffe:\/\/c1\/site\/([a-z0-9-]+)\/node\/([0-9a-f]{12}|tower)/.exec(Buffer.from(leaf ?? []).toString('latin1'));
  return { site: match?.[1] ?? 's1', node: match?.[2] ?? NODE };
}
