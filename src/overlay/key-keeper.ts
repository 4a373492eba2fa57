/** This host's ring of WireGuard keys as it is now: kept in the sealed store, stepped through a rotation. The decisions are in keys.ts. */
import { SelvedgeError } from '../base/errors.ts';
import type { SecretStore } from '../identity/signer.ts';
import type { Timers } from '../transport/system.ts';
import { type KeyRing, nextStep, readKeyRing, saveKeyRing, withNewKey } from './keys.ts';

export interface KeyKeeperOptions {
  readonly secrets: SecretStore;
  readonly timers: Timers;
  readonly age_ms_max: number;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

export interface KeyUse {
  /** How long the tower has known the newest key. */
  readonly published_ms_ago: number | null;
  readonly oldUsed_ms_ago: number | null;
}

export class KeyKeeper {
  readonly #options: KeyKeeperOptions;
  #ring: KeyRing;
  #isSaving = false;

  /** @throws store_damaged */
  constructor(options: KeyKeeperOptions) {
    this.#options = options;
    this.#ring = readKeyRing(options.secrets);
  }

  get ring(): KeyRing {
    return this.#ring;
  }

  /** Makes or drops a key where it is time to. True: the ring is another one. @throws disk_full */
  async step({ published_ms_ago, oldUsed_ms_ago }: KeyUse): Promise<boolean> {
    const { timers, age_ms_max } = this.#options;
    const step = nextStep(this.#ring, { now_ms: timers.clock.wall(), age_ms_max, published_ms_ago, oldUsed_ms_ago });
    if (step === 'none' || this.#isSaving) return false;
    await this.#save(step === 'make' ? withNewKey(this.#ring, timers.clock.wall()) : this.#ring.slice(0, 1));
    return true;
  }

  /** Begins a rotation now. @throws argument_invalid while one is under way, disk_full */
  async rotate(): Promise<void> {
    if (this.#ring.length > 1 || this.#isSaving)
      throw new SelvedgeError('argument_invalid', { name: 'rotate-key', why: 'the last rotation is not over: the older key may still be in use' });
    await this.#save(withNewKey(this.#ring, this.#options.timers.clock.wall()));
  }

  async #save(ring: KeyRing): Promise<void> {
    this.#isSaving = true;
    try {
      await saveKeyRing(this.#options.secrets, ring);
      this.#ring = ring;
    } finally {
      this.#isSaving = false;
    }
    this.#options.log('WireGuard keys changed', { keys: ring.length, newest: ring[0]?.publicKey ?? null });
  }
}
