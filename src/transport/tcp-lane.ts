/**
 * One TLS connection of a TCP session. Out: frames go to the addon, which gathers them into records. In: what has come is taken in
 * large pieces into one array for all lanes, and handed on without the record heads.
 *
 * A record is [u8 kind][u24 length] and its octets. Records of kind `data` are one pipe: where one ends means nothing.
 */
import type { SelvedgeError } from '../base/errors.ts';
import type { TcpView, TlsConnection } from '../native-tls.ts';
import { CLOSE_BYTES_MAX } from './reason.ts';
import type { LaneName } from './session.ts';
import { endError } from './tcp-tls.ts';

/** `data`: octets of frames. `close`: last words (reason.ts). `want_bulk`: the acceptor asks the dialer to open the bulk lane. `finish`: no data follows on this lane. `oversized` is never sent: it stands for one too large to be gathered. */
export const RecordKind = { data: 0, close: 1, want_bulk: 2, finish: 3, oversized: -1 } as const;
const HEAD_BYTES = 4;
/** What every read lands in. Who keeps octets has them copied out of it; a lane that says little then holds little. */
const READ_BUFFER_BYTES = 256 * 1024;
/** Octets of one lane that are handed over before other events get their turn. */
const READ_BYTES_PER_TURN = 1024 * 1024;
/** So much leaves before the turn is over: the I/O thread works on it while this one makes more. */
const FLUSH_BYTES = 128 * 1024;

export interface LaneOwner {
  /** `laneData` keeps nothing of its array. */
  readonly keepsNothing: boolean;
  laneData(lane: Lane, bytes: Uint8Array): void;
  /** A whole record of a kind other than data; the owner refuses what it does not know. */
  laneRecord(lane: Lane, kind: number, payload: Uint8Array): void;
  /** No more than the mark is unsent. */
  laneDrained(lane: Lane): void;
  /** The connection is gone. Told once. */
  laneDead(lane: Lane, error: SelvedgeError): void;
}

interface Waiting {
  readonly kind: number;
  readonly head: Uint8Array;
  readonly body: Uint8Array | null;
}

let readBuffer: Uint8Array | null = null;
const nothing = new Uint8Array(0);

export class Lane {
  readonly name: LaneName;
  readonly #owner: LaneOwner;
  readonly #mark_bytes: number;
  #connection: TlsConnection | null = null;
  #peer = '';
  #pace: number | null = null;
  /** Written before there is a connection. */
  #waiting: Waiting[] = [];
  #unflushed_bytes = 0;
  #flushScheduled = false;
  #reading = false;
  #ending = false;
  #dead = false;
  #onClosed: (() => void) | null = null;
  /** Octets of frames handed over since the start, and how many of them had not left when that was last asked. */
  #written_bytes = 0;
  #unsent_bytes = 0;
  // The record being received.
  readonly #head = new Uint8Array(HEAD_BYTES);
  #head_bytes = 0;
  #kind: number = RecordKind.data;
  #left_bytes = 0;
  #control: Uint8Array | null = null;
  received_bytes = 0;

  /** `laneDrained` is told at `mark_bytes`. */
  constructor(name: LaneName, owner: LaneOwner, mark_bytes: number) {
    this.name = name;
    this.#owner = owner;
    this.#mark_bytes = mark_bytes;
  }

  get isAttached(): boolean {
    return this.#connection !== null;
  }

  get isOpen(): boolean {
    return this.#connection !== null && !this.#connection.isGone;
  }

  /** Octets of frames that were handed over and not yet taken by the kernel. */
  get unsent_bytes(): number {
    if (this.#connection !== null) this.#unsent_bytes = this.#connection.unsent(null);
    return this.#unsent_bytes;
  }

  /** Whether so few are unsent; if not, `laneDrained` will be told. */
  isBelow(bytes_max: number): boolean {
    if (this.#unsent_bytes < bytes_max) return true;
    if (this.#connection !== null) this.#unsent_bytes = this.#connection.unsent(this.#mark_bytes);
    return this.#unsent_bytes < bytes_max;
  }

  get sent_bytes(): number {
    return this.#written_bytes - this.unsent_bytes;
  }

  onceClosed(action: () => void): void {
    this.#onClosed = action;
  }

  /** The connection is there: what was gathered leaves. It is read only after `read()`. */
  attach(connection: TlsConnection, peer: string): void {
    this.#connection = connection;
    this.#peer = peer;
    connection.handler = {
      connected() {},
      readable: () => this.#pump(),
      writable: () => this.#owner.laneDrained(this),
      closed: () => this.#closed(),
    };
    if (this.#pace !== null) connection.pace(this.#pace);
    for (const { kind, head, body } of this.#waiting) this.#send(kind, head, body);
    this.#waiting = [];
    this.#unsent_bytes = connection.unsent(this.#mark_bytes);
    // Who was held back before there was a connection is told now, unless there is still too much.
    if (this.#unsent_bytes <= this.#mark_bytes) process.nextTick(() => this.#owner.laneDrained(this));
  }

  read(): void {
    if (this.#reading || this.#connection === null || this.#connection.isGone) return;
    this.#reading = true;
    this.#connection.approve(this.name === 'urgent');
    // What came with the handshake's last octets is here already.
    process.nextTick(() => this.#pump());
  }

  /** Octets a second at which the kernel lets this lane leave; null: no bound. */
  pace(rate_bytes_per_s: number | null): void {
    this.#pace = rate_bytes_per_s;
    this.#connection?.pace(rate_bytes_per_s);
  }

  /** The path is measured anew. */
  restart(): void {
    this.#connection?.restart();
  }

  /** Null while there is no connection. */
  look(): TcpView | null {
    return this.#connection?.look() ?? null;
  }

  write(head: Uint8Array, body: Uint8Array | null): void {
    const count = head.length + (body?.length ?? 0);
    this.#written_bytes += count;
    if (this.#connection === null) this.#unsent_bytes += count;
    this.#send(RecordKind.data, head, body);
  }

  /** A record of another kind, behind what was written. */
  control(kind: number, payload: Uint8Array): void {
    this.#send(kind, payload, null);
  }

  /** Drops what has not begun to leave, says the last words, ends the connection; what still comes in is thrown away. */
  end(lastWords: Uint8Array | null): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#waiting = [];
    this.#connection?.end(RecordKind.close, lastWords);
  }

  destroy(): void {
    this.#ending = true;
    this.#waiting = [];
    this.#connection?.destroy();
  }

  #send(kind: number, head: Uint8Array, body: Uint8Array | null): void {
    if (this.#ending) return;
    const connection = this.#connection;
    if (connection === null) {
      // The head's array is the writer's again after the call.
      this.#waiting.push({ kind, head: head.slice(), body });
      return;
    }
    if (connection.isGone) return;
    this.#unsent_bytes = connection.write(kind, head, body);
    this.#unflushed_bytes += HEAD_BYTES + head.length + (body?.length ?? 0);
    if (this.#unflushed_bytes >= FLUSH_BYTES) this.#flush();
    else this.#scheduleFlush();
  }

  /** At the end of this turn of the event loop's work, so that frames written together leave together. */
  #scheduleFlush(): void {
    if (this.#flushScheduled) return;
    this.#flushScheduled = true;
    process.nextTick(() => {
      this.#flushScheduled = false;
      if (this.#unflushed_bytes > 0) this.#flush();
    });
  }

  #flush(): void {
    this.#unflushed_bytes = 0;
    if (!this.#ending && this.#connection?.isGone === false) this.#connection.flush();
  }

  /** Hands over what has come, at most so much a turn that other lanes get theirs. */
  #pump(): void {
    const connection = this.#connection;
    for (let total = 0; this.#reading && !this.#ending && !this.#dead && connection?.isGone === false; ) {
      if (total >= READ_BYTES_PER_TURN) {
        setImmediate(() => this.#pump());
        return;
      }
      readBuffer ??= new Uint8Array(READ_BUFFER_BYTES);
      const count = connection.read(readBuffer);
      if (count === 0) return;
      if (count < 0) {
        this.#die(endError(connection.why(), this.#peer, true));
        return;
      }
      total += count;
      this.#receive(readBuffer, count);
    }
  }

  #closed(): void {
    this.#die(endError(this.#connection?.why() ?? null, this.#peer, true));
    this.#onClosed?.();
  }

  #die(error: SelvedgeError): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#owner.laneDead(this, error);
  }

  #receive(chunk: Uint8Array, length: number): void {
    this.received_bytes += length;
    let at = 0;
    while (at < length && !this.#ending) {
      if (this.#left_bytes === 0) {
        at = this.#receiveHead(chunk, at, length);
        continue;
      }
      const count = Math.min(this.#left_bytes, length - at);
      const bytes = this.#owner.keepsNothing || this.#control !== null ? chunk.subarray(at, at + count) : chunk.slice(at, at + count);
      at += count;
      this.#left_bytes -= count;
      if (this.#control === null) this.#owner.laneData(this, bytes);
      else this.#receiveControl(this.#control, bytes);
    }
  }

  #receiveHead(chunk: Uint8Array, at: number, length: number): number {
    // The usual head lies whole in what has come.
    if (this.#head_bytes === 0 && length - at >= HEAD_BYTES) {
      this.#headRead(chunk, at);
      return at + HEAD_BYTES;
    }
    const count = Math.min(HEAD_BYTES - this.#head_bytes, length - at);
    this.#head.set(chunk.subarray(at, at + count), this.#head_bytes);
    this.#head_bytes += count;
    if (this.#head_bytes === HEAD_BYTES) this.#headRead(this.#head, 0);
    return at + count;
  }

  #headRead(bytes: Uint8Array, at: number): void {
    this.#head_bytes = 0;
    this.#kind = bytes[at] ?? 0;
    this.#left_bytes = ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0);
    this.#control = null;
    if (this.#kind === RecordKind.data) return;
    // Only what carries frames may be large; the rest is gathered here, so its size is checked before.
    if (this.#left_bytes > CLOSE_BYTES_MAX) {
      this.#owner.laneRecord(this, RecordKind.oversized, nothing);
      return;
    }
    this.#control = new Uint8Array(this.#left_bytes);
    if (this.#left_bytes === 0) this.#owner.laneRecord(this, this.#kind, this.#control);
  }

  #receiveControl(control: Uint8Array, bytes: Uint8Array): void {
    control.set(bytes, control.length - this.#left_bytes - bytes.length);
    if (this.#left_bytes === 0) this.#owner.laneRecord(this, this.#kind, control);
  }
}
