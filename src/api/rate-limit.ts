/**
 * How often somebody may ask, before anything is known of them: a bucket of tokens per name (an address, a node), refilled evenly. Its memory
 * is bounded: when there is no room for another name, the one that asked longest ago is forgotten.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Clock } from '../base/seam.ts';

interface Bucket {
  tokens: number;
  at_ms: number;
}

const MINUTE_MS = 60_000;

export class RateLimit {
  readonly #clock: Clock;
  readonly #per_minute: number;
  readonly #names_max: number;
  /** In the order of asking, so that the first is the one to forget. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(given: { clock: Clock; per_minute: number; names_max?: number }) {
    this.#clock = given.clock;
    this.#per_minute = given.per_minute;
    this.#names_max = given.names_max ?? limits.rate_limit_addresses_max;
  }

  /** @throws rate_limited, with the time until the next may pass */
  take(name: string): void {
    const now = this.#clock.now();
    const before = this.#buckets.get(name) ?? { tokens: this.#per_minute, at_ms: now };
    const per_ms = this.#per_minute / MINUTE_MS;
    const tokens = Math.min(this.#per_minute, before.tokens + (now - before.at_ms) * per_ms);
    const allowed = tokens >= 1;
    this.#remember(name, { tokens: allowed ? tokens - 1 : tokens, at_ms: now });
    if (!allowed) throw new SelvedgeError('rate_limited', { peer: name, ms: Math.ceil((1 - tokens) / per_ms) });
  }

  get size(): number {
    return this.#buckets.size;
  }

  #remember(name: string, bucket: Bucket): void {
    this.#buckets.delete(name);
    if (this.#buckets.size >= this.#names_max) {
      const oldest = this.#buckets.keys().next();
      if (!oldest.done) this.#buckets.delete(oldest.value);
    }
    this.#buckets.set(name, bucket);
  }
}
