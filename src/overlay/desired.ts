/**
 * What should be on this host, from what the tower says (the snapshot), the keys of the sealed store, and the attachments of this host. The snapshot is the
 * authority for addresses and MACs; what is asked for here and not known there waits, and a note says so. Pure: equal input gives an equal text.
 */
import { BlockList, isIPv4 } from 'node:net';
import type { ErrorCode } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { isHostAddress } from '../transport/host-address.ts';
import type { AppEndpoint, AppHost, AppNetwork, AppSnapshot, Underlay } from './app-snapshot.ts';
import { hasRoomForIpv6, innerMtu, isUsable, MTU_MIN, type NetworkMtu, networkMtu } from './mtu.ts';
import { bridgeName, tapName, vethName } from './names.ts';
import type { DesiredState, EngineChoice, Neighbour, Path, TunnelAttachment, TunnelNetwork, TunnelPeer } from './tunnel-wire.ts';

/** A namespace of this host that is on a network. Its addresses are the tower's to say. */
export interface LocalAttachment {
  readonly network: string;
  readonly name: string;
  readonly netns: string;
  readonly interface: string;
}

export interface DesiredInput {
  /** `CLUSTER/NODE`: whose devices these are. */
  readonly owner: string;
  readonly self: { readonly node: string; readonly name: string; readonly underlay: Underlay | null };
  readonly app: AppSnapshot;
  readonly engine: EngineChoice;
  readonly fwmark: number;
  /** Newest first. */
  readonly keys: DesiredState['wireguard']['keys'];
  readonly attachments: readonly LocalAttachment[];
  readonly pathOf: (node: string) => Path;
}

/** What could not be asked of the tunnel, and why. */
export interface Note {
  readonly code: ErrorCode;
  /** As the tunnel names it: `network NAME`, `attachment NETWORK/NAME`, `peer NODE`. */
  readonly what: string;
  readonly why: string;
}

export interface DesiredOutcome {
  readonly desired: DesiredState;
  /** MTU of each network, and why; of those too that are not made. */
  readonly mtus: ReadonlyMap<string, NetworkMtu>;
  readonly notes: readonly Note[];
}

export function makeDesired(input: DesiredInput): DesiredOutcome {
  const { app, owner, engine, fwmark, keys } = input;
  const notes: Note[] = [];
  const mtus = new Map<string, NetworkMtu>();
  const isInside = insideOf(app.networks);
  const peers = sorted(app.hosts, ({ node }) => node).flatMap((host) => makePeer(host, isInside, input, notes));
  const hosts = new Map(app.hosts.map((host) => [host.node, host]));
  const vteps = new Map(peers.map(({ node, vtep }) => [node, vtep]));
  const networks: TunnelNetwork[] = [];
  const taken = new Set<number>();
  for (const network of sorted(app.networks, ({ name }) => name)) {
    const narrow = narrowOf(network, hosts, input);
    const mtu = mtuOf(network, hosts, narrow, input);
    mtus.set(network.name, mtu);
    const made = taken.has(network.vni)
      ? refuse(`another network has its VNI ${network.vni}`, network, notes)
      : makeNetwork(network, { mtu, narrow, vteps }, input, notes);
    if (made === null) continue;
    taken.add(network.vni);
    networks.push(made);
  }
  for (const attachment of input.attachments) {
    if (app.networks.some(({ name }) => name === attachment.network)) continue;
    notes.push({ code: 'not_found', what: `attachment ${attachment.network}/${attachment.name}`, why: 'this node is no member of the network' });
  }
  return { desired: { owner, wireguard: { engine, keys, fwmark, vtep: app.vtep }, peers, networks }, mtus, notes };
}

/**
 * The members that have no room for IPv6 in a network where this host and others have it. They must not take it away from the others by saying so, and do
 * not count for the MTU; they have IPv4 alone there, and TCP goes by the MSS that they announce. Where this host itself is such a one, nobody is.
 */
function narrowOf({ subnet6, endpoints }: AppNetwork, hosts: ReadonlyMap<string, AppHost>, { self }: DesiredInput): ReadonlySet<string> {
  if (subnet6 === null || !hasRoomForIpv6(self.underlay)) return new Set();
  return new Set(endpoints.flatMap(({ node }) => (node === self.node || hasRoomForIpv6(hosts.get(node)?.underlay ?? null) ? [] : [node])));
}

function mtuOf(network: AppNetwork, hosts: ReadonlyMap<string, AppHost>, narrow: ReadonlySet<string>, { self }: DesiredInput): NetworkMtu {
  const members = [...new Set(network.endpoints.map(({ node }) => node))].flatMap((node) => {
    if (node === self.node) return [{ name: self.name, ...self.underlay }];
    const host = hosts.get(node);
    // It has no such network itself, and must not take it away from the others by saying so.
    if (narrow.has(node) || (host?.underlay && !isUsable(host.underlay))) return [];
    return [{ name: host?.name ?? node, ...host?.underlay }];
  });
  return networkMtu(members, network.mtu);
}

interface Found {
  readonly mtu: NetworkMtu;
  readonly narrow: ReadonlySet<string>;
  readonly vteps: ReadonlyMap<string, string>;
}

function makeNetwork(network: AppNetwork, { mtu, narrow, vteps }: Found, input: DesiredInput, notes: Note[]): TunnelNetwork | null {
  const { name, vni, learning, subnet4, subnet6 } = network;
  const mine = sorted(
    network.endpoints.filter(({ node }) => node === input.self.node),
    ({ attachment }) => attachment,
  );
  const host = mine.find(({ attachment }) => attachment === '');
  if (host === undefined) return refuse('the tower gave this node no address in it', network, notes);
  if (mtu.mtu < MTU_MIN) return refuse(`an MTU of ${mtu.mtu} is less than IPv4 needs (${mtu.why})`, network, notes, 'mtu_too_small');
  const withIpv6 = subnet6 !== null && mtu.fitsIpv6;
  if (subnet6 !== null && !mtu.fitsIpv6)
    notes.push({ code: 'mtu_too_small', what: `network ${name}`, why: `IPv6 is left out: an MTU of ${mtu.mtu} (${mtu.why})` });
  for (const node of sorted([...narrow], (one) => one)) notes.push(narrowNote(node, network, input));
  const plain = ({ node, address4, address6 }: AppEndpoint) => [address4, withIpv6 && !narrow.has(node) ? address6 : null].filter((one) => one !== null);
  const withPrefix = ({ address4, address6 }: AppEndpoint) => [
    ...(address4 !== null && subnet4 !== null ? [`${address4}/${prefixOf(subnet4)}`] : []),
    ...(address6 !== null && withIpv6 ? [`${address6}/${prefixOf(subnet6)}`] : []),
  ];
  return {
    name,
    vni,
    bridge: bridgeName(vni),
    tap: tapName(vni),
    mtu: mtu.mtu,
    mac: host.mac,
    addresses: withPrefix(host),
    learning,
    broadcast_pps: limits.app_broadcast_pps_max,
    remote: sorted(network.endpoints, ({ mac }) => mac).flatMap((endpoint) => {
      // Of a host without a key there is no peer, and nothing can be sent there.
      const vtep = endpoint.node === input.self.node ? undefined : vteps.get(endpoint.node);
      return vtep === undefined ? [] : [{ mac: endpoint.mac, addresses: plain(endpoint), vtep }];
    }),
    local: sorted(mine, ({ mac }) => mac).map((endpoint): Neighbour => ({ mac: endpoint.mac, addresses: plain(endpoint) })),
    attachments: attachmentsOf(network, mine, withPrefix, input, notes),
  };
}

function narrowNote(node: string, { name }: AppNetwork, { app }: DesiredInput): Note {
  const underlay = app.hosts.find((host) => host.node === node)?.underlay;
  const figure = underlay ? `its underlay of ${underlay.mtu} leaves ${innerMtu(underlay)}` : 'its underlay is too small';
  return { code: 'mtu_too_small', what: `peer ${node}`, why: `${figure}: it has no IPv6 in network ${name}, and may not get larger datagrams` };
}

function attachmentsOf(
  network: AppNetwork,
  mine: readonly AppEndpoint[],
  addressesOf: (endpoint: AppEndpoint) => string[],
  input: DesiredInput,
  notes: Note[],
): TunnelAttachment[] {
  const wanted = input.attachments.filter((attachment) => attachment.network === network.name);
  return sorted(wanted, ({ name }) => name).flatMap(({ name, netns, interface: interfaceName }) => {
    const endpoint = mine.find(({ attachment }) => attachment === name);
    if (endpoint === undefined) {
      notes.push({ code: 'not_found', what: `attachment ${network.name}/${name}`, why: 'the tower has not given it an address yet, or takes it for gone' });
      return [];
    }
    return [{ name, netns, interface: interfaceName, mac: endpoint.mac, addresses: addressesOf(endpoint), host: vethName(network.name, name) }];
  });
}

/** Whether an address belongs to a network of this host. */
function insideOf(networks: readonly AppNetwork[]): (address: string) => boolean {
  const inside = { ipv4: new BlockList(), ipv6: new BlockList() };
  for (const { subnet4, subnet6 } of networks) {
    if (subnet4 !== null) inside.ipv4.addSubnet(addressOf(subnet4), prefixOf(subnet4), 'ipv4');
    if (subnet6 !== null) inside.ipv6.addSubnet(addressOf(subnet6), prefixOf(subnet6), 'ipv6');
  }
  return (address) => (isIPv4(address) ? inside.ipv4.check(address, 'ipv4') : inside.ipv6.check(address, 'ipv6'));
}

function makePeer(
  { node, vtep, keys, endpoint, underlay }: AppHost,
  isInside: (address: string) => boolean,
  { pathOf }: DesiredInput,
  notes: Note[],
): TunnelPeer[] {
  if (keys.length === 0) {
    notes.push({ code: 'not_connected', what: `peer ${node}`, why: 'it has published no WireGuard key yet' });
    return [];
  }
  const path = pathOf(node);
  const objection = endpoint === null ? null : endpointObjection(endpoint.host, isInside);
  if (objection !== null) notes.push({ code: 'unsupported', what: `peer ${node}`, why: objection });
  if (underlay !== null && !isUsable(underlay))
    notes.push({ code: 'mtu_too_small', what: `peer ${node}`, why: `its underlay of ${underlay.mtu} is too small for any app network` });
  const address = endpoint === null || objection !== null ? null : { host: endpoint.host, port: endpoint.port };
  // More often while packets are carried: what arrives directly is what brings the direct path back.
  const keepalive_s = address === null ? 0 : path === 'carried' ? limits.wireguard_probe_s : limits.wireguard_keepalive_s;
  return [{ node, vtep, keys: [...keys], endpoint: address, path, keepalive_s }];
}

/** A host says itself where it is: what it says may cost the others that host, and nothing else. */
function endpointObjection(host: string, isInside: (address: string) => boolean): string | null {
  if (!isHostAddress(host)) return `it advertises '${host}', which is not the IP address of one host`;
  // Packets would be sealed and sent into the network that they came from, there to be sealed again.
  return isInside(host) ? `it advertises ${host}, which is inside an app network of this host` : null;
}

function refuse(why: string, { name }: AppNetwork, notes: Note[], code: ErrorCode = 'document_invalid'): null {
  notes.push({ code, what: `network ${name}`, why });
  return null;
}

function addressOf(subnet: string): string {
  return subnet.slice(0, subnet.indexOf('/'));
}

function prefixOf(subnet: string): number {
  return Number(subnet.slice(subnet.indexOf('/') + 1));
}

function sorted<T>(list: readonly T[], keyOf: (value: T) => string): T[] {
  return list.toSorted((left, right) => (keyOf(left) < keyOf(right) ? -1 : keyOf(left) > keyOf(right) ? 1 : 0));
}
