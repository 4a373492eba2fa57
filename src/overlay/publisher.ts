/**
 * Tells the tower of this host's WireGuard: its public keys, where it listens, what the underlay is. Said anew on each channel to the tower, whenever it changes,
 * and again after a while where the tower could not take it.
 */
import { asSelvedgeError, type SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { Backoff } from '../channel/backoff.ts';
import type { Timers } from '../transport/system.ts';
import type { Published } from './tower-service.ts';

export interface PublisherOptions {
  readonly publish: (published: Published) => Promise<void>;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

export class Publisher {
  readonly #options: PublisherOptions;
  readonly #backoff: Backoff;
  #wanted: Published | null = null;
  /** What this channel's tower has; null: nothing that we know of. */
  #told: string | null = null;
  #isUp = false;
  #isTelling = false;
  #cancelRetry: () => void = () => {};
  #error: SelvedgeError | null = null;
  /** When each public key was first told, by this daemon. */
  readonly #toldAt_ms = new Map<string, number>();

  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, limits.app_retry_ms_base, limits.app_retry_ms_max);
  }

  /** Why the tower has not been told; null: it has, or there is no channel to it. */
  get error(): SelvedgeError | null {
    return this.#error;
  }

  /** How long the tower has known a key; null: not yet. */
  age_ms(publicKey: string): number | null {
    const at_ms = this.#toldAt_ms.get(publicKey);
    return at_ms === undefined ? null : this.#options.timers.clock.now() - at_ms;
  }

  want(published: Published): void {
    this.#wanted = published;
    this.#tell();
  }

  /** Call it whenever channels have changed. */
  tower(isUp: boolean): void {
    if (isUp === this.#isUp) return;
    this.#isUp = isUp;
    this.#told = null;
    this.#backoff.reset();
    this.#tell();
  }

  #tell(): void {
    const wanted = this.#wanted;
    if (wanted === null || !this.#isUp || this.#isTelling) return;
    const text = JSON.stringify(wanted);
    if (text === this.#told) return;
    this.#isTelling = true;
    this.#cancelRetry();
    void this.#tellNow(wanted, text);
  }

  async #tellNow(wanted: Published, text: string): Promise<void> {
    const { publish, timers, log } = this.#options;
    try {
      await publish(wanted);
      this.#told = text;
      this.#error = null;
      this.#backoff.reset();
      for (const key of this.#toldAt_ms.keys()) if (!wanted.keys.includes(key)) this.#toldAt_ms.delete(key);
      for (const key of wanted.keys) if (!this.#toldAt_ms.has(key)) this.#toldAt_ms.set(key, timers.clock.now());
    } catch (caught) {
      this.#error = asSelvedgeError(caught, 'flow_lost');
      log('tower was not told of WireGuard', { code: this.#error.code, reason: this.#error.message });
    }
    this.#isTelling = false;
    if (this.#error === null) this.#tell();
    else this.#cancelRetry = timers.after(this.#backoff.next(), () => this.#tell());
  }

  close(): void {
    this.#isUp = false;
    this.#cancelRetry();
  }
}
