/**
 * The MTU inside an app network: what the underlay leaves after every header that a frame gets on its way. Every member computes it from the same
 * snapshot and comes to the same figure, since a frame that one member may send another must be able to receive; those alone that have no room for the
 * network's IPv6 go by a figure of their own, so that what one says of itself does not take IPv6 from the others. Pure.
 */
import type { Underlay } from './app-snapshot.ts';

/** Octets of headers, from the outside in. */
const IPV4 = 20;
const IPV6 = 40;
const UDP = 8;
/** Type, receiver and counter (16), and the tag of the authentication (16). */
const WIREGUARD = 32;
const VXLAN = 8;
const ETHERNET = 14;
/** Within WireGuard: the VTEPs have IPv4 addresses. */
const INNER = IPV4 + UDP + VXLAN + ETHERNET;

/** RFC 8200, section 5: no link for IPv6 has less; Linux turns IPv6 off on one that has. */
const IPV6_MTU_MIN = 1_280;
/** RFC 791: what every IPv4 host takes. A network of less is not made. */
export const MTU_MIN = 576;
/** Of a host that has not said. */
const UNDERLAY_DEFAULT: Underlay = { mtu: 1_500, ipv4_only: false };

export interface Member extends Partial<Underlay> {
  /** For the reason. */
  readonly name: string;
}

export interface NetworkMtu {
  readonly mtu: number;
  /** IPv6 works on a link of this MTU. */
  readonly fitsIpv6: boolean;
  /** Where the figure comes from, in words. */
  readonly why: string;
}

/** What two hosts leave each other: the smaller underlay, less headers. IPv6 only where both have it. */
function between(left: Required<Member>, right: Required<Member>): number {
  const outer = left.ipv4_only || right.ipv4_only ? IPV4 : IPV6;
  return Math.min(left.mtu, right.mtu) - outer - UDP - WIREGUARD - INNER;
}

/** What an underlay leaves a network. */
export function innerMtu({ mtu, ipv4_only }: Underlay): number {
  return mtu - (ipv4_only ? IPV4 : IPV6) - UDP - WIREGUARD - INNER;
}

/** Whether an underlay leaves a network what it needs to be made. */
export function isUsable(underlay: Underlay): boolean {
  return innerMtu(underlay) >= MTU_MIN;
}

/** Whether an underlay leaves a network what IPv6 needs. Of a host that has not said: yes. */
export function hasRoomForIpv6(underlay: Underlay | null): boolean {
  return innerMtu(underlay ?? UNDERLAY_DEFAULT) >= IPV6_MTU_MIN;
}

/** The worst pair of members decides, and an operator's limit (`limit`) under it. */
export function networkMtu(members: readonly Member[], limit: number | null): NetworkMtu {
  const known = members.map((member): Required<Member> => ({ ...UNDERLAY_DEFAULT, ...member }));
  const bySize = (hosts: readonly Required<Member>[]) => hosts.toSorted((left, right) => left.mtu - right.mtu || (left.name < right.name ? -1 : 1));
  // The worst pair has the smallest underlay of all, or the smallest of those that may use IPv6 among themselves: no need to look at each pair.
  const all = bySize(known);
  const maybeIpv6 = bySize(known.filter((member) => !member.ipv4_only));
  const pairs = [all, maybeIpv6].flatMap(([host, other]) => {
    const partner = other ?? (known.length === 1 ? host : undefined);
    return host && partner ? [{ host, mtu: between(host, partner) }] : [];
  });
  const worst = pairs.reduce((low, pair) => (pair.mtu < low.mtu ? pair : low), pairs[0] ?? { host: { name: 'this host', ...UNDERLAY_DEFAULT }, mtu: MTU_MIN });
  const headers = worst.host.mtu - worst.mtu;
  const figure = `underlay of ${worst.host.mtu} at ${worst.host.name}, less ${headers} of headers (${headers === IPV6 + UDP + WIREGUARD + INNER ? 'IPv6 may carry it' : 'IPv4 carries it'})`;
  if (limit !== null && limit < worst.mtu) return verdict(limit, `the operator's limit; without it ${worst.mtu}: ${figure}`);
  return verdict(worst.mtu, figure);
}

function verdict(mtu: number, why: string): NetworkMtu {
  if (mtu >= IPV6_MTU_MIN) return { mtu, fitsIpv6: true, why };
  return { mtu, fitsIpv6: false, why: `${why}; under the ${IPV6_MTU_MIN} that IPv6 needs` };
}
