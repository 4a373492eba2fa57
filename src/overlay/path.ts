/**
 * Direct or carried: by which way the sealed packets to one peer go, decided by what was measured. Direct is preferred. A machine that only steps: it is given
 * the time and what is known, and answers with the path and why.
 *
 * WireGuard answers data within 10 s, with an empty packet if need be, and a handshake at once. So silence means something only while something was sent.
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
/** A peer that is heard at least so often by UDP is there; the other end probes every 2 to 5 s while it carries. */
const DIRECT_FRESH_MS = 6_000;
/** How long direct must be heard before it is trusted again, at first; doubled each time that it fails soon after. */
const HOLD_MS_MIN = 4_000;
const HOLD_MS_MAX = 300_000;
/** A direct path that held so long has earned its first trust back. */
const STEADY_MS = 600_000;

const HEARD = 'UDP gets through';

export class PathMachine {
  #path: Path = 'direct';
  #why = 'not measured yet';
  #since_ms: number;
  #lastTxBytes: number | null = null;
  /** Since when something was sent and nothing came; null: no question is open. */
  #asked_ms: number | null = null;
  /** Since when direct has been heard without a break; null: it is not. */
  #heardSince_ms: number | null = null;
  #hold_ms = HOLD_MS_MIN;

  constructor(now_ms: number) {
    this.#since_ms = now_ms;
  }

  get verdict(): PathVerdict {
    return { path: this.#path, why: this.#why };
  }

  step(now_ms: number, facts: PathFacts): PathVerdict {
    this.#observe(now_ms, facts);
    if (this.#path === 'direct') this.#judgeDirect(now_ms, facts);
    else this.#judgeCarried(now_ms, facts);
    this.#lastTxBytes = facts.txBytes;
    return this.verdict;
  }

  #observe(now_ms: number, { txBytes, directHeard_ms, carriedHeard_ms }: PathFacts): void {
    // Counters that went back are those of a tunnel that was started anew.
    const hasSent = this.#lastTxBytes !== null && txBytes > this.#lastTxBytes;
    const heard_ms = this.#path === 'direct' ? directHeard_ms : latest(directHeard_ms, carriedHeard_ms);
    if (this.#asked_ms !== null && heard_ms !== null && heard_ms >= this.#asked_ms) this.#asked_ms = null;
    if (hasSent && this.#asked_ms === null && (heard_ms === null || heard_ms < now_ms - 1_000)) this.#asked_ms = now_ms;
    const isFresh = directHeard_ms !== null && now_ms - directHeard_ms <= DIRECT_FRESH_MS;
    this.#heardSince_ms = isFresh ? (this.#heardSince_ms ?? directHeard_ms) : null;
  }

  #judgeDirect(now_ms: number, facts: PathFacts): void {
    const { canCarry, isUdpFailing, hasEndpoint, directHeard_ms, carriedHeard_ms } = facts;
    if (now_ms - this.#since_ms >= STEADY_MS) this.#hold_ms = HOLD_MS_MIN;
    const wasHeard = directHeard_ms !== null && directHeard_ms > this.#since_ms;
    const isFresh = directHeard_ms !== null && now_ms - directHeard_ms <= DIRECT_FRESH_MS;
    if (!canCarry) {
      this.#why = isFresh ? HEARD : hasEndpoint ? 'nothing else could carry it' : 'no address of the peer is known, and nothing could carry packets to it';
      return;
    }
    if (!hasEndpoint && directHeard_ms === null) return this.#move('carried', now_ms, 'the peer has no address for UDP');
    const isPeerCarrying = carriedHeard_ms !== null && now_ms - carriedHeard_ms <= DIRECT_FRESH_MS && carriedHeard_ms > this.#since_ms;
    if (isPeerCarrying && !isFresh) return this.#move('carried', now_ms, 'the peer sends no more by UDP');
    const patience_ms = isUdpFailing ? SHORT_PATIENCE_MS : wasHeard ? PATIENCE_MS : FIRST_PATIENCE_MS;
    if (this.#asked_ms !== null && now_ms - this.#asked_ms >= patience_ms) {
      return this.#move(
        'carried',
        now_ms,
        `no answer by UDP for ${Math.round((now_ms - this.#asked_ms) / 100) / 10} s${isUdpFailing ? ', nor for the channel' : ''}`,
      );
    }
    this.#why = wasHeard || isFresh ? HEARD : 'no answer yet';
  }

  #judgeCarried(now_ms: number, { canCarry }: PathFacts): void {
    if (!canCarry) return this.#move('direct', now_ms, 'the channel that carried it is gone');
    if (this.#heardSince_ms === null || now_ms - this.#heardSince_ms < this.#hold_ms) return;
    this.#move('direct', now_ms, 'heard by UDP again');
    this.#hold_ms = Math.min(2 * this.#hold_ms, HOLD_MS_MAX);
  }

  #move(path: Path, now_ms: number, why: string): void {
    this.#path = path;
    this.#why = why;
    this.#since_ms = now_ms;
    this.#asked_ms = null;
    this.#heardSince_ms = null;
  }
}

function latest(left: number | null, right: number | null): number | null {
  return left === null ? right : right === null ? left : Math.max(left, right);
}
