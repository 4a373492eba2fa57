/** The daemon's end of the tunnel's carry socket: says whose packets the stream carries, and hands it over once the tunnel has agreed. */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { Type } from 'typebox';
import { asSelvedgeError, isErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Timers } from '../transport/system.ts';
import { connectTunnel, unreachable } from './tunnel-socket.ts';
import { checker, TUNNEL_PROTOCOL } from './tunnel-wire.ts';

const checkAnswer = checker(
  Type.Object({
    ok: Type.Optional(Type.Literal(true)),
    error: Type.Optional(Type.Object({ code: Type.String({ maxLength: 64 }), message: Type.String({ maxLength: 1_024 }) })),
  }),
);
const NEWLINE = 0x0a;
/** More than an answer may have, so that what comes behind it has room too. */
const ANSWER_READ_BYTES = 2 * limits.carry_answer_bytes_max;

/** Who takes what comes, into memory of its own. */
export interface CarryReader {
  /** Where the next octets go. Asked again after each `take`. */
  readonly room: () => Uint8Array;
  /** They lie in what `room` gave last, or in memory that nobody uses again. */
  readonly take: (bytes: Uint8Array) => void;
}

export class CarrySocket {
  readonly #socket: Socket;
  readonly #answer: Answer;

  private constructor(socket: Socket, answer: Answer) {
    this.#socket = socket;
    this.#answer = answer;
  }

  /** Nothing is read until `read`. @throws tunnel_unreachable, permission_denied, timeout, what the tunnel says */
  static async open(path: string, node: string, timers: Timers): Promise<CarrySocket> {
    const answer = new Answer();
    const socket = await connectTunnel(path, { buffer: answer.room, callback: answer.take });
    const patience_ms = limits.tunnel_answer_ms_max;
    const cancel = timers.after(patience_ms, () => answer.fail(new SelvedgeError('timeout', { what: 'the answer of the carry socket', ms: patience_ms })));
    const onEnd = (error?: unknown) => answer.fail(unreachable(path, error ?? new Error('it closed the connection')));
    socket.once('error', onEnd).once('close', onEnd);
    socket.write(`${JSON.stringify({ version: TUNNEL_PROTOCOL, node })}\n`);
    try {
      checkYes(await answer.line, path);
      return new CarrySocket(socket, answer);
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      cancel();
      socket.off('close', onEnd).off('error', onEnd);
    }
  }

  /** Once. What came behind the answer comes first. `onEnd`: it failed or was closed; may come twice. */
  read(reader: CarryReader, onEnd: (error: SelvedgeError) => void): void {
    this.#socket.on('error', (error) => onEnd(asSelvedgeError(error, 'tunnel_unreachable', { path: 'the carry socket' })));
    this.#socket.on('close', () => onEnd(new SelvedgeError('tunnel_unreachable', { path: 'the carry socket', why: 'it was closed' })));
    this.#answer.handOver(reader);
    this.#socket.resume();
  }

  /** `done`: the memory is the caller's again. */
  write(bytes: Uint8Array, done?: () => void): void {
    this.#socket.write(bytes, done);
  }

  /** More than may wait is waiting. */
  get isFull(): boolean {
    return this.#socket.writableNeedDrain;
  }

  async drained(): Promise<void> {
    if (this.isFull) await once(this.#socket, 'drain');
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** What is read before somebody reads: the answer's line, and what comes with it. */
class Answer {
  readonly line: Promise<string>;
  readonly #settle: PromiseWithResolvers<string>;
  readonly #bytes = new Uint8Array(ANSWER_READ_BYTES);
  #length = 0;
  #rest: Uint8Array | null = null;
  #reader: CarryReader | null = null;

  constructor() {
    this.#settle = Promise.withResolvers<string>();
    this.line = this.#settle.promise;
  }

  fail(error: SelvedgeError): void {
    this.#settle.reject(error);
  }

  readonly room = (): Uint8Array => this.#reader?.room() ?? (this.#rest === null ? this.#bytes.subarray(this.#length) : new Uint8Array(ANSWER_READ_BYTES));

  /** False: read no more for now. */
  readonly take = (count: number, bytes: Uint8Array): boolean => {
    const piece = new Uint8Array(bytes.buffer, bytes.byteOffset, count);
    if (this.#reader) {
      this.#reader.take(piece);
      return true;
    }
    this.#length += count;
    const end = this.#bytes.subarray(0, this.#length).indexOf(NEWLINE);
    if (end < 0 && this.#length <= limits.carry_answer_bytes_max) return true;
    this.#rest = this.#bytes.subarray(end < 0 ? this.#length : end + 1, this.#length);
    this.#settle.resolve(end < 0 ? '' : Buffer.from(this.#bytes.buffer, 0, end).toString());
    return false;
  };

  handOver(reader: CarryReader): void {
    const rest = this.#rest;
    this.#rest = null;
    this.#reader = reader;
    if (rest !== null && rest.length > 0) reader.take(rest);
  }
}

/** @throws tunnel_answer_invalid, what the tunnel says */
function checkYes(line: string, path: string): void {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new SelvedgeError('tunnel_answer_invalid', { why: `no line of JSON at ${path}` });
  }
  const { ok, error } = checkAnswer(value);
  if (ok) return;
  const { code, message } = error ?? { code: '', message: 'neither yes nor no' };
  if (isErrorCode(code)) throw new SelvedgeError(code, { why: message, what: 'peer of the tunnel', name: message });
  throw new SelvedgeError('tunnel_refused', { what: 'the carry socket', why: message });
}
