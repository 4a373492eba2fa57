/**
 * The receiving half of a reliable flow. Octets come with their offset, possibly twice or ahead of others (while two sessions overlap);
 * they are read in order, once. What was read is consumed: it is the acknowledgement, and it earns the sender new credit.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { ByteQueue } from './byte-queue.ts';

/** Pieces ahead of their turn that are smaller than this and follow each other share one buffer. */
const SMALL_PIECE_BYTES = 4 * 1024;
/** From here on a path is long, and windows grow where they were consumed within so many round trips: windows with a lost packet in them do too. */
const LONG_RTT_MS = 20;
const LONG_ROUNDS = 3.5;
/** A window that begins wide takes no more than this part of what the channel has left for windows: some is left for whoever comes later. */
const WIDE_PART = 1 / 4;
const WIDE_ROUNDS = 2;

export class ReceiveHalf {
  /** What the first acknowledgement makes of the window at most, if the path is long and the channel has the room. */
  readonly #windowWanted: number;
  readonly #acknowledgeBytesMax: number;
  readonly #queue = new ByteQueue();
  #received = 0;
  #consumed = 0;
  #limit: number = limits.flow_window_bytes_initial;
  #window: number = limits.flow_window_bytes_initial;
  #acknowledged = 0;
  #end: number | null = null;
  /** Ahead of `received`, by offset; they neither touch the queue nor overlap each other. */
  readonly #ahead = new PieceList();
  /** No octet at or behind this offset has come. */
  #highest = 0;
  #isWidened = false;
  #windowSince = 0;
  #windowConsumed = 0;
  #endTold = false;
  #mustTell = false;

  constructor(windowWanted: number = limits.flow_window_bytes_initial) {
    this.#windowWanted = windowWanted;
    this.#acknowledgeBytesMax = windowWanted > limits.flow_window_bytes_initial ? limits.flow_window_bytes_initial / 2 : Number.POSITIVE_INFINITY;
  }

  /** The next offset that is missing: what a new session resumes at. */
  get received(): number {
    return this.#received;
  }

  get consumed(): number {
    return this.#consumed;
  }

  get limit(): number {
    return this.#limit;
  }

  get buffered(): number {
    return this.#received - this.#consumed;
  }

  /** What the window has beyond the initial one. */
  get windowExtra(): number {
    return this.#window - limits.flow_window_bytes_initial;
  }

  get hasData(): boolean {
    return this.#queue.length > 0;
  }

  /** Everything that the peer will ever send has been read. */
  get isDone(): boolean {
    return this.#end !== null && this.#consumed === this.#end;
  }

  /** True if something can now be read that could not be before. Keeps nothing of the array. @throws flow_violation */
  push(offset: number, bytes: Uint8Array, fin: boolean): boolean {
    const upTo = offset + bytes.length;
    if (upTo > this.#limit) throw new SelvedgeError('flow_violation', { why: `octet ${upTo} sent, credit up to ${this.#limit}` });
    this.#highest = Math.max(this.#highest, upTo);
    if (fin) this.#setEnd(upTo);
    if (this.#end !== null && this.#highest > this.#end) throw new SelvedgeError('flow_violation', { why: 'octets after the end' });
    if (offset > this.#received) {
      this.#keepAhead(offset, bytes);
      return false;
    }
    const before = this.#received;
    this.#append(offset, bytes);
    this.#takeAhead();
    return this.#received > before || (this.#end !== null && this.#received === this.#end);
  }

  #setEnd(end: number): void {
    if (this.#end !== null && this.#end !== end) throw new SelvedgeError('flow_violation', { why: 'the end moved' });
    this.#end = end;
  }

  #append(offset: number, bytes: Uint8Array): void {
    const known = this.#received - offset;
    if (known >= bytes.length) return;
    this.#queue.push(known > 0 ? bytes.subarray(known) : bytes);
    this.#received = offset + bytes.length;
  }

  #takeAhead(): void {
    let count = 0;
    while (count < this.#ahead.length && this.#ahead.startOf(count) <= this.#received) {
      this.#append(this.#ahead.startOf(count), this.#ahead.bytesOf(count));
      count++;
    }
    if (count > 0) this.#ahead.removeFirst(count);
  }

  /** Keeps what of the octets is not there yet, in the gaps between what is. */
  #keepAhead(offset: number, bytes: Uint8Array): void {
    const upTo = offset + bytes.length;
    let index = this.#ahead.indexBehind(offset);
    for (let at = offset; at < upTo; ) {
      const start = index < this.#ahead.length ? this.#ahead.startOf(index) : upTo;
      if (start > at) {
        const end = Math.min(start, upTo);
        if (this.#ahead.insert(index, at, bytes.subarray(at - offset, end - offset))) index++;
        at = end;
      } else {
        at = Math.max(at, start + this.#ahead.bytesOf(index).length);
        index++;
      }
    }
    if (this.#ahead.length <= limits.flow_segments_out_of_order_max) return;
    throw new SelvedgeError('limit_reached', { limit: 'flow_segments_out_of_order_max', max: limits.flow_segments_out_of_order_max });
  }

  /** The next octets in order, the reader's to keep; or null. */
  read(): Uint8Array | null {
    const bytes = this.#queue.take();
    if (bytes !== null) this.#consumed += bytes.length;
    return bytes;
  }

  /** Copies the next octets in order into `into`; how many. */
  readInto(into: Uint8Array): number {
    const count = this.#queue.takeInto(into);
    this.#consumed += count;
    return count;
  }

  /** Whether the peer should hear of what was consumed: a quarter of the window, or the end. Where its sender is the bound, no later than in a narrow one: until it hears, it holds the memory. */
  get owesAck(): boolean {
    return this.#consumed - this.#acknowledged >= Math.min(this.#window / 4, this.#acknowledgeBytesMax) || (this.isDone && !this.#endTold);
  }

  get hasUnacknowledged(): boolean {
    return this.#consumed > this.#acknowledged || this.#mustTell || (this.isDone && !this.#endTold);
  }

  /** The last acknowledgement may have been lost: it is to be told again. False if there was none. */
  retell(): boolean {
    if (this.#consumed === 0 && !this.isDone) return false;
    this.#mustTell = true;
    return true;
  }

  /**
   * The acknowledgement to send now; its limit equals what was consumed when that is the end. The window follows the path: when a whole window was consumed within two round trips, the path could
   * carry more, and it doubles, up to its maximum and to what `room` the channel has for larger windows. On a long path a lost packet holds back what is behind it for one or two more.
   */
  acknowledge(now: number, rtt_ms: number, room: () => number): { consumed: number; limit: number } {
    if (!this.#isWidened && rtt_ms > 0) this.#widen(rtt_ms, room);
    if (this.#consumed - this.#windowConsumed >= this.#window) {
      const rounds = rtt_ms < LONG_RTT_MS ? 2 : LONG_ROUNDS;
      const isFull = now - this.#windowSince < rounds * rtt_ms + 4 && this.#window < limits.flow_window_bytes_max;
      if (isFull && room() >= this.#window) this.#window = Math.min(this.#window * 2, limits.flow_window_bytes_max);
      this.#windowSince = now;
      this.#windowConsumed = this.#consumed;
    }
    this.#limit = Math.max(this.#limit, this.#consumed + this.#window);
    this.#acknowledged = this.#consumed;
    this.#mustTell = false;
    if (this.isDone) {
      this.#endTold = true;
      return { consumed: this.#consumed, limit: this.#consumed };
    }
    return { consumed: this.#consumed, limit: this.#limit };
  }

  /** As much as a fast path of such a round trip has under way, twice: a lost segment holds back what is behind it for another round trip. On a short path, less stays in the caches. */
  #widen(rtt_ms: number, room: () => number): void {
    this.#isWidened = true;
    const wanted = Math.min(this.#windowWanted, WIDE_ROUNDS * limits.flow_wide_bytes_per_ms * rtt_ms);
    const extra = Math.min(wanted - this.#window, room() * WIDE_PART);
    if (extra > 0) this.#window += Math.floor(extra);
  }
}

/** Copies of pieces of a flow by offset, in order. Small ones that follow each other closely share one buffer. */
class PieceList {
  #starts: number[] = [];
  #pieces: Uint8Array[] = [];
  /** Whether the last piece lies in a buffer with room behind it. */
  #hasRoom = false;

  get length(): number {
    return this.#pieces.length;
  }

  startOf(index: number): number {
    return this.#starts[index] as number;
  }

  bytesOf(index: number): Uint8Array {
    return this.#pieces[index] as Uint8Array;
  }

  /** Index of the first piece that ends behind `offset`. */
  indexBehind(offset: number): number {
    let low = 0;
    let high = this.#pieces.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.startOf(middle) + this.bytesOf(middle).length > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  /** True if it became a piece of its own; false if the last one took it in. */
  insert(index: number, start: number, bytes: Uint8Array): boolean {
    const isLast = index === this.#pieces.length;
    if (isLast && this.#join(start, bytes)) return false;
    const piece = bytes.slice();
    if (isLast) {
      this.#starts.push(start);
      this.#pieces.push(piece);
      this.#hasRoom = false;
    } else {
      this.#starts.splice(index, 0, start);
      this.#pieces.splice(index, 0, piece);
    }
    return true;
  }

  #join(start: number, bytes: Uint8Array): boolean {
    const index = this.#pieces.length - 1;
    const last = this.#pieces[index];
    if (last === undefined || last.length + bytes.length > 2 * SMALL_PIECE_BYTES || this.startOf(index) + last.length !== start) return false;
    const buffer = this.#hasRoom ? new Uint8Array(last.buffer) : new Uint8Array(2 * SMALL_PIECE_BYTES);
    if (!this.#hasRoom) buffer.set(last);
    buffer.set(bytes, last.length);
    this.#pieces[index] = buffer.subarray(0, last.length + bytes.length);
    this.#hasRoom = true;
    return true;
  }

  removeFirst(count: number): void {
    if (count === this.#pieces.length) {
      this.#starts.length = 0;
      this.#pieces.length = 0;
      return;
    }
    this.#starts.splice(0, count);
    this.#pieces.splice(0, count);
  }
}
