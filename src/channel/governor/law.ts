/**
 * The law: from queue and delivery rate to the capacity of the path and the gain on it. A small machine of four states; it sends
 * nothing and measures nothing. Times in ms, rates in bytes per ms.
 */
import { SecondBuckets, SlidingMinimum } from './filters.ts';
import { Floor } from './floor.ts';
import type { PathEstimate } from './path.ts';

/** `start`: finding the rate. `steady`, and from there `growth` when the queue stays empty and `drain` to see the base. */
export type LawState = 'start' | 'steady' | 'growth' | 'drain';

export const PACKET_BYTES = 1_300;

/** Reaction beyond the round trip: acknowledgement, tick, filter. */
const REACTION_MS = 15;
/** A queue is seen this long after a round trip. */
const SEEN_MS = 40;
const TARGET_MS_MIN = 1.5;
const TARGET_PACKETS = 1.5;
const START_BYTES_PER_MS = 250;
const START_PACKETS_PER_RTT = 10;
/** The start may overshoot once, by some part of a long round trip, rather than take a dozen of them. */
const START_GAIN_MIN = 0.5;
const START_QUEUE_TARGETS = 1.5;
/** A pause of the sender makes a queue that is gone at once; leaving the start for it would cost seconds. */
const START_QUEUE_MS = 10;
/** A sender that has paused has its last packets acknowledged so much later. */
const ACKNOWLEDGED_MS_MAX = 25;

/** What bulk leaves free, so that a queue that formed can go. */
const SHARE = 0.99;
const GAIN_MIN = -0.75;
const SPAN_TAUS = 3;
/** What is always there, frames larger than the base's, clocks that tick, is no queue: the least of a second, up to a bound, since a queue of our own must not pass for it. */
const NOISE_SPAN_MS = 1_000;
const NOISE_MS_MAX = 1;
/** The base is often that of a small packet: what a whole one takes longer to leave is no queue either. On slow lines the target is about packets anyway. */
const PACKET_MS_MAX = 1.2;
const GROWTH_MS = 20;
const GROWTH_MIN = 0.2;
const GROWTH_MAX = 1;
/**
 * Growth begins with packets and is given back in parts: of two senders the smaller one gains by it, so that they meet.
 * (Both in parts would keep any ratio for ever.)
 */
const GROWTH_START_PACKETS = 2;
const GROWTH_START_MAX = 0.05;
const LONG_TAU_MS = 100;
const YIELD_PART = 0.02;
/** Growth is tested against the capacity, not the current rate: the rate may be low on purpose. */
const GROWTH_DELIVERED_PART = 0.85;
const DRAIN_EVERY_MS = 5_000;
const DRAIN_GAIN = -0.15;
const DRAIN_MS = 20;
/** After the start. */
const OVERSHOT_GAIN = -0.5;
const OVERSHOT_MS_MAX = 200;

const USUAL_SECONDS = 60;
const NEW_PATH_PART = 0.4;
const NEW_PATH_MS = 1_000;
const NEW_PATH_TAUS = 8;
const NEW_PATH_TARGETS = 2;

/** Loss of a round, in part of its bytes, that ends growth, and that counts as a queue though no delay shows one. */
const LOSS_GROWTH_MAX = 0.03;
const LOSS_QUEUE_MIN = 0.1;
/** With a queue longer than any that we let stand, it is the path that bounds what is delivered, whatever we do. */
const LIMITED_QUEUE_MS = 15;

export class Law {
  readonly #path: PathEstimate;
  readonly #floor: Floor;
  /** The best of the path as it is believed to be now. */
  readonly #usual = new SecondBuckets(USUAL_SECONDS, Math.max);
  readonly #least = new SlidingMinimum();
  #state: LawState = 'start';
  #capacity: number;
  #gain = 0;
  #stepped_at: number;
  /** Until then, what is delivered is bounded by the sender and says nothing about the path. */
  #limited_until: number;
  #empty_since: number | null = null;
  #full_since: number | null = null;
  #drain_at = Number.POSITIVE_INFINITY;
  #drain_until = 0;
  #drain_gain = DRAIN_GAIN;
  #flat: { since: number; low: number; high: number } | null = null;

  constructor(now: number, path: PathEstimate, remembered: number) {
    this.#path = path;
    this.#floor = new Floor(path, PACKET_BYTES);
    this.#stepped_at = now;
    this.#limited_until = now;
    this.#capacity = Math.max(remembered / 2, Math.min(START_BYTES_PER_MS, (START_PACKETS_PER_RTT * PACKET_BYTES) / path.rtt_ms));
  }

  get state(): LawState {
    return this.#state;
  }

  get capacity(): number {
    return this.#capacity;
  }

  /** How fast bulk may leave. */
  get rate(): number {
    return Math.max(this.#floor.rate, this.#capacity * (1 + this.#gain) * SHARE);
  }

  get target_ms(): number {
    return Math.max(TARGET_MS_MIN, (TARGET_PACKETS * PACKET_BYTES) / this.#capacity);
  }

  /** The sender, not the path, bounds what is delivered: until a round and a span after `until`. */
  limit(until: number): void {
    this.#limited_until = Math.max(this.#limited_until, until + this.#path.rtt_ms + this.#path.span_ms);
  }

  /** The capacity is known, by other means than the start. */
  begin(now: number, capacity: number): void {
    this.#capacity = Math.max(capacity, this.#capacity);
    this.#noteBest(now);
    this.#leaveStart(now, false);
  }

  /** After each new measurement. */
  step(now: number, queue_ms: number): void {
    const elapsed = Math.min(now - this.#stepped_at, this.#path.span_ms);
    this.#stepped_at = now;
    this.#least.push(now, queue_ms, NOISE_SPAN_MS);
    const packet_ms = Math.min(PACKET_BYTES / this.#capacity, PACKET_MS_MAX);
    const quiet_ms = queue_ms - Math.max(Math.min(this.#least.value ?? 0, NOISE_MS_MAX), packet_ms);
    this.#learnCapacity(now, quiet_ms, elapsed);
    this.#checkNewPath(now, queue_ms);
    this.#floor.check(now, this.rate);
    this.#advance(now, quiet_ms);
    this.#gain = this.#nextGain(quiet_ms, elapsed);
  }

  get #tau_ms(): number {
    return this.#path.empty_rtt_ms + REACTION_MS;
  }

  get #growthMax(): number {
    return Math.min(GROWTH_MAX, Math.max(GROWTH_MIN, GROWTH_MS / this.#tau_ms));
  }

  #learnCapacity(now: number, queue: number, elapsed: number): void {
    const delivery = this.#path.delivery;
    if (delivery === null) return;
    if (queue > this.target_ms || this.#path.loss_part > LOSS_QUEUE_MIN) {
      const evidence = Math.max(delivery.rate, Math.min(delivery.rate_if_used, this.#capacity));
      if (now >= this.#limited_until || queue > LIMITED_QUEUE_MS || evidence > this.#capacity)
        this.#capacity += ((evidence - this.#capacity) * elapsed) / this.#path.span_ms;
    } else this.#capacity = Math.max(this.#capacity, delivery.rate);
    this.#noteBest(now);
    this.#capacity = Math.max(this.#capacity, this.#floor.rate);
  }

  #noteBest(now: number): void {
    this.#floor.add(now, this.#capacity);
    this.#usual.add(now, this.#capacity);
  }

  /** Much less is delivered, and the delay does not move: that is another path, not a queue. */
  #checkNewPath(now: number, queue: number): void {
    if (this.#capacity >= NEW_PATH_PART * (this.#usual.value ?? 0)) {
      this.#flat = null;
      return;
    }
    const low = Math.min(queue, this.#flat?.low ?? queue);
    const high = Math.max(queue, this.#flat?.high ?? queue);
    const isFlat = this.#flat !== null && high - low <= NEW_PATH_TARGETS * this.target_ms;
    this.#flat = isFlat ? { since: this.#flat?.since ?? now, low, high } : { since: now, low: queue, high: queue };
    if (now - this.#flat.since < Math.max(NEW_PATH_MS, NEW_PATH_TAUS * this.#tau_ms)) return;
    this.#path.rebase();
    this.#usual.reset(this.#capacity);
    this.#flat = null;
  }

  #advance(now: number, queue: number): void {
    const target = this.target_ms;
    if (queue >= target / 2) this.#empty_since = null;
    else this.#empty_since ??= now;

    switch (this.#state) {
      case 'start':
        if ((this.#path.soon_queue_ms ?? 0) <= Math.max(START_QUEUE_TARGETS * target, now < this.#limited_until ? ACKNOWLEDGED_MS_MAX : 0))
          this.#full_since = null;
        else this.#full_since ??= now;
        if ((this.#full_since !== null && now - this.#full_since >= START_QUEUE_MS) || this.#path.loss_part > LOSS_QUEUE_MIN) this.#leaveStart(now, true);
        return;
      case 'drain':
        if (now >= this.#drain_until) this.#settle(now);
        return;
      case 'growth':
        if (this.#growthQueue(queue) >= target || this.#path.loss_part > LOSS_GROWTH_MAX) {
          this.#capacity *= 1 - YIELD_PART;
          this.#drain(now);
        } else if (now >= this.#drain_at) this.#drain(now);
        return;
      case 'steady':
        if (now >= this.#drain_at) this.#drain(now);
        else if (this.#mayGrow(now)) {
          this.#state = 'growth';
          this.#gain = Math.min(GROWTH_START_MAX, (GROWTH_START_PACKETS * PACKET_BYTES) / (this.#tau_ms * this.#capacity));
        }
    }
  }

  /** Soon seen where growth is fast. Where it takes seconds, a pause of either host, which looks like a queue for some ms, does not end it. */
  #growthQueue(queue: number): number {
    const fast = this.#path.fast_queue_ms ?? 0;
    return this.#tau_ms < LONG_TAU_MS ? fast : Math.max(queue, fast / 2);
  }

  #nextGain(queue: number, elapsed: number): number {
    const span = SPAN_TAUS * this.#tau_ms;
    switch (this.#state) {
      case 'start':
        return Math.max(START_GAIN_MIN, this.#growthMax);
      case 'growth':
        return Math.min(this.#growthMax, this.#gain * 2 ** (elapsed / (this.#path.rtt_ms + SEEN_MS)));
      case 'drain':
        return this.#drain_gain;
      case 'steady':
        return Math.min(this.target_ms / span, Math.max(GAIN_MIN, (this.target_ms - queue) / span));
    }
  }

  #mayGrow(now: number): boolean {
    if (this.#empty_since === null || now - this.#empty_since < SPAN_TAUS * this.#tau_ms) return false;
    return (this.#path.delivery?.rate ?? 0) >= GROWTH_DELIVERED_PART * this.#capacity;
  }

  /** What the start overshot stands in the queue already, or is on its way there: so much less leaves until it has gone. */
  #leaveStart(now: number, hasOvershot: boolean): void {
    const delivered = this.#path.delivery?.rate ?? this.#capacity;
    const excess_ms = (this.#path.soon_queue_ms ?? 0) + Math.max(0, this.rate / delivered - 1) * this.#path.empty_rtt_ms;
    this.#path.started();
    this.#settle(now);
    this.#drain_at = now + DRAIN_EVERY_MS;
    if (!hasOvershot) return;
    this.#state = 'drain';
    this.#drain_gain = OVERSHOT_GAIN;
    this.#drain_until = now + Math.min(excess_ms, OVERSHOT_MS_MAX) / -OVERSHOT_GAIN;
    this.limit(this.#drain_until);
  }

  #drain(now: number): void {
    this.#state = 'drain';
    this.#drain_gain = DRAIN_GAIN;
    this.#drain_until = now + this.target_ms / -DRAIN_GAIN + DRAIN_MS;
    this.#drain_at = now + DRAIN_EVERY_MS;
    this.limit(this.#drain_until);
  }

  #settle(now: number): void {
    this.#state = 'steady';
    if (this.#empty_since !== null) this.#empty_since = now;
  }
}
