/** What a dialer remembers of each destination: which endpoints worked and which failed, and whether and why UDP did not. Bounded; the least lately used goes first. */
import { limits } from '../base/limits.ts';
import { UdpHold } from './udp-hold.ts';
import { WarmEndpoints } from './warm-endpoints.ts';

export interface DialMemory {
  readonly endpoints: WarmEndpoints;
  /** When UDP is worth a try again. */
  readonly udpHold: UdpHold;
  /** Why UDP did not work last time, in words; null if it did, or was not tried. */
  udpWhy: string | null;
  /** Since when UDP does not work, by the clock's `now`. */
  udpLost_ms: number | null;
}

export class DialMemories {
  readonly #byKey = new Map<string, DialMemory>();
  readonly #max: number;

  constructor(max: number = limits.dial_memory_destinations_max) {
    this.#max = max;
  }

  get size(): number {
    return this.#byKey.size;
  }

  of(key: string): DialMemory {
    const memory = this.#byKey.get(key) ?? { endpoints: new WarmEndpoints(), udpHold: new UdpHold(), udpWhy: null, udpLost_ms: null };
    this.#byKey.delete(key);
    this.#byKey.set(key, memory);
    if (this.#byKey.size > this.#max) {
      const [oldest] = this.#byKey.keys();
      if (oldest !== undefined) this.#byKey.delete(oldest);
    }
    return memory;
  }
}
