/** What this host's own network lets through towards its peers, as the tunnel found it. Pure. */
import { limits } from '../base/limits.ts';

/** The way to a peer; null: there is none that is known. */
type WayTo = { readonly mtu: number } | null | undefined;

export class UnderlayTable {
  #mtus = new Map<string, number>();

  /** The smallest towards any peer; null: nothing is known yet. */
  get mtu(): number | null {
    return this.#mtus.size === 0 ? null : Math.min(...this.#mtus.values());
  }

  /** True: it changes what `mtu` says. A way that is gone for now leaves what it was: a route that flaps shall not change every member's MTU. */
  set(node: string, way: WayTo): boolean {
    const before = this.mtu;
    if (way) this.#mtus.set(node, bounded(way.mtu));
    return this.mtu !== before;
  }

  /** All peers at once. True: it changes what `mtu` says. */
  replace(peers: readonly { readonly node: string; readonly underlay?: WayTo }[]): boolean {
    const before = this.mtu;
    const next = new Map<string, number>();
    for (const { node, underlay } of peers) {
      const mtu = underlay ? bounded(underlay.mtu) : this.#mtus.get(node);
      if (mtu !== undefined) next.set(node, mtu);
    }
    if (next.size > 0) this.#mtus = next;
    return this.mtu !== before;
  }
}

/** A loopback device has more than a packet can be long. */
function bounded(mtu: number): number {
  return Math.min(Math.max(mtu, limits.app_mtu_bytes_min), limits.app_mtu_bytes_max);
}
