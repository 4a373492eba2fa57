/**
 * When a link dials again (spec 8.1, 8.4): after a failure with full jitter, each time later up to the cap; exactly when the peer said, where it did. A run of
 * failures to reach it is reported as `backoff_exhausted` with its cause, and tried on at the cap. It dials nothing itself.
 */
import { type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { Backoff } from '../channel/backoff.ts';
import type { RoomContext } from './context.ts';

/** A channel that has lived this long has earned a fresh start of the backoff. */
const SETTLED_MS = 10_000;

/** What a dial meets where nobody answers; whoever answers with a refusal gives the better reason. */
const unanswered: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'network_unreachable',
  'handshake_timeout',
  'tls_handshake_failed',
  'heartbeat_timeout',
  'session_closed',
]);

export class Redial {
  readonly #context: Pick<RoomContext, 'timers' | 'random' | 'log'>;
  readonly #backoff: Backoff;
  readonly #dial: () => void;
  #cancel: (() => void) | null = null;
  #carriedAt: number | null = null;
  /** When the peer has a turn for this host; null: it named none. */
  #turnAt: number | null = null;
  #dueAt: number | null = null;
  #spread_ms = 0;

  /** `dial`: the wait is over. */
  constructor(context: Pick<RoomContext, 'timers' | 'random' | 'log'>, dial: () => void) {
    this.#context = context;
    this.#backoff = new Backoff(context.random);
    this.#dial = dial;
  }

  get attempts(): number {
    return this.#backoff.attempts;
  }

  /** Over how long the peer wants those who come to it to be spread. */
  get spread_ms(): number {
    return this.#spread_ms;
  }

  get isWaiting(): boolean {
    return this.#cancel !== null;
  }

  /** Milliseconds until the next dial; null: none is planned. */
  get left_ms(): number | null {
    return this.#dueAt === null ? null : Math.max(0, Math.round(this.#dueAt - this.#now));
  }

  /** Whether the peer is to be left alone until its turn has come. */
  get isHeldOff(): boolean {
    return this.#turnAt !== null && this.#now < this.#turnAt;
  }

  /** The peer takes those whom it has back over so long; what it says is bounded. */
  spreadOver(return_ms: number): void {
    this.#spread_ms = Math.min(return_ms, limits.admission_wait_ms_max);
  }

  /** A session carries the channel. */
  carried(): void {
    this.#carriedAt = this.#now;
    this.#turnAt = null;
  }

  /** A dial failed. Returns what to show for it. */
  failed(peer: string, error: SelvedgeError): SelvedgeError {
    const { log } = this.#context;
    const attempt = this.#backoff.attempts;
    log('dial failed', { peer, code: error.code, reason: error.message, attempt });
    if (error.code === 'peer_busy') {
      this.#turnAt = this.#now + Math.min(Math.max(0, Number(error.facts.ms) || 0), limits.admission_wait_ms_max);
      return error;
    }
    if (attempt < limits.backoff_attempts_reported || !unanswered.has(error.code)) return error;
    const exhausted = new SelvedgeError('backoff_exhausted', { peer, attempts: attempt, why: error.message }, { cause: error });
    if (attempt === limits.backoff_attempts_reported) log('backoff exhausted', { peer, code: exhausted.code, cause: error.code, reason: error.message });
    return exhausted;
  }

  /** Plans the next dial, in the place of one that was planned. */
  wait(): void {
    this.stop();
    // Once for each channel: what follows are failures of their own.
    if (this.#carriedAt !== null && this.#now - this.#carriedAt > SETTLED_MS) this.#backoff.reset();
    this.#carriedAt = null;
    const delay_ms = this.#turnAt !== null ? Math.max(0, this.#turnAt - this.#now) : this.#backoff.next(this.#spread_ms);
    this.#dueAt = this.#now + delay_ms;
    this.#cancel = this.#context.timers.after(delay_ms, () => {
      this.stop();
      this.#turnAt = null;
      this.#dial();
    });
  }

  /** What was planned is not needed, or begins now. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#dueAt = null;
  }

  get #now(): number {
    return this.#context.timers.clock.now();
  }
}
