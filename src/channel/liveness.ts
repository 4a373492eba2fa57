/**
 * Liveness of one session (spec 7): heartbeats by cadence, their echoes, and the early suspicion that makes a fallback fast.
 *
 * Two judgements. *Suspect*: something is outstanding and nothing was heard for a little more than a round trip; another session is
 * worth dialing, this one is not given up. *Dead*: heartbeats were sent again and again and none came back.
 *
 * Octets that the peer has not acknowledged are no proof of a dead path: its reader may be slow. So they only raise the question, as a
 * heartbeat sent early; suspicion is about a heartbeat that is not answered while nothing else is heard either. Where the transport itself
 * answers (QUIC acknowledges packets, whatever the program behind it does), a flow that is under way makes silence telling sooner: two of
 * its probe timeouts (RFC 9002, section 6.2.1), half of it until the heartbeat and half for what should come back.
 *
 *   heard(now), outstanding(now, yes), echo(…) · handleTimeout(now) → what to do · pollTimeout()
 */
import type { Random } from '../base/seam.ts';
import { limits } from '../base/limits.ts';

/** RFC 9002, section 18.2 of RFC 9000: for so long an end may hold back its acknowledgements, milliseconds. */
const ACKNOWLEDGEMENT_DELAY_MS = 25;

export type LivenessAction = 'send_heartbeat' | 'suspect' | 'dead';

export class Liveness {
  readonly #random: Random;
  /** The transport shows life by itself as soon as anything reaches it. */
  readonly #isAnswered: boolean;
  #heard: number;
  /** When the oldest heartbeat without an answer was sent. */
  #awaitingSince: number | null = null;
  /** Since when octets are outstanding; null if none are. */
  #outstandingSince: number | null = null;
  /** Octets of a flow came, and more may: if nothing follows, is that the peer's pause or the path's end? One early heartbeat tells. */
  #isExpecting = false;
  /** Grows while early heartbeats are answered and yet nothing is acknowledged: a slow reader costs few of them. */
  #patience = 1;
  #suspect = false;
  #nextHeartbeat: number;
  #sentAt = Number.NEGATIVE_INFINITY;
  #unanswered = 0;
  #retryAt: number | null = null;
  #sequence = 0;
  #cadence_ms: number = limits.heartbeat_ms_active;
  #answeredSequence = 0;
  /** Smoothed round trip and its variation (RFC 6298, section 2), milliseconds. */
  #rtt_ms: number | null = null;
  #rttMin_ms: number | null = null;
  #jitter_ms = 0;
  #sentCount = 0;
  #lostCount = 0;

  constructor(random: Random, now: number, isAnswered = false) {
    this.#random = random;
    this.#isAnswered = isAnswered;
    this.#heard = now;
    // The first heartbeat goes out at once: its echo is the first measurement of the path.
    this.#nextHeartbeat = now;
  }

  get isSuspect(): boolean {
    return this.#suspect;
  }

  get rtt_ms(): number | null {
    return this.#rtt_ms;
  }

  get rttMin_ms(): number | null {
    return this.#rttMin_ms;
  }

  get jitter_ms(): number {
    return this.#jitter_ms;
  }

  /** Part of the heartbeats that were never answered. */
  get loss_part(): number {
    return this.#sentCount === 0 ? 0 : this.#lostCount / this.#sentCount;
  }

  /** Silence that raises suspicion: above the round trip, which on a full queue is the queue. */
  get suspicion_ms(): number {
    return Math.max(limits.path_silent_ms_min, 1.5 * (this.#rtt_ms ?? 0) + 4 * this.#jitter_ms + 50);
  }

  /** The same while a flow is under way. */
  get #suspicionInFlow_ms(): number {
    if (!this.#isAnswered || this.#rtt_ms === null) return this.suspicion_ms;
    return Math.max(limits.path_silent_in_flow_ms_min, 2 * (this.#rtt_ms + 4 * this.#jitter_ms + ACKNOWLEDGEMENT_DELAY_MS));
  }

  /** Anything came from the peer, at `at`. True if that ends a suspicion. */
  heard(at: number): boolean {
    if (at <= this.#heard) return false;
    this.#heard = at;
    const wasSuspect = this.#suspect;
    this.#suspect = false;
    return wasSuspect;
  }

  /** Whether octets are outstanding now; `progressed` when the peer has just acknowledged some. */
  outstanding(now: number, isOutstanding: boolean, progressed = false): void {
    if (!isOutstanding) this.#outstandingSince = null;
    else if (this.#outstandingSince === null) this.#outstandingSince = now;
    if (progressed || !isOutstanding) this.#patience = 1;
  }

  /** Octets of a flow came that has not ended; of a bulk flow they are as good as progress of our own. */
  expect(isBulk: boolean): void {
    this.#isExpecting = true;
    if (isBulk) this.#patience = 1;
  }

  /** A round trip, milliseconds, measured by an echo, by the governor's reports or by the transport. */
  measured(rtt_ms: number): void {
    if (rtt_ms < 0 || rtt_ms > 600_000) return;
    if (this.#rtt_ms === null) {
      this.#rtt_ms = rtt_ms;
      this.#jitter_ms = rtt_ms / 4;
    } else {
      this.#jitter_ms += (Math.abs(rtt_ms - this.#rtt_ms) - this.#jitter_ms) / 4;
      this.#rtt_ms += (rtt_ms - this.#rtt_ms) / 8;
    }
    this.#rttMin_ms = Math.min(this.#rttMin_ms ?? rtt_ms, rtt_ms);
  }

  /** The sequence number of the heartbeat that is being sent. */
  heartbeatSent(now: number): number {
    this.#sentCount++;
    this.#unanswered++;
    this.#awaitingSince ??= now;
    this.#retryAt = now + Math.max(limits.heartbeat_retry_ms, 3 * (this.#rtt_ms ?? 0));
    this.#sentAt = now;
    this.#nextHeartbeat = this.#nextAt(now);
    this.#patience = Math.min(this.#patience * 2, 64);
    return ++this.#sequence;
  }

  /**
   * After a while with jitter, at a tick that is the same for all channels of this host: those that fall due together leave in one wake-up of its program, which costs more than
   * all else of a heartbeat.
   */
  #nextAt(now: number): number {
    const least_ms = this.#cadence_ms * (1 - limits.heartbeat_jitter_part);
    const after_ms = least_ms + this.#random.unit() * 2 * limits.heartbeat_jitter_part * this.#cadence_ms;
    const tick = Math.floor((now + after_ms) / limits.heartbeat_tick_ms) * limits.heartbeat_tick_ms;
    return tick < now + least_ms ? tick + limits.heartbeat_tick_ms : tick;
  }

  /** The peer has sent its heartbeat, and this end's would be due within its jitter: it leaves along with the echo. */
  accompany(now: number): boolean {
    return this.#unanswered === 0 && now >= this.#sentAt + this.#cadence_ms * (1 - limits.heartbeat_jitter_part);
  }

  /** From now on a heartbeat is due so often. A shorter cadence counts at once. */
  setCadence(now: number, cadence_ms: number): void {
    if (cadence_ms === this.#cadence_ms) return;
    this.#cadence_ms = cadence_ms;
    this.#nextHeartbeat = Math.min(this.#nextHeartbeat, this.#nextAt(now));
  }

  echo(sequence: number, rtt_ms: number): void {
    if (sequence <= this.#answeredSequence || sequence > this.#sequence) return;
    this.#lostCount += sequence - this.#answeredSequence - 1;
    this.#answeredSequence = sequence;
    this.#unanswered = 0;
    this.#retryAt = null;
    this.#awaitingSince = null;
    this.#isExpecting = false;
    this.measured(rtt_ms);
  }

  pollTimeout(): number {
    let at = Math.min(this.#nextHeartbeat, this.#questionAt());
    if (this.#retryAt !== null) at = Math.min(at, this.#retryAt);
    if (!this.#suspect) at = Math.min(at, this.#suspectAt());
    return at;
  }

  /** When outstanding octets have been met by silence long enough to ask. */
  #questionAt(): number {
    if (!this.#isInFlow || this.#unanswered > 0) return Number.POSITIVE_INFINITY;
    return Math.max(this.#heard, this.#outstandingSince ?? 0) + (this.#suspicionInFlow_ms / 2) * this.#patience;
  }

  /** Octets are outstanding, or more of them should come. */
  get #isInFlow(): boolean {
    return this.#outstandingSince !== null || this.#isExpecting;
  }

  #suspectAt(): number {
    if (this.#awaitingSince === null) return Number.POSITIVE_INFINITY;
    const at = Math.max(this.#heard, this.#awaitingSince) + this.suspicion_ms;
    if (!this.#isAnswered || !this.#isInFlow) return at;
    // Counted from what was heard last; but whoever is asked has time for the answer.
    const inFlow_ms = this.#suspicionInFlow_ms;
    return Math.min(at, Math.max(this.#heard + inFlow_ms, this.#awaitingSince + inFlow_ms / 2));
  }

  handleTimeout(now: number): LivenessAction | null {
    if (!this.#suspect && now >= this.#suspectAt()) {
      this.#suspect = true;
      return 'suspect';
    }
    if (this.#retryAt !== null && now >= this.#retryAt) {
      const isSilent = now - this.#heard >= limits.heartbeat_retry_ms * limits.heartbeat_retries_max;
      // A transport that acknowledges by itself is alive also when the program behind it hangs, but only for so long.
      const isHanging = this.#awaitingSince !== null && now - this.#awaitingSince >= limits.heartbeat_unanswered_ms_max;
      const isDead = this.#unanswered > limits.heartbeat_retries_max && (isSilent || isHanging);
      return isDead ? 'dead' : 'send_heartbeat';
    }
    return now >= this.#nextHeartbeat || now >= this.#questionAt() ? 'send_heartbeat' : null;
  }
}
