/** How often something may happen: `burst` times at once, and from then on `per_s` times a second, kept as the time by which all of it would be over (ITU-T I.371, generic cell rate algorithm). Times are milliseconds. */
export class Allowance {
  readonly #turn_ms: number;
  readonly #lead_ms: number;
  #busyUntil = Number.NEGATIVE_INFINITY;

  constructor(burst: number, per_s: number) {
    this.#turn_ms = 1_000 / per_s;
    this.#lead_ms = burst * this.#turn_ms;
  }

  /** Counts one more; false: it is one too many, and was not counted. */
  take(now: number): boolean {
    const until = Math.max(this.#busyUntil, now) + this.#turn_ms;
    if (until > now + this.#lead_ms) return false;
    this.#busyUntil = until;
    return true;
  }
}
