/**
 * One connection to selvedge-tunnel: requests and answers as lines of JSON over a Unix socket. A line is bounded before it is kept; what is not of the protocol ends the connection. It does not reconnect: `tunnel-link.ts` does.
 */
import type { Socket } from 'node:net';
import { asSelvedgeError, isErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Timers } from '../transport/system.ts';
import { LineSplitter } from './line-splitter.ts';
import { connectTunnel, unreachable } from './tunnel-socket.ts';
import { type Check, checker, HelloAnswer, LineSchema, TUNNEL_PROTOCOL } from './tunnel-wire.ts';

const checkLine = checker(LineSchema);
const checkHello = checker(HelloAnswer);

export interface TunnelConnectionOptions {
  readonly path: string;
  readonly timers: Timers;
  readonly onEvent: (event: string, data: unknown) => void;
}

interface Waiting {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: SelvedgeError) => void;
  readonly cancel: () => void;
}

export class TunnelConnection {
  readonly #options: TunnelConnectionOptions;
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  /** Why the connection ended; never rejects. */
  readonly closed: Promise<SelvedgeError>;
  #error: SelvedgeError | null = null;
  #lastId = 0;

  private constructor(socket: Socket, options: TunnelConnectionOptions) {
    this.#options = options;
    this.#socket = socket;
    const { promise, resolve } = Promise.withResolvers<SelvedgeError>();
    this.closed = promise;
    const lines = new LineSplitter(limits.tunnel_line_bytes_max);
    socket.on('data', (chunk) => {
      try {
        for (const line of lines.take(chunk)) this.#heard(line);
      } catch (error) {
        this.close(asSelvedgeError(error, 'tunnel_answer_invalid'));
      }
    });
    socket.on('error', (error) => this.close(unreachable(options.path, error)));
    socket.on('close', () => {
      const error = this.#error ?? unreachable(options.path, new Error('it closed the connection'));
      this.#error = error;
      for (const waiting of [...this.#waiting.values()]) waiting.reject(error);
      resolve(error);
    });
  }

  /** Connected, no word said. @throws tunnel_unreachable, permission_denied */
  static async open(options: TunnelConnectionOptions): Promise<TunnelConnection> {
    return new TunnelConnection(await connectTunnel(options.path), options);
  }

  /** The first words. @throws version_unsupported, tunnel_answer_invalid, tunnel_unreachable */
  async hello(): Promise<HelloAnswer> {
    const answer = await this.call('hello', { version: TUNNEL_PROTOCOL }, checkHello);
    if (answer.version !== TUNNEL_PROTOCOL) throw new SelvedgeError('version_unsupported', { found: answer.version, expected: TUNNEL_PROTOCOL });
    return answer;
  }

  /** @throws what the tunnel answered, tunnel_answer_invalid, tunnel_unreachable, timeout, limit_reached */
  async call<Shape>(method: string, params: object, check: Check<Shape>, patience_ms: number = limits.tunnel_answer_ms_max): Promise<Shape> {
    if (this.#error !== null) throw this.#error;
    if (this.#waiting.size >= limits.tunnel_requests_max)
      throw new SelvedgeError('limit_reached', { limit: 'tunnel_requests_max', max: limits.tunnel_requests_max });
    const id = ++this.#lastId;
    const line = Buffer.from(`${JSON.stringify({ id, method, params })}\n`);
    if (line.length > limits.tunnel_line_bytes_max)
      throw new SelvedgeError('limit_reached', { limit: 'tunnel_line_bytes_max', max: limits.tunnel_line_bytes_max });
    try {
      return check(await this.#ask(id, method, line, patience_ms));
    } finally {
      this.#waiting.get(id)?.cancel();
      this.#waiting.delete(id);
    }
  }

  #ask(id: number, method: string, line: Buffer, patience_ms: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const cancel = this.#options.timers.after(patience_ms, () =>
        reject(new SelvedgeError('timeout', { what: `selvedge-tunnel's answer to ${method}`, ms: patience_ms })),
      );
      this.#waiting.set(id, { resolve, reject, cancel });
      this.#socket.write(line);
    });
  }

  #heard(line: string): void {
    const { id, result, error, event, data } = checkLine(parse(line));
    if (event !== undefined) {
      this.#options.onEvent(event, data);
      return;
    }
    if (id === undefined || id === null) {
      // An error without an id is about what could not be read as a request at all: the connection is of no more use.
      throw error === undefined ? new SelvedgeError('tunnel_answer_invalid', { why: 'a line that is neither answer nor event' }) : refusal(error);
    }
    // Nobody may wait any more: its patience was over.
    const waiting = this.#waiting.get(id);
    if (error !== undefined) waiting?.reject(refusal(error));
    else waiting?.resolve(result);
  }

  /** Idempotent. */
  close(why: SelvedgeError = new SelvedgeError('handle_closed', { what: 'the connection to selvedge-tunnel' })): void {
    this.#error ??= why;
    this.#socket.destroy();
  }
}

function parse(line: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch {
    throw new SelvedgeError('tunnel_answer_invalid', { why: 'not JSON' });
  }
}

/** What the tunnel refused, as an error of the table; the code of a newer tunnel reads as `tunnel_refused`. */
function refusal({ code, message }: { readonly code: string; readonly message: string }): SelvedgeError {
  if (code === 'version_unsupported') return new SelvedgeError(code, { found: message, expected: TUNNEL_PROTOCOL });
  if (code === 'timeout') return new SelvedgeError(code, { what: message, ms: limits.tunnel_answer_ms_max });
  if (!isErrorCode(code)) return new SelvedgeError('tunnel_refused', { what: `selvedge-tunnel (${code})`, why: message });
  return new SelvedgeError(code, { why: message, what: message, name: 'selvedge-tunnel', path: 'selvedge-tunnel' });
}
