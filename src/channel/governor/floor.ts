/**
 * The share that bulk keeps even where the queue is another's and stays: a part of the best that the path has carried lately, whatever stands in
 * its queue. Times in ms, rates in bytes per ms.
 */
import { SecondBuckets } from './filters.ts';
import type { PathEstimate } from './path.ts';

/** A twentieth arrives of what leaves so, beside one that fills the queue: some of it is lost. */
const PART = 0.06;
const PACKETS_PER_RTT = 2;
const BEST_SECONDS = 60;
/** Less of it than this arrives, for so long: it is too high for what the path has become. Then it is half of what does, so that the queue goes. */
const DELIVERED_PART = 0.92;
const LOWERED_PART = 0.5;
const STARVED_MS = 1_000;
const STARVED_ROUNDS = 3;

export class Floor {
  readonly #path: PathEstimate;
  readonly #packet_bytes: number;
  readonly #best = new SecondBuckets(BEST_SECONDS, Math.max);
  /** Since when it is all that leaves, and does not arrive. */
  #starved_since: number | null = null;

  constructor(path: PathEstimate, packet_bytes: number) {
    this.#path = path;
    this.#packet_bytes = packet_bytes;
  }

  get rate(): number {
    return Math.max(PART * (this.#best.value ?? 0), (PACKETS_PER_RTT * this.#packet_bytes) / this.#path.rtt_ms);
  }

  /** What the path is believed to carry. */
  add(now: number, capacity: number): void {
    this.#best.add(now, capacity);
  }

  /** Beside a flow that fills the queue all but a little of the floor arrives; on a path that has become slower than it, less, and then the queue is ours. */
  check(now: number, rate: number): void {
    const floor = this.rate;
    const delivered = this.#path.delivery?.rate ?? 0;
    if (rate > floor || delivered >= DELIVERED_PART * floor) this.#starved_since = null;
    else this.#starved_since ??= now;
    const bound_ms = Math.max(STARVED_MS, STARVED_ROUNDS * (this.#path.empty_rtt_ms + this.#path.span_ms));
    if (this.#starved_since === null || now - this.#starved_since < bound_ms) return;
    this.#starved_since = null;
    this.#best.reset((LOWERED_PART * delivered) / PART);
  }
}
