/**
 * Direct or carried: by which way the sealed packets to one peer go, decided by what was measured. Direct is preferred. A machine that only steps: it is given
 * the time and what is known, and answers with the path and why.
 *
 * WireGuard answers data within 10 s, with an empty packet if need be, and a handshake at once. So silence means something only while something was sent; and where
 * each step so far was answered at once, as in any TCP flow, a short silence means as much as a long one elsewhere. What one end cannot see, whether its own packets
 * arrive, the other end says on the carried path.
 */
import type { Path } from './tunnel-wire.ts';

export interface PathFacts {
  /** A channel to the peer is up, by which packets could be carried. */
  readonly canCarry: boolean;
  /** The channel to the peer had to use TCP: UDP does not get through, or not now. */
  readonly isUdpFailing: boolean;
  /** There is an address to send to. */
  readonly hasEndpoint: boolean;
  /** Sealed octets that went to the peer, by whichever way. */
  readonly txBytes: number;
  /** When something of the peer came by UDP, on the clock of `step`; null: never. */
  readonly directHeard_ms: number | null;
  /** The same for the carried way. */
  readonly carriedHeard_ms: number | null;
  /** What the peer says on the carried path: whether it hears this end by UDP. Null: no carried path is open, or it has not said. */
  readonly peerHears: boolean | null;
  /** Whether the peer itself sends by the carried path; null as before. */
  readonly peerWants: boolean | null;
}

export interface PathVerdict {
  readonly path: Path;
  readonly why: string;
}

/** A first handshake takes a round trip and is repeated after 5 s. */
const FIRST_PATIENCE_MS = 3_000;
/** Data is answered after 10 s at the latest. */
const PATIENCE_MS = 12_000;
/** With the channel's own word that UDP fails. */
const SHORT_PATIENCE_MS = 1_500;
/** Where what was sent used to be answered at once. */
const BRISK_PATIENCE_MS = 700;
/** Of the last steps in which something was sent, at least so many were answered in the same step. */
const BRISK_STEPS = 8;
const BRISK_ANSWERED_MIN = 6;
/** A peer that is heard at least so often by UDP is there; the other end probes every 2 to 5 s while it carries. */
const DIRECT_FRESH_MS = 6_000;
/** How long direct must be heard before it is trusted again, at first; doubled each time that it fails soon after. */
const HOLD_MS_MIN = 4_000;
const HOLD_MS_MAX = 300_000;
/** A direct path that held so long has earned its first trust back. */
const STEADY_MS = 600_000;

/** Less than this is WireGuard's own keepalives, 32 octets each, which nobody answers; a sealed frame is larger, and so is a handshake. */
const QUESTION_BYTES_MIN = 112;
/** Who says nothing for so long is not talking any more. */
const PAUSE_MS = 2_000;

const HEARD = 'UDP gets through';

export class PathMachine {
  #path: Path = 'direct';
  #why = 'not measured yet';
  #since_ms: number;
  #stepped_ms: number;
  #lastTxBytes: number | null = null;
  /** Since when something was sent and nothing came; null: no question is open. */
  #asked_ms: number | null = null;
  /** Of the last steps in which something was sent: whether something came, too. */
  #answers: boolean[] = [];
  /** What was heard by UDP before this says nothing about now: packets have been carried since. */
  #distrusted_ms = Number.NEGATIVE_INFINITY;
  /** Since when direct has been heard without a break; null: it is not. */
  #heardSince_ms: number | null = null;
  #hold_ms = HOLD_MS_MIN;
  #isTalking = false;
  #talked_ms = Number.NEGATIVE_INFINITY;

  constructor(now_ms: number) {
    this.#since_ms = now_ms;
    this.#stepped_ms = now_ms;
  }

  get verdict(): PathVerdict {
    return { path: this.#path, why: this.#why };
  }

  /** UDP of the peer gets through to this end: what the peer is to be told. */
  get hears(): boolean {
    return this.#heardSince_ms !== null;
  }

  /** Something was sent in the last step: worth another look soon, since an answer is due. */
  get isTalking(): boolean {
    return this.#isTalking;
  }

  step(now_ms: number, facts: PathFacts): PathVerdict {
    this.#observe(now_ms, facts);
    if (this.#path === 'direct') this.#judgeDirect(now_ms, facts);
    else this.#judgeCarried(now_ms, facts);
    this.#lastTxBytes = facts.txBytes;
    this.#stepped_ms = now_ms;
    return this.verdict;
  }

  #observe(now_ms: number, { txBytes, directHeard_ms, carriedHeard_ms }: PathFacts): void {
    // Counters that went back are those of a tunnel that was started anew.
    const hasSent = this.#lastTxBytes !== null && txBytes - this.#lastTxBytes >= QUESTION_BYTES_MIN;
    const wasTalking = this.#isTalking;
    this.#isTalking = hasSent;
    // A peer that carries answers by that way, also what reached it by UDP.
    const heard_ms = latest(directHeard_ms, carriedHeard_ms);
    const isAnswered = heard_ms !== null && heard_ms > this.#stepped_ms;
    // What was answered at once before a pause says nothing of what comes after it.
    if (hasSent) this.#talked_ms = now_ms;
    else if (now_ms - this.#talked_ms > PAUSE_MS) this.#answers = [];
    if (this.#asked_ms !== null && heard_ms !== null && heard_ms > this.#asked_ms) this.#asked_ms = null;
    if (hasSent && this.#asked_ms === null) {
      // In the middle of talking the question was open from the step before on; the first word after a pause is as new as can be.
      if (!isAnswered) this.#asked_ms = this.#isBrisk && wasTalking && heard_ms !== null ? Math.max(heard_ms, this.#stepped_ms) : now_ms;
      this.#answers = [...this.#answers, isAnswered].slice(-BRISK_STEPS);
    }
    const isFresh = directHeard_ms !== null && now_ms - directHeard_ms <= DIRECT_FRESH_MS && directHeard_ms > this.#distrusted_ms;
    this.#heardSince_ms = isFresh ? (this.#heardSince_ms ?? directHeard_ms) : null;
  }

  get #isBrisk(): boolean {
    return this.#answers.filter((isAnswered) => isAnswered).length >= BRISK_ANSWERED_MIN;
  }

  #judgeDirect(now_ms: number, facts: PathFacts): void {
    const { canCarry, isUdpFailing, hasEndpoint, directHeard_ms, peerHears } = facts;
    if (now_ms - this.#since_ms >= STEADY_MS) this.#hold_ms = HOLD_MS_MIN;
    const wasHeard = directHeard_ms !== null && directHeard_ms > this.#since_ms;
    if (!canCarry) {
      this.#why = this.hears ? HEARD : hasEndpoint ? 'nothing else could carry it' : 'no address of the peer is known, and nothing could carry packets to it';
      return;
    }
    if (!hasEndpoint && directHeard_ms === null) return this.#move('carried', now_ms, 'the peer has no address for UDP');
    if (peerHears === false) return this.#move('carried', now_ms, 'the peer hears nothing by UDP');
    const patience_ms = this.#isBrisk ? BRISK_PATIENCE_MS : isUdpFailing ? SHORT_PATIENCE_MS : wasHeard ? PATIENCE_MS : FIRST_PATIENCE_MS;
    if (this.#asked_ms !== null && now_ms - this.#asked_ms >= patience_ms) {
      const silent_s = Math.round((now_ms - this.#asked_ms) / 100) / 10;
      return this.#move('carried', now_ms, `no answer by UDP for ${silent_s} s${isUdpFailing ? ', nor for the channel' : ''}`);
    }
    this.#why = wasHeard || this.hears ? HEARD : 'no answer yet';
  }

  #judgeCarried(now_ms: number, { canCarry, peerHears, peerWants }: PathFacts): void {
    if (!canCarry) return this.#move('direct', now_ms, 'the channel that carried it is gone');
    // A peer that trusts UDP again, and hears it, is followed.
    const hold_ms = peerWants === false && peerHears === true ? HOLD_MS_MIN : this.#hold_ms;
    if (peerHears === false || this.#heardSince_ms === null || now_ms - this.#heardSince_ms < hold_ms) return;
    this.#move('direct', now_ms, 'heard by UDP again');
    this.#hold_ms = Math.min(2 * this.#hold_ms, HOLD_MS_MAX);
  }

  #move(path: Path, now_ms: number, why: string): void {
    this.#path = path;
    this.#why = why;
    this.#since_ms = now_ms;
    this.#asked_ms = null;
    this.#answers = [];
    if (path === 'direct') return;
    this.#distrusted_ms = now_ms;
    this.#heardSince_ms = null;
  }
}

function latest(left: number | null, right: number | null): number | null {
  return left === null ? right : right === null ? left : Math.max(left, right);
}
