/**
 * The endpoints of app networks as snapshots tell them, kept between one member's snapshot and the next one's: a change of a network of fifty is told fifty times,
 * and each of those may be in two hundred others that have not changed. What is kept is believed for as long as the network's
 * scope has the version that it was read at; the caller reads that version and the rows in one transaction.
 */
import { limits } from '../base/limits.ts';
import type { AppEndpoint } from '../enroll/app-wire.ts';

interface Kept {
  readonly version: number;
  readonly endpoints: readonly AppEndpoint[];
}

export class AppCache {
  /** In the order of use, so that the first is the one to forget. */
  readonly #kept = new Map<string, Kept>();
  readonly #endpoints_max: number;
  #endpoints = 0;

  constructor(endpoints_max: number = limits.app_cache_endpoints_max) {
    this.#endpoints_max = endpoints_max;
  }

  get(network: string, version: number): readonly AppEndpoint[] | null {
    const kept = this.#kept.get(network);
    if (kept === undefined || kept.version !== version) return null;
    this.#kept.delete(network);
    this.#kept.set(network, kept);
    return kept.endpoints;
  }

  set(network: string, version: number, endpoints: readonly AppEndpoint[]): void {
    this.#forget(network);
    if (endpoints.length > this.#endpoints_max) return;
    this.#kept.set(network, { version, endpoints });
    this.#endpoints += endpoints.length;
    for (const oldest of this.#kept.keys()) {
      if (this.#endpoints <= this.#endpoints_max) break;
      this.#forget(oldest);
    }
  }

  /** Endpoints held. */
  get size(): number {
    return this.#endpoints;
  }

  #forget(network: string): void {
    this.#endpoints -= this.#kept.get(network)?.endpoints.length ?? 0;
    this.#kept.delete(network);
  }
}
