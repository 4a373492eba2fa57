/**
 * A delay signal (round trip, or one way with an unknown offset): its recent minimum, which is free of jitter, its base, which is
 * the path when nothing stands in it, and the difference of the two, which is the queue. Times in ms.
 */
import { SecondBuckets, SlidingMinimum } from './filters.ts';

const RECENT_SPAN_MS = 30;
/** Short enough to notice a queue soon, too short to be sure of it. */
const FAST_SPAN_MS = 11;
const BASE_SECONDS = 15;

export class DelayTrack {
  readonly #recent = new SlidingMinimum();
  readonly #fast = new SlidingMinimum();
  readonly #base = new SecondBuckets(BASE_SECONDS, Math.min);

  /** A base known from before. */
  seed(now: number, base_ms: number): void {
    this.#base.add(now, base_ms);
  }

  add(now: number, delay_ms: number): void {
    this.#recent.push(now, delay_ms, RECENT_SPAN_MS);
    this.#fast.push(now, delay_ms, FAST_SPAN_MS);
    this.#base.add(now, delay_ms);
  }

  /** What is seen now is the path itself. */
  rebase(): void {
    const recent = this.#recent.value;
    if (recent !== null) this.#base.reset(recent);
  }

  /** Smallest of the last 30 ms; null before the first sample. */
  get recent_ms(): number | null {
    return this.#recent.value;
  }

  get base_ms(): number | null {
    return this.#base.value;
  }

  get queue_ms(): number | null {
    return this.#above(this.#recent.value);
  }

  /** The queue as the last few samples see it: sooner, and noisier. */
  get fast_queue_ms(): number | null {
    return this.#above(this.#fast.value);
  }

  #above(delay_ms: number | null): number | null {
    const base = this.#base.value;
    return delay_ms === null || base === null ? null : delay_ms - base;
  }
}

/** The smaller of two where both exist: each signal errs upwards only, for a reason that the other does not have. */
export function smallerOf(left: number | null, right: number | null): number | null {
  if (left === null) return right;
  return right === null ? left : Math.min(left, right);
}
