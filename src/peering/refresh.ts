/** When a link follows its session by another because a certificate is new: at a moment of its own, so that a renewed tower is not dialed by everybody at once. */
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import type { VerifiedPeer } from '../identity/verify.ts';
import type { Timers } from '../transport/system.ts';

export class Refresh {
  readonly #timers: Timers;
  readonly #random: Random;
  #cancel: (() => void) | null = null;
  #running: AbortController | null = null;

  constructor(timers: Timers, random: Random) {
    this.#timers = timers;
    this.#random = random;
  }

  /** The peer shows another leaf now than the session in use was judged by. */
  isDue(leaf: Uint8Array | undefined, verified: VerifiedPeer | null): boolean {
    return leaf !== undefined && verified !== null && !equalBytes(leaf, verified.fingerprint);
  }

  later(action: () => void): void {
    if (this.#cancel === null) this.within(limits.leaf_refresh_ms_max, action);
  }

  /** Within this time, whatever was planned. */
  within(ms: number, action: () => void): void {
    this.#cancel?.();
    this.#cancel = this.#timers.after(this.#random.unit() * ms, () => {
      this.#cancel = null;
      action();
    });
  }

  /** This one counts; an earlier one is given up. */
  begin(running: AbortController): void {
    this.stop();
    this.#running = running;
  }

  stop(): void {
    this.#cancel?.();
    this.#cancel = null;
    this.#running?.abort();
    this.#running = null;
  }
}
