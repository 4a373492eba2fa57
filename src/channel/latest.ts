/**
 * A flow of kind `latest` (spec 5.5): the newest frame wins. The sender holds at most the frame that has begun to leave and the newest one
 * behind it; a stale frame that has not begun is dropped and counted. The receiver holds the newest whole frame. Nothing is sent again.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { LatestHead } from './frames.ts';

export class LatestSender {
  #current: Uint8Array | null = null;
  #offset = 0;
  #next: Uint8Array | null = null;
  #sequence = 0;
  #dropped = 0;

  get isReady(): boolean {
    return this.#current !== null || this.#next !== null;
  }

  get dropped(): number {
    return this.#dropped;
  }

  send(frame: Uint8Array): void {
    if (frame.length > limits.latest_frame_bytes_max) throw new SelvedgeError('frame_too_large', { found: frame.length, max: limits.latest_frame_bytes_max });
    if (this.#next !== null) this.#dropped++;
    this.#next = frame;
  }

  take(max: number): { head: Omit<LatestHead, 'flow'>; bytes: Uint8Array } | null {
    if (this.#current === null) {
      if (this.#next === null) return null;
      this.#current = this.#next;
      this.#next = null;
      this.#offset = 0;
      this.#sequence++;
    }
    const frame = this.#current;
    const offset = this.#offset;
    const bytes = frame.subarray(offset, offset + max);
    this.#offset += bytes.length;
    if (this.#offset === frame.length) this.#current = null;
    return { head: { sequence: this.#sequence, total: frame.length, offset }, bytes };
  }

  /** The session is gone or replaced: a frame that had begun cannot be finished elsewhere. It begins anew, unless a newer one waits. */
  sessionReplaced(): void {
    if (this.#current === null) return;
    if (this.#next === null) this.#next = this.#current;
    else this.#dropped++;
    this.#current = null;
  }
}

export class LatestReceiver {
  #sequence = 0;
  /** The frame that is arriving: it grows with what has come, whatever total is claimed, and keeps none of the buffers that it came in. */
  #building: Uint8Array | null = null;
  #total = 0;
  #filled = 0;
  #newest: Uint8Array | null = null;
  #dropped = 0;

  get dropped(): number {
    return this.#dropped;
  }

  get hasFrame(): boolean {
    return this.#newest !== null;
  }

  /** True when a frame has become whole. Pieces of a frame come in order; any other piece is of a frame that was given up. */
  push(head: LatestHead, piece: Uint8Array): boolean {
    if (head.offset === 0 && head.sequence > this.#sequence) {
      this.#sequence = head.sequence;
      this.#building = EMPTY;
      this.#total = head.total;
      this.#filled = 0;
    }
    if (
      this.#building === null ||
      head.sequence !== this.#sequence ||
      head.offset !== this.#filled ||
      head.total !== this.#total ||
      head.offset + piece.length > head.total
    )
      return false;
    this.#building = fits(this.#building, this.#filled + piece.length, head.total);
    this.#building.set(piece, this.#filled);
    this.#filled += piece.length;
    if (this.#filled < head.total) return false;
    if (this.#newest !== null) this.#dropped++;
    this.#newest = this.#building;
    this.#building = null;
    return true;
  }

  read(): Uint8Array | null {
    const frame = this.#newest;
    this.#newest = null;
    return frame;
  }
}

const EMPTY = new Uint8Array(0);

/** `bytes` itself, or its content in the front of a larger array: twice as large, as far as `total` needs it. */
function fits(bytes: Uint8Array, need: number, total: number): Uint8Array {
  if (need <= bytes.length) return bytes;
  const larger = new Uint8Array(Math.min(total, Math.max(need, 2 * bytes.length)));
  larger.set(bytes);
  return larger;
}
