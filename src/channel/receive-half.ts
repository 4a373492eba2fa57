/**
 * The receiving half of a reliable flow. Octets come with their offset, possibly twice or ahead of others (while two sessions overlap);
 * they are read in order, once. What was read is consumed: it is the acknowledgement, and it earns the sender new credit.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

interface Segment {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export class ReceiveHalf {
  #queue: Uint8Array[] = [];
  #queueHead = 0;
  #received = 0;
  #consumed = 0;
  #limit: number = limits.flow_window_bytes_initial;
  #window: number = limits.flow_window_bytes_initial;
  #acknowledged = 0;
  #end: number | null = null;
  /** Ahead of `received`, by offset, not overlapping what is before them. */
  #ahead: Segment[] = [];
  #aheadBytes = 0;
  #windowSince = 0;
  #windowConsumed = 0;
  #endTold = false;

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

  get hasData(): boolean {
    return this.#queueHead < this.#queue.length;
  }

  /** Everything that the peer will ever send has been read. */
  get isDone(): boolean {
    return this.#end !== null && this.#consumed === this.#end;
  }

  /** True if something can now be read that could not be before. @throws flow_violation */
  push(offset: number, bytes: Uint8Array, fin: boolean): boolean {
    const upTo = offset + bytes.length;
    if (upTo > this.#limit) throw new SelvedgeError('flow_violation', { why: `octet ${upTo} sent, credit up to ${this.#limit}` });
    if (fin) this.#setEnd(upTo);
    if (this.#end !== null && upTo > this.#end) throw new SelvedgeError('flow_violation', { why: 'octets after the end' });
    if (offset > this.#received) {
      this.#keepAhead(offset, bytes);
      return false;
    }
    const before = this.#received;
    this.#append(offset, bytes);
    while (this.#ahead.length > 0 && (this.#ahead[0] as Segment).offset <= this.#received) {
      const segment = this.#ahead.shift() as Segment;
      this.#aheadBytes -= segment.bytes.length;
      this.#append(segment.offset, segment.bytes);
    }
    return this.#received > before || (this.#end !== null && this.#received === this.#end);
  }

  #setEnd(end: number): void {
    if ((this.#end !== null && this.#end !== end) || end < this.#received) throw new SelvedgeError('flow_violation', { why: 'the end moved' });
    this.#end = end;
  }

  #append(offset: number, bytes: Uint8Array): void {
    const known = this.#received - offset;
    if (known >= bytes.length) return;
    this.#queue.push(known > 0 ? bytes.subarray(known) : bytes);
    this.#received = offset + bytes.length;
  }

  #keepAhead(offset: number, bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    if (this.#ahead.length >= limits.flow_segments_out_of_order_max) throw new SelvedgeError('limit_reached', { limit: 'flow_segments_out_of_order_max', max: limits.flow_segments_out_of_order_max });
    this.#aheadBytes += bytes.length;
    if (this.#aheadBytes > limits.flow_window_bytes_max) throw new SelvedgeError('limit_reached', { limit: 'flow_window_bytes_max', max: limits.flow_window_bytes_max });
    let index = this.#ahead.length;
    while (index > 0 && (this.#ahead[index - 1] as Segment).offset > offset) index--;
    this.#ahead.splice(index, 0, { offset, bytes });
  }

  /** The next octets in order, or null. */
  read(): Uint8Array | null {
    if (!this.hasData) return null;
    const bytes = this.#queue[this.#queueHead] as Uint8Array;
    this.#queueHead++;
    if (this.#queueHead === this.#queue.length || this.#queueHead > 256) {
      this.#queue.splice(0, this.#queueHead);
      this.#queueHead = 0;
    }
    this.#consumed += bytes.length;
    return bytes;
  }

  /** Whether the peer should hear of what was consumed: a quarter of the window, or the end. */
  get owesAck(): boolean {
    return this.#consumed - this.#acknowledged >= this.#window / 4 || (this.isDone && !this.#endTold);
  }

  get hasUnacknowledged(): boolean {
    return this.#consumed > this.#acknowledged || (this.isDone && !this.#endTold);
  }

  /**
   * The acknowledgement to send now; its limit equals what was consumed when that is the end. The window follows the path: when a whole window was consumed within two round trips, the path could
   * carry more, and it doubles, up to its maximum.
   */
  acknowledge(now: number, rtt_ms: number): { consumed: number; limit: number } {
    if (this.#consumed - this.#windowConsumed >= this.#window) {
      if (now - this.#windowSince < 2 * rtt_ms + 4) this.#window = Math.min(this.#window * 2, limits.flow_window_bytes_max);
      this.#windowSince = now;
      this.#windowConsumed = this.#consumed;
    }
    this.#limit = Math.max(this.#limit, this.#consumed + this.#window);
    this.#acknowledged = this.#consumed;
    if (this.isDone) {
      this.#endTold = true;
      return { consumed: this.#consumed, limit: this.#consumed };
    }
    return { consumed: this.#consumed, limit: this.#limit };
  }
}
