/**
 * What a sender knows of its path, from two witnesses: the receiver's reports, and, where the transport has one, its own view packet
 * by packet. Each errs for a reason that the other does not have; here they become one delay, one queue and one delivery rate.
 * Measures only: it decides nothing. Times in ms, rates in bytes per ms.
 */
import { DelayTrack, smallerOf } from './delay.ts';
import { type Delivery, DeliveryRate, slowerOf } from './delivery.ts';
import { PastTotal, SlidingMinimum } from './filters.ts';
import type { BulkReport } from './receiver.ts';
import { StampFollower, stampDifference, stampOf } from './stamp.ts';

/** The transport's own view, packet by packet, of what happened since its last look (`Session.sample`). */
export interface PathView {
  readonly rtt_min_ms: number | null;
  readonly rtt_latest_ms: number | null;
  readonly acked_bytes: number;
  readonly lost_bytes: number;
  readonly sent_bytes: number;
  /** Bulk that was handed over and has not left, since the session paces it. */
  readonly held_back_bytes: number;
}

const RTT_MS_UNKNOWN = 100;
/** A queue longer than any pause of the sender makes is believed at once. */
const LONG_QUEUE_MS = 8;
/** A delivery rate over less than this would be one of ticks and acknowledgements. */
const SPAN_MS_MIN = 50;
/** What left this long before a round trip may still be among what is acknowledged now. */
const SLACK_MS = 15;
/** Without loss for so long, an ordered stream's reports can be trusted. */
const CLEAN_MS = 1_000;
/** So many packets lost by chance in a round are no part of it: where a round is a dozen packets, one would be a tenth. */
const LOST_BYTES_MIN = 3 * 1_452;
/** Memory of the part of acknowledged bytes that is bulk. */
const BULK_PART_MS = 2_000;

export class PathEstimate {
  readonly #owd = new DelayTrack();
  readonly #owdFollower = new StampFollower();
  readonly #rtt = new DelayTrack();
  readonly #clock = new StampFollower();
  /** By the receiver's clock, and by the transport's acknowledgements. */
  readonly #received = new DeliveryRate();
  readonly #acknowledged = new DeliveryRate();
  /** Negated rates of the last round and span. */
  readonly #rates = new SlidingMinimum();
  /** Bytes that the sender could have sent and did not. */
  readonly #withheld = new PastTotal();
  readonly #isPaced: boolean;
  #isOwdKnown = false;
  #isStarting = true;
  #perPacket = false;
  #acked = 0;
  #reported = 0;
  #bulk: { acked: number; consumed: number; at: number; acked_seen: number } | null = null;
  #loss = { at: Number.NEGATIVE_INFINITY, lost: 0, acked: 0, since: 0, part: 0 };
  #delivery: Delivery | null = null;
  #seen: Delivery | null = null;

  /** `isPaced`: by the session, to the packet; no burst of ours is to be mistaken for a queue. */
  constructor(now: number, rtt_base_ms: number | null, isPaced: boolean) {
    this.#isPaced = isPaced;
    if (rtt_base_ms !== null) this.#rtt.seed(now, rtt_base_ms);
  }

  /**
   * `bytes`: the report's, once checked. `left_at`: when the last of them left; null if that is not known, undefined if they leave when they are
   * stamped. Returns the round trip that the report shows.
   */
  onReport(now: number, report: BulkReport, bytes: number, left_at: number | null | undefined): number {
    this.#isOwdKnown = left_at !== null;
    if (left_at !== null) this.#owd.add(now, this.#owdFollower.follow(left_at === undefined ? report.owd_min_us : report.clock_us - stampOf(left_at)));
    this.#learnBulkPart(now, bytes - this.#reported);
    this.#reported = bytes;
    const seen = this.#capped(this.#received.add(this.#clock.follow(report.clock_us), bytes, this.#withheldThen(now), this.span_ms), 1);
    const rtt = (stampDifference(stampOf(now), report.stamp_us) - report.held_us) / 1000;
    if (this.#perPacket) {
      this.#seen = seen;
      return rtt;
    }
    if (rtt > 0) this.#rtt.add(now, rtt);
    this.#delivery = seen ?? this.#delivery;
    return rtt;
  }

  /**
   * From the first look on, delivery rate and round trip come from here: a lost packet stalls an ordered stream for a round trip, which in
   * reports looks like a queue. The first look is at all that was before: good for the base, and for nothing else. False: nothing new.
   */
  onView(now: number, view: PathView): boolean {
    if (!this.#perPacket) {
      this.#perPacket = true;
      if (view.rtt_min_ms !== null) this.#rtt.seed(now, view.rtt_min_ms);
      return false;
    }
    this.#acked += view.acked_bytes;
    this.#learnLoss(now, view);
    if (view.rtt_min_ms === null) return false;
    this.#rtt.add(now, view.rtt_min_ms);
    const part = this.#bulkPart;
    const acknowledged = this.#capped(this.#acknowledged.add(now, this.#acked, this.#withheldThen(now) / part, this.span_ms), part);
    if (acknowledged === null) return true;
    // Queues on the way back distort the times of acknowledgements; the receiver's clock does not see them.
    this.#delivery = now - this.#loss.at > CLEAN_MS ? slowerOf(acknowledged, this.#seen) : acknowledged;
    return true;
  }

  /** What the sender allows itself from now on: nothing is delivered faster than it left. */
  onRate(now: number, rate: number): void {
    this.#rates.push(now, -rate, this.rtt_ms + this.span_ms + SLACK_MS);
  }

  onWithheld(now: number, bytes: number): void {
    this.#withheld.add(now, bytes);
  }

  /** What is seen now is the path itself, not a queue. */
  rebase(): void {
    this.#owd.rebase();
    this.#rtt.rebase();
  }

  /** What was delivered so far says nothing about what comes. The delays stay. */
  forgetDelivery(): void {
    this.#received.clear();
    this.#acknowledged.clear();
    this.#rates.clear();
    this.#delivery = null;
    this.#seen = null;
  }

  /** Whether the transport shows its packets. */
  get isPerPacket(): boolean {
    return this.#perPacket;
  }

  get delivery(): Delivery | null {
    return this.#delivery;
  }

  /** One-way delay can't see the way back, the round trip can't see the clocks' skew: what both see is our queue. */
  get queue_ms(): number | null {
    const fast = this.fast_queue_ms;
    return fast !== null && fast > LONG_QUEUE_MS ? fast : this.#calm_queue_ms;
  }

  get #calm_queue_ms(): number | null {
    return smallerOf(this.#isOwdKnown ? this.#owd.queue_ms : null, this.#rtt.queue_ms);
  }

  get fast_queue_ms(): number | null {
    return smallerOf(this.#isOwdKnown ? this.#owd.fast_queue_ms : null, this.#rtt.fast_queue_ms);
  }

  /** As soon as it can be believed. */
  get soon_queue_ms(): number | null {
    return this.#isPaced ? this.fast_queue_ms : this.queue_ms;
  }

  get rtt_recent_ms(): number | null {
    return this.#rtt.recent_ms;
  }

  get rtt_base_ms(): number | null {
    return this.#rtt.base_ms;
  }

  /** The round trip, a guess before the first. */
  get rtt_ms(): number {
    return this.#rtt.recent_ms ?? this.#rtt.base_ms ?? RTT_MS_UNKNOWN;
  }

  /** The round trip without our queue: else a long queue would slow its own end. */
  get empty_rtt_ms(): number {
    return Math.max(1, this.rtt_ms - Math.max(0, this.#calm_queue_ms ?? 0));
  }

  /** Time over which delivery is measured: a round trip, but less while it grows from one to the next. */
  get span_ms(): number {
    return this.#isStarting ? SPAN_MS_MIN : Math.max(SPAN_MS_MIN, this.empty_rtt_ms);
  }

  /** The start is over. */
  started(): void {
    this.#isStarting = false;
  }

  /** Part of the last round's bytes that was lost, beyond what is chance. */
  get loss_part(): number {
    return this.#loss.part;
  }

  get #bulkPart(): number {
    return this.#bulk !== null && this.#bulk.acked > 0 ? Math.min(1, this.#bulk.consumed / this.#bulk.acked) : 1;
  }

  /** The transport's bytes hold headers and other classes; the pacer's don't. */
  #learnBulkPart(now: number, consumed: number): void {
    const bulk = this.#bulk;
    if (bulk === null) {
      this.#bulk = { acked: 0, consumed: 0, at: now, acked_seen: this.#acked };
      return;
    }
    const kept = Math.exp(-(now - bulk.at) / BULK_PART_MS);
    bulk.consumed = bulk.consumed * kept + Math.max(0, consumed);
    bulk.acked = bulk.acked * kept + this.#acked - bulk.acked_seen;
    bulk.acked_seen = this.#acked;
    bulk.at = now;
  }

  #learnLoss(now: number, view: PathView): void {
    const loss = this.#loss;
    if (view.lost_bytes > 0) loss.at = now;
    loss.lost += view.lost_bytes;
    loss.acked += view.acked_bytes;
    if (now - loss.since < this.span_ms) return;
    const all = loss.lost + loss.acked;
    loss.part = all > 0 ? Math.max(0, loss.lost - LOST_BYTES_MIN) / all : 0;
    loss.lost = 0;
    loss.acked = 0;
    loss.since = now;
  }

  /** As it was when that left which is acknowledged now. */
  #withheldThen(now: number): number {
    return this.#withheld.at(now - this.rtt_ms);
  }

  #capped(measured: Delivery | null, bulkPart: number): Delivery | null {
    if (measured === null) return null;
    const most = -(this.#rates.value ?? Number.NEGATIVE_INFINITY);
    return { rate: Math.min(measured.rate * bulkPart, most), rate_if_used: Math.min(measured.rate_if_used * bulkPart, most) };
  }
}
