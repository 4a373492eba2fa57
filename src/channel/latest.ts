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

  /** The session is gone: a frame that had begun cannot be finished elsewhere. */
  sessionLost(): void {
    if (this.#current !== null) this.#dropped++;
    this.#current = null;
  }
}

export class LatestReceiver {
  #sequence = 0;
  #building: Uint8Array | null = null;
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
      this.#building = head.total === piece.length ? piece : new Uint8Array(head.total);
      this.#filled = 0;
    }
    if (this.#building === null || head.sequence !== this.#sequence || head.offset !== this.#filled || head.total !== this.#building.length || head.offset + piece.length > head.total) return false;
    if (this.#building !== piece) this.#building.set(piece, head.offset);
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
