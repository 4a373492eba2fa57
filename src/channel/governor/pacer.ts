/** Credit of bytes that grows with time. Little of it can be saved, so that a pause of the sender never becomes a burst. */

const SAVED_MS_MAX = 4;

export class Pacer {
  readonly #packet_bytes: number;
  #at: number;
  #credit: number;
  #unused = 0;

  constructor(now: number, packet_bytes: number) {
    this.#packet_bytes = packet_bytes;
    this.#at = now;
    this.#credit = packet_bytes;
  }

  /** Bytes that may leave; negative after a frame larger than the credit. `rate` in bytes per ms is what held since the last call. */
  credit(now: number, rate: number): number {
    if (now > this.#at) {
      const most = rate * SAVED_MS_MAX + 2 * this.#packet_bytes;
      const grown = this.#credit + rate * (now - this.#at);
      this.#credit = Math.min(most, grown);
      this.#unused += grown - this.#credit;
      this.#at = now;
    }
    return this.#credit;
  }

  /** Credit that was lost since the last call, because the sender paused or had nothing to send. */
  takeUnused(): number {
    const unused = this.#unused;
    this.#unused = 0;
    return unused;
  }

  spend(bytes: number): void {
    this.#credit -= bytes;
  }
}
