/**
 * One TLS connection of a TCP session. Out: frames are gathered into records of up to `limits.tcp_batch_bytes_max`, one write to the
 * socket each, since node:tls pays by the write. In: the socket's own chunks without the record heads, not copied.
 *
 * A record is [u8 kind][u24 length] and its octets. Records of kind `data` are one pipe: where one ends means nothing.
 */
import type { TLSSocket } from 'node:tls';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { CLOSE_BYTES_MAX } from './reason.ts';
import { type TcpView, tcpLook, tcpPace } from '../native.ts';
import type { LaneName } from './session.ts';
import { remoteOf, tcpError } from './tcp-tls.ts';

/** `data`: octets of frames. `close`: last words (reason.ts). `want_bulk`: the acceptor asks the dialer to open the bulk lane. `finish`: no data follows on this lane. `oversized` is never sent: it stands for one too large to be gathered. */
export const RecordKind = { data: 0, close: 1, want_bulk: 2, finish: 3, oversized: -1 } as const;
const HEAD_BYTES = 4;
const SMALL_BATCH_BYTES = 2_048;
/** A keystroke's buffer is not worth the call that frees it. */
const RELEASED_BYTES_MIN = 4_096;

export interface LaneOwner {
  /** `laneData` keeps nothing of its array. */
  readonly keepsNothing: boolean;
  laneData(lane: Lane, bytes: Uint8Array): void;
  /** A whole record of a kind other than data; the owner refuses what it does not know. */
  laneRecord(lane: Lane, kind: number, payload: Uint8Array): void;
  /** The kernel took this many octets of frames. */
  laneSent(lane: Lane, bytes: number): void;
  /** The connection is gone. Told once. */
  laneDead(lane: Lane, error: SelvedgeError): void;
}

/** Octets on their way out, behind room for their record head. */
interface Batch {
  bytes: Buffer;
  length: number;
  readonly kind: number;
}

/** Buffers of full size wait here for the next busy moment of any lane: made anew each time, they cost more than what they carry. */
const spareBuffers: Buffer[] = [];

export class Lane {
  readonly name: LaneName;
  readonly #owner: LaneOwner;
  #socket: TLSSocket | null = null;
  #pace: number | null = null;
  /** Batches that take no more, oldest first, then the one being filled. */
  #sealed: Batch[] = [];
  #filling: Batch | null = null;
  #inWrite = false;
  #flushScheduled = false;
  #ending = false;
  #listening = false;
  #error: SelvedgeError | null = null;
  #dead = false;
  // The record being received.
  readonly #head = new Uint8Array(HEAD_BYTES);
  #head_bytes = 0;
  #kind: number = RecordKind.data;
  #left_bytes = 0;
  #control: Uint8Array | null = null;
  sent_bytes = 0;
  received_bytes = 0;

  constructor(name: LaneName, owner: LaneOwner) {
    this.name = name;
    this.#owner = owner;
  }

  get isAttached(): boolean {
    return this.#socket !== null;
  }

  get isOpen(): boolean {
    return this.#socket !== null && !this.#socket.closed;
  }

  onceClosed(action: () => void): void {
    this.#socket?.once('close', action);
  }

  /** The connection is there: what was gathered leaves. It is read only after `read()`. */
  attach(socket: TLSSocket): void {
    this.#socket = socket;
    socket.setNoDelay(true);
    if (this.#pace !== null) this.pace(this.#pace);
    const peer = remoteOf(socket);
    socket.on('error', (error) => {
      this.#error ??= tcpError(error, peer, true);
    });
    socket.on('end', () => {
      if (this.#ending) socket.destroy();
      this.#die(this.#error ?? new SelvedgeError('network_unreachable', { peer, why: 'connection ended without a word' }));
    });
    socket.on('close', () => this.#die(this.#error ?? new SelvedgeError('network_unreachable', { peer, why: 'connection lost' })));
    if (socket.destroyed) this.#die(new SelvedgeError('network_unreachable', { peer, why: 'connection lost' }));
    this.#scheduleFlush();
  }

  read(): void {
    const socket = this.#socket;
    if (socket === null || this.#listening) return;
    this.#listening = true;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.resume();
  }

  /** Octets a second at which the kernel lets this lane leave; null: no bound. */
  pace(rate_bytes_per_s: number | null): void {
    this.#pace = rate_bytes_per_s;
    const descriptor = this.#descriptor;
    if (descriptor !== null) tcpPace(descriptor, rate_bytes_per_s);
  }

  /** Null while there is no connection. */
  look(): TcpView | null {
    const descriptor = this.#descriptor;
    return descriptor === null ? null : tcpLook(descriptor);
  }

  /** Node has no name for it in its types; it is there while the connection is. */
  get #descriptor(): number | null {
    const socket: (TLSSocket & { readonly _handle?: { readonly fd?: number } | null }) | null = this.#socket;
    const descriptor = socket === null || socket.destroyed ? undefined : socket._handle?.fd;
    return descriptor === undefined || descriptor < 0 ? null : descriptor;
  }

  write(head: Uint8Array, body: Uint8Array | null): void {
    this.#append(head);
    if (body !== null) this.#append(body);
    if (this.#sealed.length > 0) this.#flush();
    else this.#scheduleFlush();
  }

  /** A record of another kind, behind what was written. */
  control(kind: number, payload: Uint8Array): void {
    this.#seal();
    const bytes = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
    bytes.set(payload, HEAD_BYTES);
    this.#sealed.push({ bytes, length: bytes.length, kind });
    this.#scheduleFlush();
  }

  /** Drops what has not begun to leave, says the last words, ends the connection; what still comes in is thrown away. */
  end(lastWords: Uint8Array | null): void {
    if (this.#ending) return;
    this.#ending = true;
    this.#sealed = [];
    this.#filling = null;
    const socket = this.#socket;
    if (socket === null || socket.destroyed) return;
    if (lastWords !== null) this.control(RecordKind.close, lastWords);
    this.#flush();
    this.read();
    socket.resume();
    if (!this.#inWrite) socket.end();
  }

  destroy(): void {
    this.#ending = true;
    this.#sealed = [];
    this.#filling = null;
    this.#socket?.destroy();
  }

  #die(error: SelvedgeError): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#owner.laneDead(this, error);
  }

  #append(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const batch = this.#roomFor(bytes.length - at);
      const count = Math.min(bytes.length - at, batch.bytes.length - batch.length);
      batch.bytes.set(at === 0 && count === bytes.length ? bytes : bytes.subarray(at, at + count), batch.length);
      batch.length += count;
      at += count;
    }
  }

  /** The batch to fill, with room for at least one more octet: a small one first, a full-sized one once it grows. */
  #roomFor(count: number): Batch {
    const filling = this.#filling;
    if (filling === null) {
      const bytes = count + HEAD_BYTES <= SMALL_BATCH_BYTES ? Buffer.allocUnsafe(SMALL_BATCH_BYTES) : takeBuffer();
      this.#filling = { bytes, length: HEAD_BYTES, kind: RecordKind.data };
      return this.#filling;
    }
    if (filling.bytes.length - filling.length >= count) return filling;
    if (filling.bytes.length < limits.tcp_batch_bytes_max) {
      const larger = takeBuffer();
      larger.set(filling.bytes.subarray(0, filling.length));
      filling.bytes = larger;
      return filling;
    }
    if (filling.length < filling.bytes.length) return filling;
    this.#seal();
    return this.#roomFor(count);
  }

  #seal(): void {
    if (this.#filling !== null) this.#sealed.push(this.#filling);
    this.#filling = null;
  }

  /** At the end of this turn of the event loop's work, so that frames written together leave together. */
  #scheduleFlush(): void {
    if (this.#flushScheduled || this.#inWrite) return;
    this.#flushScheduled = true;
    process.nextTick(() => {
      this.#flushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    const socket = this.#socket;
    if (this.#inWrite || socket === null || socket.destroyed) return;
    if (this.#sealed.length === 0) this.#seal();
    const batch = this.#sealed.shift();
    if (batch === undefined) return;
    const payload_bytes = batch.length - HEAD_BYTES;
    batch.bytes.writeUInt32BE(((batch.kind << 24) | payload_bytes) >>> 0, 0);
    this.#inWrite = true;
    socket.write(batch.length === batch.bytes.length ? batch.bytes : batch.bytes.subarray(0, batch.length), () => this.#written(batch, payload_bytes));
    // The preface waited for company.
    if (socket.writableCorked > 0) socket.uncork();
  }

  #written(batch: Batch, payload_bytes: number): void {
    this.#inWrite = false;
    giveBuffer(batch.bytes);
    this.#flush();
    if (this.#ending) {
      if (!this.#inWrite) this.#socket?.end();
      return;
    }
    if (batch.kind !== RecordKind.data) return;
    this.sent_bytes += payload_bytes;
    this.#owner.laneSent(this, payload_bytes);
  }

  #receive(chunk: Buffer): void {
    if (this.#ending) return;
    this.received_bytes += chunk.length;
    const isOver = this.#owner.keepsNothing;
    let at = 0;
    while (at < chunk.length && !this.#ending) {
      if (this.#left_bytes === 0) {
        at = this.#receiveHead(chunk, at);
        continue;
      }
      const count = Math.min(this.#left_bytes, chunk.length - at);
      const bytes = new Uint8Array(chunk.buffer, chunk.byteOffset + at, count);
      at += count;
      this.#left_bytes -= count;
      if (this.#control === null) this.#owner.laneData(this, bytes);
      else this.#receiveControl(this.#control, bytes);
    }
    // Each chunk is a buffer of its own. Given back here, it is the next one's; left to the collector, it is a collection every 2,000 chunks.
    if (isOver && chunk.length >= RELEASED_BYTES_MIN && chunk.buffer.byteLength === chunk.length) (chunk.buffer as ArrayBuffer).transfer(0);
  }

  #receiveHead(chunk: Buffer, at: number): number {
    const count = Math.min(HEAD_BYTES - this.#head_bytes, chunk.length - at);
    this.#head.set(chunk.subarray(at, at + count), this.#head_bytes);
    this.#head_bytes += count;
    if (this.#head_bytes === HEAD_BYTES) this.#headRead();
    return at + count;
  }

  #headRead(): void {
    const [kind = 0, high = 0, middle = 0, low = 0] = this.#head;
    this.#head_bytes = 0;
    this.#kind = kind;
    this.#left_bytes = (high << 16) | (middle << 8) | low;
    this.#control = null;
    if (kind === RecordKind.data) return;
    // Only what carries frames may be large; the rest is gathered here, so its size is checked before.
    if (this.#left_bytes > CLOSE_BYTES_MAX) {
      this.#owner.laneRecord(this, RecordKind.oversized, new Uint8Array(0));
      return;
    }
    this.#control = new Uint8Array(this.#left_bytes);
    if (this.#left_bytes === 0) this.#owner.laneRecord(this, kind, this.#control);
  }

  #receiveControl(control: Uint8Array, bytes: Uint8Array): void {
    control.set(bytes, control.length - this.#left_bytes - bytes.length);
    if (this.#left_bytes === 0) this.#owner.laneRecord(this, this.#kind, control);
  }
}

function takeBuffer(): Buffer {
  return spareBuffers.pop() ?? Buffer.allocUnsafeSlow(limits.tcp_batch_bytes_max);
}

function giveBuffer(buffer: Buffer): void {
  if (buffer.length === limits.tcp_batch_bytes_max && spareBuffers.length < limits.tcp_batch_buffers_kept_max) spareBuffers.push(buffer);
}
