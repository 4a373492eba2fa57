/**
 * How much of a carried path may be under way, so that what waits in the sender is a few tens of milliseconds of the path's rate: WireGuard, and what goes inside it,
 * copes with a lost packet better than with a late one. The window follows what the far end says that it has consumed:
 *
 *   window = rate × (shortest delay + the time for which an acknowledgement may wait + the queue that is allowed)
 *
 * The rate is the highest that was seen lately while the window was the limit, each sample over the time that octets were under way: what a sender leaves unused says
 * nothing. The shortest delay is found anew now and then by letting the queue run dry. At the start, while the rate still grows from round trip to round trip, the window is some
 * round trips wide: a TCP inside that doubles loses nothing, or it would take what it has for all there is. Pure: the time, in ms, comes with each call. Rates are octets per ms.
 */
import { limits } from '../../base/limits.ts';

/** Samples of so long count as one, and of so many the highest counts. */
const BUCKET_MS = 100;
const BUCKETS = 10;
const MARK_MS = 2;
const PERIOD_MS = 10_000;
const PROBE_PART = 4;
/** The start: round trips that the window is wide; and it is over after so many of them that were full and brought no such growth. */
const START_ROUNDS = 8;
const START_GROWTH = 1.25;
const START_FULL_ROUNDS = 5;

/** Octets that were handed over within `MARK_MS`, and how things were then. */
interface Mark {
  end: number;
  readonly at_ms: number;
  readonly acknowledged: number;
  readonly acknowledgedAt_ms: number;
  /** More would have been handed over. */
  isFull: boolean;
}

export class DelayWindow {
  #sent = 0;
  #acknowledged = 0;
  #acknowledgedAt_ms: number;
  #marks: Mark[] = [];
  /** The highest of each bucket in which the window was the limit, oldest first. */
  #rates: number[] = [];
  #rate = 0;
  #bucketRate = 0;
  #bucketEnd_ms: number;
  #base_ms = Number.POSITIVE_INFINITY;
  #periodMin_ms = Number.POSITIVE_INFINITY;
  #periodEnd_ms: number;
  #isPeriodFull = false;
  #isProbing = false;
  #isStarting = true;
  #startRate = 0;
  #fullRounds = 0;
  #isRoundFull = false;
  #roundEnd_ms = 0;

  constructor(now_ms: number) {
    this.#acknowledgedAt_ms = now_ms;
    this.#bucketEnd_ms = now_ms + BUCKET_MS;
    this.#periodEnd_ms = now_ms + PERIOD_MS;
  }

  /** Octets that may be under way: whole ones, since whoever fills the last part of one would never be done. */
  get bytes(): number {
    const { carry_window_bytes_initial, carry_window_bytes_min, carry_window_bytes_max } = limits;
    const window = Math.max(this.#isStarting ? carry_window_bytes_initial : 0, this.#rate * this.#reach_ms);
    const most = Math.min(carry_window_bytes_max, Math.max(carry_window_bytes_min, window));
    return Math.floor(this.#isProbing ? Math.max(carry_window_bytes_min, most / PROBE_PART) : most);
  }

  get underWay(): number {
    return this.#sent - this.#acknowledged;
  }

  get room(): number {
    return this.bytes - this.underWay;
  }

  /** Takes `bytes` of the window; false if there is no room. Where nothing is under way, there is room for one of any size. */
  take(now_ms: number, bytes: number): boolean {
    if (this.underWay === 0) this.#acknowledgedAt_ms = now_ms;
    else if (bytes > this.room) {
      this.limited();
      return false;
    }
    this.#sent += bytes;
    const last = this.#marks.at(-1);
    if (last !== undefined && now_ms - last.at_ms < MARK_MS) last.end = this.#sent;
    else {
      const acknowledged = this.#acknowledged;
      const acknowledgedAt_ms = this.#acknowledgedAt_ms;
      this.#marks.push({ end: this.#sent, at_ms: now_ms, acknowledged, acknowledgedAt_ms, isFull: false });
    }
    return true;
  }

  /** More would have been handed over, had there been room. */
  limited(): void {
    const last = this.#marks.at(-1);
    if (last !== undefined) last.isFull = true;
    this.#isPeriodFull = true;
    this.#isRoundFull = true;
  }

  /** The far end has consumed `total` of what was taken. Call it before `take`, however often. */
  acknowledged(now_ms: number, total: number): void {
    if (total > this.#acknowledged && this.underWay > 0) {
      this.#acknowledged = Math.min(total, this.#sent);
      this.#acknowledgedAt_ms = now_ms;
      this.#measure(now_ms);
    }
    if (now_ms >= this.#periodEnd_ms) this.#endPeriod(now_ms);
  }

  get #reach_ms(): number {
    if (this.#base_ms === Number.POSITIVE_INFINITY) return 0;
    const reach_ms = this.#base_ms + limits.carry_acknowledge_ms + limits.carry_queue_ms;
    return this.#isStarting ? Math.max(reach_ms, START_ROUNDS * this.#base_ms) : reach_ms;
  }

  #measure(now_ms: number): void {
    const count = this.#marks.findIndex(({ end }) => end > this.#acknowledged);
    const gone = this.#marks.splice(0, count < 0 ? this.#marks.length : count);
    const last = gone.at(-1);
    if (last === undefined) return;
    const delay_ms = now_ms - last.at_ms;
    this.#periodMin_ms = Math.min(this.#periodMin_ms, delay_ms);
    this.#base_ms = Math.min(this.#base_ms, delay_ms);
    // Acknowledgements come in lumps: from lump to lump is the time that counts.
    const over_ms = Math.max(1, now_ms - Math.min(last.at_ms, last.acknowledgedAt_ms));
    if (this.#isStarting) this.#start(now_ms);
    this.#sample(
      now_ms,
      (this.#acknowledged - last.acknowledged) / over_ms,
      gone.some(({ isFull }) => isFull),
    );
  }

  #start(now_ms: number): void {
    if (now_ms < this.#roundEnd_ms) return;
    const hasGrown = this.#rate >= START_GROWTH * this.#startRate;
    if (hasGrown) {
      this.#startRate = this.#rate;
      this.#fullRounds = 0;
    } else if (this.#isRoundFull) this.#fullRounds++;
    this.#isStarting = this.#fullRounds < START_FULL_ROUNDS;
    this.#isRoundFull = false;
    this.#roundEnd_ms = now_ms + this.#base_ms + limits.carry_acknowledge_ms;
  }

  #sample(now_ms: number, rate: number, isFull: boolean): void {
    if (rate > this.#rate) this.#rate = rate;
    // A sender with little to say says nothing about the path, and what the probe withholds neither.
    if ((!isFull && rate < this.#rate) || this.#isProbing) return;
    this.#bucketRate = Math.max(this.#bucketRate, rate);
    if (now_ms < this.#bucketEnd_ms) return;
    this.#rates = [...this.#rates, this.#bucketRate].slice(-BUCKETS);
    this.#rate = Math.max(...this.#rates);
    this.#bucketRate = 0;
    this.#bucketEnd_ms = now_ms + BUCKET_MS;
  }

  /** A queue that was never empty would pass for a long path: then the window is small for a moment, and what is seen meanwhile counts. */
  #endPeriod(now_ms: number): void {
    if (this.#isPeriodFull && !this.#isProbing) {
      this.#isProbing = true;
      this.#periodEnd_ms = now_ms + Math.max(BUCKET_MS, 2 * this.#reach_ms);
    } else {
      if (this.#periodMin_ms !== Number.POSITIVE_INFINITY) this.#base_ms = this.#periodMin_ms;
      this.#isProbing = false;
      this.#periodEnd_ms = now_ms + PERIOD_MS;
    }
    this.#periodMin_ms = Number.POSITIVE_INFINITY;
    this.#isPeriodFull = false;
  }
}
