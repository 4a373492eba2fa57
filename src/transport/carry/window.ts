/**
 * How much of a carried path may be under way, so that what waits in the sender is a few tens of milliseconds of the path's rate: WireGuard, and what goes inside it,
 * copes with a lost packet better than with a late one. The window follows what the far end says that it has consumed:
 *
 *   window = rate × (shortest delay + the time for which an acknowledgement may wait + the queue that is allowed)
 *
 * The rate is the highest of the last second while the window was the limit. The shortest delay is found anew now and then by letting the queue run dry.
 * Pure: the time, in ms, comes with each call. Rates are octets per ms.
 */
import { limits } from '../../base/limits.ts';

const BUCKET_MS = 100;
const BUCKETS = 10;
const MARK_MS = 2;
const PERIOD_MS = 10_000;
const PROBE_PART = 4;

interface Mark {
  readonly end: number;
  readonly at_ms: number;
}

export class DelayWindow {
  #sent = 0;
  #acknowledged = 0;
  /** What had been handed over when. */
  #marks: Mark[] = [];
  readonly #rates: number[] = [];
  #base_ms = 0;
  #isBaseKnown = false;
  #periodMin_ms = Number.POSITIVE_INFINITY;
  #periodEnd_ms: number;
  #isPeriodLimited = false;
  #isProbing = false;
  #bucketStart_ms: number;
  #bucketStart = 0;
  #isBucketLimited = false;

  constructor(now_ms: number) {
    this.#bucketStart_ms = now_ms;
    this.#periodEnd_ms = now_ms + PERIOD_MS;
  }

  /** Octets that may be under way: whole ones, since whoever fills the last part of one would never be done. */
  get bytes(): number {
    const full = this.#rate * this.#reach_ms;
    const window = this.#rates.length === 0 ? limits.carry_window_bytes_initial : full;
    const most = Math.min(limits.carry_window_bytes_max, Math.max(limits.carry_window_bytes_min, window));
    return Math.floor(this.#isProbing ? Math.max(limits.carry_window_bytes_min, most / PROBE_PART) : most);
  }

  get underWay(): number {
    return this.#sent - this.#acknowledged;
  }

  get room(): number {
    return this.bytes - this.underWay;
  }

  /** Takes `bytes` of the window; false if there is no room. Where nothing is under way, there is room for one of any size. */
  take(now_ms: number, bytes: number): boolean {
    if (bytes > this.room && this.underWay > 0) {
      this.limited();
      return false;
    }
    this.#sent += bytes;
    const last = this.#marks.at(-1);
    if (last === undefined || now_ms - last.at_ms >= MARK_MS) this.#marks.push({ end: this.#sent, at_ms: now_ms });
    else this.#marks[this.#marks.length - 1] = { end: this.#sent, at_ms: last.at_ms };
    return true;
  }

  /** More would have been handed over, had there been room. */
  limited(): void {
    this.#isBucketLimited = true;
    this.#isPeriodLimited = true;
  }

  /** The far end has consumed `total` of what was taken. Call it before `take`, however often. */
  acknowledged(now_ms: number, total: number): void {
    if (total > this.#acknowledged) {
      this.#acknowledged = Math.min(total, this.#sent);
      this.#measure(now_ms);
    }
    if (now_ms - this.#bucketStart_ms >= BUCKET_MS) this.#endBucket(now_ms);
    if (now_ms >= this.#periodEnd_ms) this.#endPeriod(now_ms);
  }

  get #rate(): number {
    return Math.max(0, ...this.#rates);
  }

  get #reach_ms(): number {
    return this.#base_ms + limits.carry_acknowledge_ms + limits.carry_queue_ms;
  }

  #measure(now_ms: number): void {
    const count = this.#marks.findIndex(({ end }) => end > this.#acknowledged);
    const gone = this.#marks.splice(0, count < 0 ? this.#marks.length : count).at(-1);
    if (gone === undefined) return;
    const delay_ms = now_ms - gone.at_ms;
    this.#periodMin_ms = Math.min(this.#periodMin_ms, delay_ms);
    if (!this.#isBaseKnown || delay_ms < this.#base_ms) this.#base_ms = delay_ms;
    this.#isBaseKnown = true;
  }

  #endBucket(now_ms: number): void {
    const rate = (this.#acknowledged - this.#bucketStart) / (now_ms - this.#bucketStart_ms);
    // A sender with little to say says nothing about the path, and what the probe withholds neither.
    if (!this.#isProbing && (this.#isBucketLimited || rate > this.#rate)) {
      this.#rates.push(rate);
      if (this.#rates.length > BUCKETS) this.#rates.shift();
    }
    this.#bucketStart_ms = now_ms;
    this.#bucketStart = this.#acknowledged;
    this.#isBucketLimited = false;
  }

  /** A queue that was never empty would pass for a long path: then the window is small for a moment, and what is seen meanwhile counts. */
  #endPeriod(now_ms: number): void {
    const wasSeen = this.#periodMin_ms !== Number.POSITIVE_INFINITY;
    if (this.#isPeriodLimited && !this.#isProbing) {
      this.#isProbing = true;
      this.#periodEnd_ms = now_ms + Math.max(BUCKET_MS, 2 * this.#reach_ms);
    } else {
      if (wasSeen) this.#base_ms = this.#periodMin_ms;
      this.#isProbing = false;
      this.#periodEnd_ms = now_ms + PERIOD_MS;
    }
    this.#periodMin_ms = Number.POSITIVE_INFINITY;
    this.#isPeriodLimited = false;
  }
}
