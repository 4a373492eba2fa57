/**
 * Brings the tunnel to the state that is desired: one `apply` at a time, always the newest, again after every restart of the tunnel, and again after a while for
 * what failed. The tunnel compares with what is there and changes only what differs. No clock but the timers given.
 */
import { asSelvedgeError, type SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Timers } from '../transport/system.ts';
import type { ApplyAnswer, DesiredState, TunnelFailure } from './tunnel-wire.ts';

export type Apply = (state: DesiredState & { readonly generation: number }) => Promise<ApplyAnswer>;

export interface ReconcilerOptions {
  readonly timers: Timers;
  /** After every apply that was answered. */
  readonly onApplied: (answer: ApplyAnswer) => void;
}

export class Reconciler {
  readonly #options: ReconcilerOptions;
  #desired: DesiredState | null = null;
  #text = '';
  #apply: Apply | null = null;
  /** What this connection has applied; empty: nothing. */
  #appliedText = '';
  #generation = 0;
  #isApplying = false;
  #failures: readonly TunnelFailure[] = [];
  #retry_ms: number = limits.app_retry_ms_base;
  #cancelRetry: () => void = () => {};

  constructor(options: ReconcilerOptions) {
    this.#options = options;
  }

  /** What failed in the last apply. */
  get failures(): readonly TunnelFailure[] {
    return this.#failures;
  }

  get generation(): number {
    return this.#generation;
  }

  /** Whether what is desired now is what was applied last. */
  get isCurrent(): boolean {
    return this.#apply !== null && this.#text === this.#appliedText;
  }

  want(desired: DesiredState): void {
    const text = JSON.stringify(desired);
    if (text === this.#text) return;
    this.#desired = desired;
    this.#text = text;
    this.#retry_ms = limits.app_retry_ms_base;
    this.#step();
  }

  /** A tunnel answers; `generation` is what it has already. Everything is applied once: where it equals what is there, nothing changes. */
  up(apply: Apply, generation: number | null): void {
    this.#apply = apply;
    this.#appliedText = '';
    this.#generation = Math.max(this.#generation, generation ?? 0);
    this.#retry_ms = limits.app_retry_ms_base;
    this.#step();
  }

  down(): void {
    this.#apply = null;
    this.#appliedText = '';
    this.#cancelRetry();
  }

  close(): void {
    this.down();
    this.#desired = null;
    this.#text = '';
    this.#failures = [];
  }

  #step(): void {
    if (this.#isApplying || this.#apply === null || this.#desired === null || this.#text === this.#appliedText) return;
    this.#isApplying = true;
    this.#cancelRetry();
    void this.#run(this.#apply, this.#desired, this.#text);
  }

  async #run(apply: Apply, desired: DesiredState, text: string): Promise<void> {
    let answer: ApplyAnswer | null = null;
    let error: SelvedgeError | null = null;
    try {
      answer = await apply({ generation: ++this.#generation, ...desired });
    } catch (caught) {
      error = asSelvedgeError(caught, 'tunnel_refused', { what: 'selvedge-tunnel' });
    }
    this.#isApplying = false;
    // The tunnel went away meanwhile: the next one is told everything.
    if (this.#apply !== apply) return this.#step();
    this.#failures =
      error === null ? (answer?.failures ?? []) : [{ code: error.code, what: 'the state that is desired', why: error.message, remedy: error.remedy }];
    if (error === null) this.#appliedText = text;
    if (answer !== null) this.#options.onApplied(answer);
    if (this.#failures.length > 0 && this.#text === text) this.#retryLater();
    else this.#step();
  }

  /** A namespace may come, an address may become free: what failed is tried again, ever more seldom. */
  #retryLater(): void {
    this.#cancelRetry = this.#options.timers.after(this.#retry_ms, () => {
      this.#appliedText = '';
      this.#step();
    });
    this.#retry_ms = Math.min(2 * this.#retry_ms, limits.app_retry_ms_max);
  }
}
