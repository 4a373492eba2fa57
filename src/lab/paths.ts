/** What a topology says about the way from a node to the tower. Pure. */
import { SelvedgeError } from '../base/errors.ts';
import type { Host, Link, Topology } from './topology.ts';

/** The next hops of a node's routes: where a firewall would drop its UDP. */
export function gatewaysOf(topology: Topology, node: string): readonly Host[] {
  const via = new Set(topology.hosts.get(node)?.routes.map((route) => route.via));
  return [...topology.hosts.values()].filter((host) => host.interfaces.some((entry) => entry.address !== null && via.has(addressOf(entry.address))));
}

export interface Bottleneck {
  readonly link: Link;
  readonly mbit: number;
}

/** The slowest link of a node or its gateways, in the direction away from it. @throws lab_failed if none has a rate */
export function bottleneckOf(topology: Topology, node: string): Bottleneck {
  const near = [node, ...gatewaysOf(topology, node).map((host) => host.name)];
  let slowest: Bottleneck | null = null;
  for (const link of topology.links.values()) {
    const rate_bps = near.includes(link.ends[0]) ? link.forward.rate_bps : near.includes(link.ends[1]) ? link.backward.rate_bps : null;
    if (rate_bps !== null && (slowest === null || rate_bps / 1e6 < slowest.mbit)) slowest = { link, mbit: rate_bps / 1e6 };
  }
  if (!slowest) throw new SelvedgeError('lab_failed', { why: `no link of ${near.join(' or ')} has a rate` });
  return slowest;
}

/** An address without its prefix length. */
export function addressOf(cidr: string): string {
  return cidr.split('/')[0] ?? cidr;
}
