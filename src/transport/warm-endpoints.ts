/**
 * In what order the endpoints of one destination are tried (spec 8.2, 8.3): warm ones first, the one that worked last before all; then those of which nothing is known;
 * last those that have failed, went silent or showed the wrong peer since they worked. So whoever worked is kept to, but only while it is healthy and authorized. It
 * orders what the directory tells now, and adds nothing. Pure.
 */
import { limits } from '../base/limits.ts';

interface Record {
  worked_ms: number;
  failed_ms: number;
}

const NEVER = Number.NEGATIVE_INFINITY;

export class WarmEndpoints {
  /** By transport and host. */
  readonly #records = new Map<string, Record>();

  worked(transport: string, host: string, now_ms: number): void {
    this.#of(transport, host).worked_ms = now_ms;
  }

  failed(transport: string, host: string, now_ms: number): void {
    this.#of(transport, host).failed_ms = now_ms;
  }

  /** The one that worked last, over this transport: what was lost when a session of it goes silent; null: none did. */
  latest(transport: string): string | null {
    let latest: { host: string; worked_ms: number } | null = null;
    for (const [key, { worked_ms }] of this.#records) {
      const [name, host] = [key.slice(0, key.indexOf(' ')), key.slice(key.indexOf(' ') + 1)];
      if (name === transport && worked_ms > (latest?.worked_ms ?? NEVER)) latest = { host, worked_ms };
    }
    return latest?.host ?? null;
  }

  /** These, as the directory has them, in the order in which they are tried over a transport. */
  order<Endpoint extends { readonly host: string }>(transport: string, endpoints: readonly Endpoint[]): Endpoint[] {
    const rank = ({ host }: Endpoint): number => {
      const { worked_ms, failed_ms } = this.#records.get(`${transport} ${host}`) ?? { worked_ms: NEVER, failed_ms: NEVER };
      if (failed_ms > worked_ms) return 2;
      return worked_ms > NEVER ? 0 : 1;
    };
    // Where a host is warm over the other transport only, that is better than nothing.
    const worked = ({ host }: Endpoint): number => {
      const ends = [...this.#records].filter(([key]) => key.endsWith(` ${host}`)).map(([, { worked_ms }]) => worked_ms);
      return Math.max(NEVER, ...ends);
    };
    const later = (left: number, right: number): number => (left === right ? 0 : right - left);
    return endpoints.toSorted((left, right) => rank(left) - rank(right) || later(worked(left), worked(right)));
  }

  #of(transport: string, host: string): Record {
    const key = `${transport} ${host}`;
    const record = this.#records.get(key) ?? { worked_ms: NEVER, failed_ms: NEVER };
    this.#records.delete(key);
    this.#records.set(key, record);
    // A directory that changes its addresses again and again.
    if (this.#records.size > 2 * limits.dial_endpoints_max) {
      const [oldest] = this.#records.keys();
      if (oldest !== undefined) this.#records.delete(oldest);
    }
    return record;
  }
}
