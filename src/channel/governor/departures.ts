/**
 * When bulk left, where the session paces what was handed over before: what has left is looked at every few milliseconds. So the one-way
 * delay is measured from the wire, not from the hand-over. Times in ms.
 */

/** Looks that are remembered: a second and more, at the rate of looks. */
const LOOKS_MAX = 1_024;
/** Looks so far apart say nothing of what left between them. */
const APART_MS_MAX = 20;

export class Departures {
  readonly #times: number[] = [];
  readonly #left: number[] = [];
  #head = 0;

  /** By now so many bytes have left in all. */
  push(now: number, left_bytes: number): void {
    const last = this.#left.length - 1;
    if (last >= this.#head && left_bytes < (this.#left[last] as number)) return;
    this.#times.push(now);
    this.#left.push(left_bytes);
    if (this.#left.length - this.#head > LOOKS_MAX) this.#head++;
    if (this.#head <= LOOKS_MAX) return;
    this.#times.splice(0, this.#head);
    this.#left.splice(0, this.#head);
    this.#head = 0;
  }

  /**
   * The last moment at which so many bytes had not left, looks being a millisecond or two apart; null if it is not known. Never too late: a
   * delay that is too large is forgotten with the next minimum, one that is too small would stand as the base for seconds. Ask in order.
   */
  take(bytes: number): number | null {
    while (this.#head < this.#left.length && (this.#left[this.#head] as number) < bytes) this.#head++;
    if (this.#head === 0 || this.#head >= this.#left.length) return null;
    const before = this.#head - 1;
    const [from, to] = [this.#times[before] as number, this.#times[this.#head] as number];
    return to - from > APART_MS_MAX ? null : from;
  }
}
