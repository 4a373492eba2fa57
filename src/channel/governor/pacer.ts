/**
 * How much may be handed over now, at a rate. Where nothing below paces, credit of bytes grows with time and little of it can be saved, so
 * that a pause of the sender never becomes a burst. Where the session paces by itself, the credit runs *ahead* of the rate by some time:
 * what was handed over early waits below, in order, and the line stays busy while the sender's event loop pauses.
 */

/** Without a lead. */
const SAVED_MS_MAX = 4;
const PACKETS_MIN = 2;
/** With a lead, it is filled up in parts of this size: the fewer, the less work. */
const REFILL_PART = 0.25;

export class Pacer {
  readonly #packet_bytes: number;
  readonly #lead_ms: number;
  #at: number;
  /** Bytes handed over that have not left at the rate; negative: credit. */
  #ahead: number;
  #unused = 0;

  constructor(now: number, packet_bytes: number, lead_ms = 0) {
    this.#packet_bytes = packet_bytes;
    this.#lead_ms = lead_ms;
    this.#at = now;
    this.#ahead = -packet_bytes;
  }

  /** Bytes that may be handed over; negative after a frame larger than the credit. `rate` in bytes per ms is what held since the last call. */
  credit(now: number, rate: number): number {
    if (now > this.#at) {
      const least = -(PACKETS_MIN * this.#packet_bytes) - (this.#lead_ms > 0 ? 0 : rate * SAVED_MS_MAX);
      const ahead = this.#ahead - rate * (now - this.#at);
      this.#ahead = Math.max(least, ahead);
      this.#unused += this.#ahead - ahead;
      this.#at = now;
    }
    return this.#lead(rate) - this.#ahead;
  }

  /** Less credit than this is not worth a turn. */
  least(rate: number): number {
    return Math.max(this.#packet_bytes, this.#lead(rate) * REFILL_PART);
  }

  /** What does wait below, by the session's own count. */
  measured(bytes: number): void {
    if (this.#lead_ms > 0) this.#ahead = Math.max(bytes, Math.min(this.#ahead, 0));
  }

  /** Credit that was lost since the last call, because the sender paused or had nothing to send. */
  takeUnused(): number {
    const unused = this.#unused;
    this.#unused = 0;
    return unused;
  }

  spend(bytes: number): void {
    this.#ahead += bytes;
  }

  #lead(rate: number): number {
    return this.#lead_ms > 0 ? Math.max(rate * this.#lead_ms, PACKETS_MIN * this.#packet_bytes) : 0;
  }
}
