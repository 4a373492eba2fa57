/**
 * The governor: how fast bulk may leave, so that the queue of the network, which no scheduler can reorder, stays a millisecond or two
 * short while bulk keeps the line. One for each session of a channel, at the sender. Its control is a pacing rate; a window only caps
 * what may be outstanding when acknowledgements stall. Pure: the time, in ms, comes with each call.
 *
 * Inside, rates are bytes per ms; what is public says its unit.
 */
import { DelayTrack, smallerOf } from './governor/delay.ts';
import { type Delivery, DeliveryRate } from './governor/delivery.ts';
import { EntryDrain } from './governor/entry.ts';
import { PastTotal, SecondBuckets, SlidingMinimum } from './governor/filters.ts';
import { Pacer } from './governor/pacer.ts';
import type { BulkReport } from './governor/receiver.ts';
import { StampFollower, stampDifference, stampOf } from './governor/stamp.ts';

export { type BulkReport, GovernorReceiver } from './governor/receiver.ts';
export { stampOf } from './governor/stamp.ts';

/** The transport's own view, packet by packet, of what happened since its last look (`Session.sample`). */
export interface PathView {
  readonly rtt_min_ms: number | null;
  readonly rtt_latest_ms: number | null;
  readonly acked_bytes: number;
  readonly lost_bytes: number;
  readonly sent_bytes: number;
}

export interface GovernorOptions {
  /** What this peer's path carried last time; the start is at half of it. */
  readonly initial_rate_bytes_per_s?: number;
  /** The path's smallest round trip so far. */
  readonly rtt_base_ms?: number;
  /** Bulk handed over on this session before now, counted as in `BulkReport.bytes`. If there was any, its queue is drained first. */
  readonly sent_bytes?: number;
}

/** `entry`: draining what ran before it took charge. `start`: finding the rate. `steady`, and from there `growth` and `drain`. */
export type GovernorState = 'entry' | 'start' | 'steady' | 'growth' | 'drain';

/** Facts for status and metrics. */
export interface GovernorFacts {
  readonly state: GovernorState;
  readonly rate_bytes_per_s: number;
  readonly capacity_bytes_per_s: number;
  readonly delivery_bytes_per_s: number | null;
  readonly queue_ms: number | null;
  readonly target_ms: number;
  readonly rtt_ms: number | null;
  readonly rtt_base_ms: number | null;
  readonly window_bytes: number;
  readonly congestion_window_bytes: number;
  readonly unacknowledged_bytes: number;
}

const PACKET_BYTES = 1_300;
const FRAME_BYTES_MAX = 16_000;
const FRAME_MS = 0.5;

const RTT_MS_UNKNOWN = 100;
/** Reaction beyond the round trip: acknowledgement, tick, filter. */
const REACTION_MS = 15;
/** A queue is seen this long after a round trip: filter and acknowledgement. */
const SEEN_MS = 40;
const TARGET_MS_MIN = 1.5;
const TARGET_PACKETS = 1.5;
const SPAN_MS_MIN = 50;
const START_BYTES_PER_MS = 125;
const START_PACKETS_PER_RTT = 10;

/** What bulk leaves free, so that a queue that formed can go. */
const SHARE = 0.99;
const GAIN_MIN = -0.75;
const GROWTH_MS = 20;
/** The start may overshoot once, by some part of a long round trip, rather than take a dozen of them. */
const START_GROWTH_MIN = 0.4;
const GROWTH_START_PACKETS = 2;
const GROWTH_START_MAX = 0.05;
const YIELD_PART = 0.03;
const GROWTH_MIN = 0.2;
const GROWTH_MAX = 1;
/** Growth is tested against the capacity, not the current rate: the rate may be low on purpose. */
const GROWTH_DELIVERED_PART = 0.85;
const DRAIN_EVERY_MS = 5_000;
const DRAIN_GAIN = -0.15;
const DRAIN_MS = 20;

const FLOOR_PART = 0.05;
/** Of the floor of the capacity: where that is too high after all, the queue must still go. */
const FLOOR_RATE_PART = 0.5;
const FLOOR_PACKETS_PER_RTT = 2;
const BEST_SECONDS = 60;
const NEW_PATH_PART = 0.4;
const NEW_PATH_MS = 1_000;
const NEW_PATH_TAUS = 8;
const ENTRY_PART = 0.9;

/** Loss of a round, in part of its bytes, that ends growth, and that counts as a queue though no delay shows one. */
const LOSS_GROWTH_MAX = 0.03;
const LOSS_QUEUE_MIN = 0.1;
const CLEAN_MS = 1_000;
/** Memory of the part of acknowledged bytes that is bulk. */
const BULK_PART_MS = 2_000;

const WINDOW_MS = 10;
const WINDOW_SLACK_MS = 5;
const WINDOW_PACKETS = 2;
const STACK_WINDOWS = 1.5;
const STACK_BYTES = 30_000;
/** In an ordered stream one lost packet holds back a round trip of others, though they have arrived. */
const STALL_RTTS = 2;
/** A sender that leaves its credit alone for longer than this had nothing to send. */
const UNUSED_MS = 20;

export class Governor {
  readonly #owd = new DelayTrack();
  readonly #owdFollower = new StampFollower();
  readonly #rtt = new DelayTrack();
  /** By the receiver's clock, and by the transport's acknowledgements. */
  readonly #received = new DeliveryRate();
  readonly #acknowledged = new DeliveryRate();
  readonly #clock = new StampFollower();
  readonly #best = new SecondBuckets(BEST_SECONDS, Math.max);
  /** Negated rates of the last round and span: nothing is delivered faster than it left. */
  readonly #rates = new SlidingMinimum();
  readonly #pacer: Pacer;

  #base_known_ms: number | null;
  #entry: EntryDrain | null;
  #state: GovernorState;
  #capacity: number;
  #delivery: Delivery | null = null;
  #seen: Delivery | null = null;
  readonly #withheld = new PastTotal();
  #gain = 0;
  #rate = 0;

  #sent: number;
  #reported: number;
  #sent_at: number;
  #perPacket = false;
  #acked = 0;
  #bulk: { acked: number; consumed: number; at: number; acked_seen: number } | null = null;
  #loss = { at: Number.NEGATIVE_INFINITY, lost: 0, acked: 0, since: 0, part: 0 };

  #controlled_at: number;
  #limited_until: number;
  #empty_since: number | null = null;
  #drain_at = Number.POSITIVE_INFINITY;
  #drain_until = 0;
  #flat: { since: number; low: number; high: number } | null = null;

  constructor(now: number, options: GovernorOptions = {}) {
    this.#base_known_ms = options.rtt_base_ms ?? null;
    if (this.#base_known_ms !== null) this.#rtt.seed(now, this.#base_known_ms);
    this.#sent = options.sent_bytes ?? 0;
    this.#reported = this.#sent;
    this.#entry = this.#sent > 0 ? new EntryDrain(now) : null;
    this.#state = this.#entry === null ? 'start' : 'entry';
    const start = Math.min(START_BYTES_PER_MS, (START_PACKETS_PER_RTT * PACKET_BYTES) / this.#rtt_ms);
    this.#capacity = Math.max(start, (options.initial_rate_bytes_per_s ?? 0) / 2_000);
    this.#pacer = new Pacer(now, PACKET_BYTES);
    this.#controlled_at = now;
    this.#sent_at = now;
    this.#limited_until = now;
    this.#setRate(now);
  }

  /** The receiver's acknowledgement of bulk frames. */
  onReport(now: number, report: BulkReport): void {
    this.#accrue(now);
    const bytes = Math.min(Math.max(report.bytes, 0), this.#sent);
    this.#owd.add(now, this.#owdFollower.follow(report.owd_min_us));
    const clock = this.#clock.follow(report.clock_us);
    this.#learnBulkPart(now, bytes - this.#reported);
    this.#reported = bytes;
    this.#entry?.onReport(report);
    const seen = this.#capped(this.#received.add(clock, bytes, this.#withheldThen(now), this.#span_ms), 1);
    if (this.#perPacket) this.#seen = seen;
    else {
      const rtt = (stampDifference(stampOf(now), report.stamp_us) - report.held_us) / 1000;
      if (rtt > 0) this.#rtt.add(now, rtt);
      this.#entry?.onDelay(now, rtt, this.#entry.isOfTrickle(report));
      this.#delivery = seen ?? this.#delivery;
    }
    this.#control(now);
  }

  /**
   * The transport's look at its packets (QUIC). From the first on, delivery rate and round trip come from here alone: a lost packet stalls
   * an ordered stream for a round trip, which in reports looks like a queue.
   */
  onPathSample(now: number, sample: PathView): void {
    if (!this.#perPacket) {
      this.#startPerPacket(now, sample);
      return;
    }
    this.#acked += sample.acked_bytes;
    this.#learnLoss(now, sample);
    if (sample.rtt_min_ms === null) return;
    this.#rtt.add(now, sample.rtt_min_ms);
    this.#entry?.onDelay(now, sample.rtt_min_ms, this.#entry.isSince(now, sample.rtt_latest_ms ?? sample.rtt_min_ms));
    const part = this.#bulkPart;
    const acknowledged = this.#capped(this.#acknowledged.add(now, this.#acked, this.#withheldThen(now) / part, this.#span_ms), part);
    if (acknowledged !== null) this.#delivery = this.#isClean(now) ? slower(acknowledged, this.#seen) : acknowledged;
    this.#control(now);
  }

  /**
   * Bulk has nothing to send though it may: no data, or no credit from the peer. (Not when the session isn't ready: that is the path.)
   * What is delivered meanwhile says nothing about the capacity.
   */
  onAppLimited(now: number): void {
    this.#limited_until = now + this.#rtt_ms + this.#span_ms;
  }

  /** Bytes that bulk may send now: none, or at least a packet. A frame's head may overdraw it. */
  allowance(now: number): number {
    const most = Math.floor(Math.min(this.#accrue(now), this.#open_bytes));
    return most < PACKET_BYTES ? 0 : most;
  }

  onSent(now: number, bytes: number): void {
    this.#checkUnused(now);
    this.#accrue(now);
    this.#pacer.spend(bytes);
    this.#sent += bytes;
    this.#sent_at = now;
  }

  /** When `allowance` is next more than nothing, if no acknowledgement comes before; null if only an acknowledgement opens it. */
  nextTime(now: number): number | null {
    if (this.#open_bytes < PACKET_BYTES) return null;
    return now + Math.max(0, (PACKET_BYTES - this.#accrue(now)) / this.#rate);
  }

  get rate_bytes_per_s(): number {
    return this.#rate * 1000;
  }

  /** What the path carries, as far as is known: worth remembering for the peer's next session. */
  get capacity_bytes_per_s(): number {
    return this.#capacity * 1000;
  }

  /** The most that may be unacknowledged. */
  get window_bytes(): number {
    return Math.ceil(this.#rate * (this.#rtt_ms + WINDOW_MS + this.#target_ms + WINDOW_SLACK_MS) + WINDOW_PACKETS * PACKET_BYTES);
  }

  /** For the congestion controller below, which must not be the limit. */
  get congestion_window_bytes(): number {
    return Math.ceil(STACK_WINDOWS * this.window_bytes + STACK_BYTES);
  }

  /** Size of a frame that does not become a burst: a millisecond of the rate. */
  get frame_bytes(): number {
    return Math.round(Math.min(FRAME_BYTES_MAX, Math.max(PACKET_BYTES, this.#rate * FRAME_MS)));
  }

  snapshot(): GovernorFacts {
    return {
      state: this.#state,
      rate_bytes_per_s: this.rate_bytes_per_s,
      capacity_bytes_per_s: this.capacity_bytes_per_s,
      delivery_bytes_per_s: this.#delivery === null ? null : this.#delivery.rate * 1000,
      queue_ms: this.#queue_ms,
      target_ms: this.#target_ms,
      rtt_ms: this.#rtt.recent_ms,
      rtt_base_ms: this.#rtt.base_ms,
      window_bytes: this.window_bytes,
      congestion_window_bytes: this.congestion_window_bytes,
      unacknowledged_bytes: this.#sent - this.#reported,
    };
  }

  get #queue_ms(): number | null {
    return smallerOf(this.#owd.queue_ms, this.#rtt.queue_ms);
  }

  get #fast_queue_ms(): number | null {
    return smallerOf(this.#owd.fast_queue_ms, this.#rtt.fast_queue_ms);
  }

  get #rtt_ms(): number {
    return this.#rtt.recent_ms ?? this.#rtt.base_ms ?? RTT_MS_UNKNOWN;
  }

  /** The round trip without our queue: else a long queue would slow its own end. */
  get #path_ms(): number {
    return Math.max(1, this.#rtt_ms - Math.max(0, this.#queue_ms ?? 0));
  }

  get #tau_ms(): number {
    return this.#path_ms + REACTION_MS;
  }

  get #span_ms(): number {
    return Math.max(SPAN_MS_MIN, this.#path_ms);
  }

  get #target_ms(): number {
    return Math.max(TARGET_MS_MIN, (TARGET_PACKETS * PACKET_BYTES) / this.#capacity);
  }

  /** A share that bulk keeps even where the queue is another's and stays. */
  get #floor(): number {
    return Math.max(FLOOR_PART * (this.#best.value ?? 0), (FLOOR_PACKETS_PER_RTT * PACKET_BYTES) / this.#rtt_ms);
  }

  get #growthMax(): number {
    return Math.min(GROWTH_MAX, Math.max(GROWTH_MIN, GROWTH_MS / this.#tau_ms));
  }

  get #open_bytes(): number {
    const stalled = this.#perPacket ? this.#rate * this.#rtt_ms * STALL_RTTS : 0;
    return this.window_bytes + stalled - (this.#sent - this.#reported);
  }

  get #bulkPart(): number {
    return this.#bulk !== null && this.#bulk.acked > 0 ? Math.min(1, this.#bulk.consumed / this.#bulk.acked) : 1;
  }

  /** The first look is at all that was before: good for the base, and for nothing else. */
  #startPerPacket(now: number, sample: PathView): void {
    this.#perPacket = true;
    this.#received.clear();
    if (sample.rtt_min_ms === null) return;
    this.#rtt.seed(now, sample.rtt_min_ms);
    this.#base_known_ms = Math.min(sample.rtt_min_ms, this.#base_known_ms ?? sample.rtt_min_ms);
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

  #learnLoss(now: number, sample: PathView): void {
    const loss = this.#loss;
    if (sample.lost_bytes > 0) loss.at = now;
    loss.lost += sample.lost_bytes;
    loss.acked += sample.acked_bytes;
    if (now - loss.since < this.#span_ms) return;
    const all = loss.lost + loss.acked;
    loss.part = all > 0 ? loss.lost / all : 0;
    loss.lost = 0;
    loss.acked = 0;
    loss.since = now;
  }

  /** As it was when that left which is acknowledged now. */
  #withheldThen(now: number): number {
    return this.#withheld.at(now - this.#rtt_ms);
  }

  /** Nothing is delivered faster than it left. */
  #capped(measured: Delivery | null, bulkPart: number): Delivery | null {
    if (measured === null) return null;
    const most = -(this.#rates.value ?? Number.NEGATIVE_INFINITY);
    return { rate: Math.min(measured.rate * bulkPart, most), rate_if_used: Math.min(measured.rate_if_used * bulkPart, most) };
  }

  /** Without loss the receiver's clock can be trusted too, and queues on the way back don't distort it. */
  #isClean(now: number): boolean {
    return now - this.#loss.at > CLEAN_MS;
  }

  #control(now: number): void {
    const queue = this.#queue_ms;
    if (queue === null) return;
    const elapsed = Math.min(now - this.#controlled_at, this.#span_ms);
    this.#controlled_at = now;
    this.#checkUnused(now);
    if (this.#entry === null) {
      this.#learnCapacity(now, queue, elapsed);
      this.#checkNewPath(now, queue);
      this.#advance(now, queue, elapsed);
    } else if (this.#entry.isOver(now, this.#queueIsKnownShort)) this.#endEntry(now, this.#entry);
    this.#setRate(now);
  }

  /** Only a base from before the drain can say so: one seen during it may be the queue. */
  get #queueIsKnownShort(): boolean {
    const recent = this.#rtt.recent_ms;
    return this.#base_known_ms !== null && recent !== null && recent < this.#base_known_ms + this.#target_ms;
  }

  #endEntry(now: number, entry: EntryDrain): void {
    this.#entry = null;
    this.#received.clear();
    this.#acknowledged.clear();
    this.#delivery = null;
    this.#seen = null;
    this.#rates.clear();
    this.onAppLimited(now);
    if (entry.capacity === null) {
      this.#state = 'start';
      return;
    }
    this.#capacity = Math.max(entry.capacity * ENTRY_PART, this.#capacity);
    this.#best.add(now, this.#capacity);
    this.#settle(now);
    this.#drain_at = now + DRAIN_EVERY_MS;
  }

  #learnCapacity(now: number, queue: number, elapsed: number): void {
    const delivery = this.#delivery;
    if (delivery === null) return;
    const limited = now < this.#limited_until;
    if (queue > this.#target_ms || this.#loss.part > LOSS_QUEUE_MIN) {
      const evidence = Math.max(delivery.rate, Math.min(delivery.rate_if_used, this.#capacity));
      if (!limited || evidence > this.#capacity) this.#capacity += ((evidence - this.#capacity) * elapsed) / this.#span_ms;
    } else this.#capacity = Math.max(this.#capacity, delivery.rate);
    this.#best.add(now, this.#capacity);
    this.#capacity = Math.max(this.#capacity, this.#floor);
  }

  /** Much less is delivered, and the delay does not move: that is another path, not a queue. */
  #checkNewPath(now: number, queue: number): void {
    if (this.#capacity >= NEW_PATH_PART * (this.#best.value ?? 0)) {
      this.#flat = null;
      return;
    }
    const flat = this.#flat ?? { since: now, low: queue, high: queue };
    flat.low = Math.min(flat.low, queue);
    flat.high = Math.max(flat.high, queue);
    this.#flat = flat.high - flat.low <= 2 * this.#target_ms ? flat : { since: now, low: queue, high: queue };
    if (now - this.#flat.since < Math.max(NEW_PATH_MS, NEW_PATH_TAUS * this.#tau_ms)) return;
    this.#owd.rebase();
    this.#rtt.rebase();
    this.#best.reset(this.#capacity);
    this.#flat = null;
  }

  /** The state's edges, and the gain of the state that results. */
  #advance(now: number, queue: number, elapsed: number): void {
    const target = this.#target_ms;
    if (queue >= target / 2) this.#empty_since = null;
    else this.#empty_since ??= now;

    if (this.#state === 'start' && (queue > 1.5 * target || this.#loss.part > LOSS_QUEUE_MIN)) {
      this.#settle(now);
      this.#drain_at = now + DRAIN_EVERY_MS;
    }
    const grownEnough = this.#state === 'growth' && ((this.#fast_queue_ms ?? 0) >= target || this.#loss.part > LOSS_GROWTH_MAX);
    if (this.#state === 'drain' && now >= this.#drain_until) this.#settle(now);
    if (grownEnough) this.#capacity *= 1 - YIELD_PART;
    if (grownEnough || ((this.#state === 'steady' || this.#state === 'growth') && now >= this.#drain_at)) {
      this.#state = 'drain';
      this.#drain_until = now + target / -DRAIN_GAIN + DRAIN_MS;
      this.#drain_at = now + DRAIN_EVERY_MS;
      this.#limited_until = this.#drain_until + this.#rtt_ms + this.#span_ms;
    }
    const span = 3 * this.#tau_ms;
    if (this.#state === 'steady' && this.#isEmptyFor(now, span) && (this.#delivery?.rate ?? 0) >= GROWTH_DELIVERED_PART * this.#capacity) {
      this.#state = 'growth';
      this.#gain = Math.min(GROWTH_START_MAX, (GROWTH_START_PACKETS * PACKET_BYTES) / (this.#tau_ms * this.#capacity));
    }
    this.#gain = this.#nextGain(queue, elapsed, target, span);
  }

  #nextGain(queue: number, elapsed: number, target: number, span: number): number {
    switch (this.#state) {
      case 'start':
        return Math.max(START_GROWTH_MIN, this.#growthMax);
      case 'growth':
        return Math.min(this.#growthMax, this.#gain * 2 ** (elapsed / (this.#rtt_ms + SEEN_MS)));
      case 'drain':
        return DRAIN_GAIN;
      default:
        return Math.min(target / span, Math.max(GAIN_MIN, (target - queue) / span));
    }
  }

  #isEmptyFor(now: number, span: number): boolean {
    return this.#empty_since !== null && now - this.#empty_since >= span;
  }

  #settle(now: number): void {
    this.#state = 'steady';
    if (this.#empty_since !== null) this.#empty_since = now;
  }

  /** Credit up to now. What the sender leaves unused is its own doing only while the window is open. */
  #accrue(now: number): number {
    const credit = this.#pacer.credit(now, this.#rate);
    const unused = this.#pacer.takeUnused();
    if (this.#open_bytes >= PACKET_BYTES) this.#withheld.add(now, unused);
    return credit;
  }

  #setRate(now: number): void {
    this.#accrue(now);
    this.#rate = this.#entry === null ? Math.max(FLOOR_RATE_PART * this.#floor, this.#capacity * (1 + this.#gain) * SHARE) : EntryDrain.trickle(PACKET_BYTES);
    this.#rates.push(now, -this.#rate, this.#rtt_ms + this.#span_ms + REACTION_MS);
  }

  #checkUnused(now: number): void {
    if (now - this.#sent_at > UNUSED_MS && this.allowance(now) >= 2 * PACKET_BYTES) this.onAppLimited(now);
  }
}

function slower(left: Delivery, right: Delivery | null): Delivery {
  if (right === null) return left;
  return { rate: Math.min(left.rate, right.rate), rate_if_used: Math.min(left.rate_if_used, right.rate_if_used) };
}
