/**
 * The governor: how fast bulk may leave, so that the queue of the network, which no scheduler can reorder, stays a millisecond or two
 * short while bulk keeps the line. One for each session of a channel, at the sender. Its control is a pacing rate; a window only caps
 * what may be outstanding when acknowledgements stall. Pure: the time, in ms, comes with each call.
 *
 * Inside, rates are bytes per ms; what is public says its unit.
 */
import { Departures } from './governor/departures.ts';
import { EntryDrain } from './governor/entry.ts';
import { Law, type LawState, PACKET_BYTES } from './governor/law.ts';
import { Pacer } from './governor/pacer.ts';
import { PathEstimate, type PathView } from './governor/path.ts';
import type { BulkReport } from './governor/receiver.ts';

export type { PathView } from './governor/path.ts';
export { type BulkReport, GovernorReceiver } from './governor/receiver.ts';
export { stampOf } from './governor/stamp.ts';

export interface GovernorOptions {
  /** What this peer's path carried last time; the start is at half of it. */
  readonly initial_rate_bytes_per_s?: number;
  /** The path's smallest round trip so far. */
  readonly rtt_base_ms?: number;
  /** Bulk handed over on this session before now, counted as in `BulkReport.bytes`. If there was any, its queue is drained first. */
  readonly sent_bytes?: number;
  /** For how long bulk may be handed over ahead of its turn, since the session paces it; 0 unless told. */
  readonly lead_ms?: number;
}

/** `entry`: draining what ran before it took charge; then the law's. */
export type GovernorState = 'entry' | LawState;

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

const FRAME_BYTES_MAX = 16_000;
/** Two frames a tick: the second one's delay shows the first. */
const FRAME_MS = 0.5;
/** Where the session cuts and paces, frames need not be small. */
const FRAME_MS_LED = 1;

/** Beyond a round trip and the target: acknowledgement, and slack. */
const WINDOW_MS = 10;
const WINDOW_SLACK_MS = 5;
const WINDOW_PACKETS = 2;
const STACK_WINDOWS = 1.5;
const STACK_BYTES = 30_000;
/** In an ordered stream one lost packet holds back a round trip of others, though they have arrived. */
const STALL_RTTS = 2;
/** A sender that leaves its credit alone for longer than this had nothing to send. */
const UNUSED_MS = 20;
/** Of what the full queue delivered: room for the rest of it to go. */
const ENTRY_PART = 0.9;

export class Governor {
  readonly #path: PathEstimate;
  readonly #law: Law;
  readonly #pacer: Pacer;
  readonly #lead_ms: number;
  /** Where the session paces. */
  readonly #departures: Departures | null;
  readonly #base_known_ms: number | null;
  #entry: EntryDrain | null;
  #rate = 0;
  #sent: number;
  #reported: number;
  #sent_at: number;
  /** Credit is used down to the last packet once there was enough of it. */
  #isFilling = false;

  constructor(now: number, options: GovernorOptions = {}) {
    this.#base_known_ms = options.rtt_base_ms ?? null;
    this.#lead_ms = options.lead_ms ?? 0;
    this.#path = new PathEstimate(now, this.#base_known_ms, this.#lead_ms > 0);
    this.#law = new Law(now, this.#path, (options.initial_rate_bytes_per_s ?? 0) / 1000);
    this.#departures = this.#lead_ms > 0 ? new Departures() : null;
    this.#pacer = new Pacer(now, PACKET_BYTES, this.#lead_ms);
    this.#sent = options.sent_bytes ?? 0;
    this.#reported = this.#sent;
    this.#sent_at = now;
    this.#entry = this.#sent > 0 ? new EntryDrain(now) : null;
    this.#setRate(now);
  }

  /** The receiver's acknowledgement of bulk frames. */
  onReport(now: number, report: BulkReport): void {
    this.#accrue(now);
    this.#reported = Math.min(Math.max(report.bytes, 0), this.#sent);
    const left_at = this.#departures?.take(this.#reported);
    const rtt = this.#path.onReport(now, report, this.#reported, left_at);
    this.#entry?.onReport(report);
    if (!this.#path.isPerPacket) this.#entry?.onDelay(now, rtt, this.#entry.isOfTrickle(report));
    this.#control(now);
  }

  /** The transport's look at its packets (QUIC), since the last one. */
  onPathSample(now: number, view: PathView): void {
    this.#accrue(now);
    this.#pacer.measured(view.held_back_bytes);
    this.#departures?.push(now, this.#sent - view.held_back_bytes);
    if (!this.#path.onView(now, view) || view.rtt_min_ms === null) return;
    this.#entry?.onDelay(now, view.rtt_min_ms, this.#entry.isSince(now, view.rtt_latest_ms ?? view.rtt_min_ms));
    this.#control(now);
  }

  /**
   * Bulk has nothing to send though it may: no data, or no credit from the peer. (Not when the session isn't ready: that is the path.)
   * What is delivered meanwhile says nothing about the capacity.
   */
  onAppLimited(now: number): void {
    this.#law.limit(now);
  }

  /** Bytes that bulk may send now: none, or at least a packet. A frame's head may overdraw it. */
  allowance(now: number): number {
    const credit = this.#accrue(now);
    if (!this.#isFilling && credit < this.#pacer.least(this.#rate)) return 0;
    const most = Math.floor(Math.min(credit, this.#open_bytes));
    this.#isFilling = most >= PACKET_BYTES;
    return this.#isFilling ? most : 0;
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
    return now + Math.max(0, (this.#pacer.least(this.#rate) - this.#accrue(now)) / this.#rate);
  }

  /** Bulk is on its way that the peer has not told of. */
  get isAwaiting(): boolean {
    return this.#sent > this.#reported;
  }

  get rate_bytes_per_s(): number {
    return this.#rate * 1000;
  }

  /** What the path carries, as far as is known: worth remembering for the peer's next session. */
  get capacity_bytes_per_s(): number {
    return this.#law.capacity * 1000;
  }

  /** The most that may be unacknowledged. */
  get window_bytes(): number {
    return Math.ceil(this.#rate * (this.#path.rtt_ms + this.#lead_ms + WINDOW_MS + this.#law.target_ms + WINDOW_SLACK_MS) + WINDOW_PACKETS * PACKET_BYTES);
  }

  /** For the congestion controller below, which must not be the limit. */
  get congestion_window_bytes(): number {
    return Math.ceil(STACK_WINDOWS * this.window_bytes + STACK_BYTES);
  }

  /** Size of a frame that does not become a burst. */
  get frame_bytes(): number {
    return Math.round(Math.min(FRAME_BYTES_MAX, Math.max(PACKET_BYTES, this.#rate * (this.#lead_ms > 0 ? FRAME_MS_LED : FRAME_MS))));
  }

  snapshot(): GovernorFacts {
    const delivery = this.#path.delivery;
    return {
      state: this.#entry === null ? this.#law.state : 'entry',
      rate_bytes_per_s: this.rate_bytes_per_s,
      capacity_bytes_per_s: this.capacity_bytes_per_s,
      delivery_bytes_per_s: delivery === null ? null : delivery.rate * 1000,
      queue_ms: this.#path.queue_ms,
      target_ms: this.#law.target_ms,
      rtt_ms: this.#path.rtt_recent_ms,
      rtt_base_ms: this.#path.rtt_base_ms,
      window_bytes: this.window_bytes,
      congestion_window_bytes: this.congestion_window_bytes,
      unacknowledged_bytes: this.#sent - this.#reported,
    };
  }

  get #open_bytes(): number {
    const stalled = this.#path.isPerPacket ? this.#rate * this.#path.rtt_ms * STALL_RTTS : 0;
    return this.window_bytes + stalled - (this.#sent - this.#reported);
  }

  #control(now: number): void {
    const queue = this.#path.queue_ms;
    if (queue === null) return;
    this.#checkUnused(now);
    if (this.#entry === null) this.#law.step(now, queue);
    else if (this.#entry.isOver(now, this.#isQueueKnownShort)) this.#endEntry(now, this.#entry);
    this.#setRate(now);
  }

  /** Only a base from before the drain can say so: one seen during it may be the queue. */
  get #isQueueKnownShort(): boolean {
    const recent = this.#path.rtt_recent_ms;
    return this.#base_known_ms !== null && recent !== null && recent < this.#base_known_ms + this.#law.target_ms;
  }

  #endEntry(now: number, entry: EntryDrain): void {
    this.#entry = null;
    this.#path.forgetDelivery();
    this.#law.limit(now);
    if (entry.capacity !== null) this.#law.begin(now, entry.capacity * ENTRY_PART);
  }

  /** Credit up to now. What the sender leaves unused is its own doing only while the window is open. */
  #accrue(now: number): number {
    const credit = this.#pacer.credit(now, this.#rate);
    const unused = this.#pacer.takeUnused();
    if (this.#open_bytes >= PACKET_BYTES) this.#path.onWithheld(now, unused);
    return credit;
  }

  #setRate(now: number): void {
    this.#accrue(now);
    this.#rate = this.#entry === null ? this.#law.rate : EntryDrain.trickle(PACKET_BYTES);
    this.#path.onRate(now, this.#rate);
  }

  #checkUnused(now: number): void {
    if (now - this.#sent_at > UNUSED_MS && this.allowance(now) >= 2 * PACKET_BYTES) this.#law.limit(now);
  }
}
