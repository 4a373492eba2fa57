/** Exponential backoff with full jitter (spec 8.1): the n-th wait is uniform between 0 and min(cap, base × 2^n), so that many who lost one parent come back spread. */
import type { Random } from '../base/seam.ts';
import { limits } from '../base/limits.ts';

export class Backoff {
  readonly #random: Random;
  readonly #base_ms: number;
  readonly #max_ms: number;
  #attempts = 0;

  constructor(random: Random, base_ms: number = limits.backoff_ms_base, max_ms: number = limits.backoff_ms_max) {
    this.#random = random;
    this.#base_ms = base_ms;
    this.#max_ms = max_ms;
  }

  get attempts(): number {
    return this.#attempts;
  }

  /** Milliseconds to wait before the next attempt; `spread_ms`: the peer has so many to take back that they come over so long. */
  next(spread_ms = 0): number {
    const ceiling = Math.min(this.#max_ms, this.#base_ms * 2 ** Math.min(this.#attempts, 30));
    this.#attempts++;
    return this.#random.unit() * Math.max(ceiling, spread_ms);
  }

  /** After a success that lasted. */
  reset(): void {
    this.#attempts = 0;
  }
}
