/**
 * The sending half of a reliable flow: octets by offset. It keeps what the peer has not acknowledged as consumed, by reference and
 * within the credit that the peer gave, so that any of it can leave again over another session.
 *
 *   base ≤ next ≤ end,  next ≤ limit
 *   [base, next) sent and unacknowledged · [next, end) waiting
 */
import { assert, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

export interface Chunk {
  readonly offset: number;
  readonly bytes: Uint8Array;
  /** The flow's end comes with this chunk. */
  readonly fin: boolean;
}

export class SendHalf {
  /** Pieces as written, from `base` on; `#head` is the index of the first one still needed. */
  #pieces: Uint8Array[] = [];
  #head = 0;
  #headOffset = 0;
  /** Piece that holds `next`, and the offset of its first octet. */
  #cursor = 0;
  #cursorOffset = 0;
  #base = 0;
  #next = 0;
  #highest = 0;
  #end = 0;
  #limit: number = limits.flow_window_bytes_initial;
  #finished = false;
  #finSent = false;
  #finAcknowledged = false;

  get acknowledged(): number {
    return this.#base;
  }

  get waiting(): number {
    return this.#end - this.#next;
  }

  get unacknowledged(): number {
    return this.#next - this.#base;
  }

  get end(): number {
    return this.#end;
  }

  get isFinished(): boolean {
    return this.#finished;
  }

  /** Everything, and the end, was consumed by the peer. */
  get isDone(): boolean {
    return this.#finAcknowledged;
  }

  /** Whether `take` would give something. */
  get isReady(): boolean {
    return (this.#next < this.#end && this.#next < this.#limit) || (this.#finished && !this.#finSent && this.#next === this.#end);
  }

  /** Queues octets, all of them. False when the writer should wait: as much as may be waiting is waiting. */
  write(bytes: Uint8Array): boolean {
    assert(!this.#finished, 'write after end');
    if (bytes.length > 0) {
      this.#pieces.push(bytes);
      this.#end += bytes.length;
    }
    return this.wantsMore;
  }

  get wantsMore(): boolean {
    const pieces = this.#pieces.length - this.#head;
    return this.waiting + pieces * limits.queued_piece_bytes_overhead < limits.flow_send_queue_bytes_max;
  }

  finish(): void {
    this.#finished = true;
  }

  /** The next octets to leave, at most `max`, within one piece as it was written. Null when there is nothing, or no credit. */
  take(max: number): Chunk | null {
    if (!this.isReady) return null;
    const offset = this.#next;
    if (offset === this.#end) {
      this.#finSent = true;
      return { offset, bytes: new Uint8Array(0), fin: true };
    }
    const piece = this.#pieces[this.#cursor] as Uint8Array;
    const from = offset - this.#cursorOffset;
    const bytes = piece.subarray(from, from + Math.min(max, this.#limit - offset));
    this.#next += bytes.length;
    this.#highest = Math.max(this.#highest, this.#next);
    if (from + bytes.length === piece.length) {
      this.#cursor++;
      this.#cursorOffset += piece.length;
    }
    const fin = this.#finished && this.#next === this.#end;
    if (fin) this.#finSent = true;
    return { offset, bytes, fin };
  }

  /** What the peer's credit has beyond the initial window. */
  get windowExtra(): number {
    return Math.max(0, this.#limit - this.#base - limits.flow_window_bytes_initial);
  }

  /** `limit` equal to `consumed` says that the end was consumed. True if it told something new. `room`: what the channel can hold for windows beyond the initial one.
   *  @throws flow_violation when the peer acknowledges what was never sent */
  acknowledge(consumed: number, limit: number, room: () => number): boolean {
    if (consumed > this.#highest) throw new SelvedgeError('flow_violation', { why: `acknowledges ${consumed} of ${this.#highest} octets sent` });
    const endsNow = !this.#finAcknowledged && limit === consumed && this.#finished && consumed === this.#end;
    if (endsNow) this.#finAcknowledged = true;
    const isNews = endsNow || consumed > this.#base || limit > this.#limit;
    if (limit > this.#limit) this.#limit = Math.max(this.#limit, Math.min(limit, consumed + this.#windowMax(limit - consumed, room)));
    if (consumed > this.#base) {
      this.#base = consumed;
      if (this.#next < consumed) this.#seek(consumed);
      this.#release();
    }
    return isNews;
  }

  /** How much of the credit given is used: what has been sent is kept until it is acknowledged, and that takes memory here. */
  #windowMax(wanted: number, room: () => number): number {
    const initial = limits.flow_window_bytes_initial;
    if (wanted <= initial) return wanted;
    return Math.min(wanted, limits.flow_window_bytes_max, initial + this.windowExtra + Math.max(0, room()));
  }

  /** Sends again from `offset`, which the peer asked for: what it received before the session was lost. */
  rewind(offset: number): void {
    if (this.#finAcknowledged) return;
    if (offset < this.#base || offset > this.#highest)
      throw new SelvedgeError('flow_violation', { why: `resumes at ${offset}, held are ${this.#base} to ${this.#highest}` });
    this.#seek(offset);
    this.#finSent = false;
  }

  #seek(offset: number): void {
    this.#cursor = this.#head;
    this.#cursorOffset = this.#headOffset;
    while (this.#cursor < this.#pieces.length && this.#cursorOffset + (this.#pieces[this.#cursor] as Uint8Array).length <= offset) {
      this.#cursorOffset += (this.#pieces[this.#cursor] as Uint8Array).length;
      this.#cursor++;
    }
    this.#next = offset;
  }

  /** Lets go of the pieces before `base`; compacts the array once most of it is empty. */
  #release(): void {
    while (this.#head < this.#cursor) {
      const length = (this.#pieces[this.#head] as Uint8Array).length;
      if (this.#headOffset + length > this.#base) break;
      this.#headOffset += length;
      this.#pieces[this.#head] = EMPTY;
      this.#head++;
    }
    if (this.#head > 64 && this.#head * 2 > this.#pieces.length) {
      this.#pieces.splice(0, this.#head);
      this.#cursor -= this.#head;
      this.#head = 0;
    }
  }
}

const EMPTY = new Uint8Array(0);
