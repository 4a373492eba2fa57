/** Stamps on the wire: microseconds of an end's own clock, 32 bits, wrapping after 71 minutes. Only differences mean anything. */

/** The stamp of a time in ms. */
export function stampOf(now: number): number {
  return (Math.floor(now * 1000) % 0x1_0000_0000) >>> 0;
}

/** `later - earlier` in µs, right as long as the two are less than 35 minutes apart; negative if they are the other way round. */
export function stampDifference(later: number, earlier: number): number {
  return (later - earlier) | 0;
}

/** A wrapping stamp, or a difference of two, followed over time as a number that does not wrap. The first value seen is zero. */
export class StampFollower {
  #last: number | null = null;
  #total_us = 0;

  /** In ms. */
  follow(stamp_us: number): number {
    if (this.#last !== null) this.#total_us += stampDifference(stamp_us, this.#last);
    this.#last = stamp_us;
    return this.#total_us / 1000;
  }
}
