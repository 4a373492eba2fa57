/** What `selvedge status` tells of app networks: a row for each network, for each peer, and for each thing that is not as it should be. Pure. */
import { isErrorCode, remedyOf } from '../base/errors.ts';
import type { AppSnapshot } from './app-snapshot.ts';
import type { LocalAttachment, Note } from './desired.ts';
import type { NetworkMtu } from './mtu.ts';
import type { PathVerdict } from './path.ts';
import type { HelloAnswer, StatsAnswer, TunnelFailure } from './tunnel-wire.ts';

export interface TunnelStatus {
  readonly is_up: boolean;
  readonly program: string | null;
  readonly pid: number | null;
  readonly engine: string | null;
  readonly generation: number;
  /** Everything that is desired was applied. */
  readonly is_current: boolean;
}

export interface NetworkStatus {
  readonly name: string;
  readonly vni: number;
  readonly mtu: number;
  readonly mtu_why: string;
  readonly addresses: readonly string[];
  readonly members: number;
  readonly attachments: readonly { readonly name: string; readonly netns: string; readonly interface: string; readonly addresses: readonly string[] }[];
  readonly rx_bytes: number | null;
  readonly tx_bytes: number | null;
  /** Packets refused, by cause; causes without any are left out. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface PeerStatus {
  readonly node: string;
  readonly name: string;
  readonly networks: readonly string[];
  readonly path: string;
  readonly why: string;
  readonly endpoint: string | null;
  /** Milliseconds ago; null: never. */
  readonly handshake_ms: number | null;
  readonly rx_bytes: number | null;
  readonly tx_bytes: number | null;
}

export interface Fault {
  readonly code: string;
  readonly what: string;
  readonly why: string;
  readonly remedy: string;
}

export interface AppStatus {
  readonly tunnel: TunnelStatus;
  readonly networks: readonly NetworkStatus[];
  readonly peers: readonly PeerStatus[];
  readonly faults: readonly Fault[];
}

export interface StatusInput {
  readonly node: string;
  readonly app: AppSnapshot;
  readonly hello: HelloAnswer | null;
  readonly engine: string | null;
  readonly generation: number;
  readonly isCurrent: boolean;
  readonly stats: StatsAnswer | null;
  readonly mtus: ReadonlyMap<string, NetworkMtu>;
  readonly attachments: readonly LocalAttachment[];
  readonly verdictOf: (node: string) => PathVerdict | null;
  readonly notes: readonly Note[];
  readonly failures: readonly TunnelFailure[];
}

export function makeStatus(input: StatusInput): AppStatus {
  const { hello, engine, generation, isCurrent, notes, failures, app } = input;
  return {
    tunnel: {
      is_up: hello !== null,
      program: hello?.program ?? null,
      pid: hello?.pid ?? null,
      engine: engine ?? hello?.engine ?? null,
      generation,
      is_current: isCurrent,
    },
    networks: app.networks.map((network) => networkStatus(network, input)),
    peers: app.hosts.map((host) => peerStatus(host, input)),
    faults: [...notes, ...failures].map(faultOf),
  };
}

/** A code of a newer tunnel has its own remedy with it, or none. */
export function faultOf({ code, what, why, remedy }: TunnelFailure): Fault {
  return { code, what, why, remedy: remedy ?? (isErrorCode(code) ? remedyOf(code, what) : 'See the reason.') };
}

function networkStatus({ name, vni, endpoints }: AppSnapshot['networks'][number], { node, mtus, stats, attachments }: StatusInput): NetworkStatus {
  const mtu = mtus.get(name);
  const counters = stats?.networks.find((one) => one.name === name);
  const addressesOf = (attachment: string) => {
    const endpoint = endpoints.find((one) => one.node === node && one.attachment === attachment);
    return [endpoint?.address4, endpoint?.address6].filter((address): address is string => typeof address === 'string');
  };
  return {
    name,
    vni,
    mtu: mtu?.mtu ?? 0,
    mtu_why: mtu?.why ?? '',
    addresses: addressesOf(''),
    members: new Set(endpoints.map((endpoint) => endpoint.node)).size,
    attachments: attachments
      .filter(({ network }) => network === name)
      .map((attachment) => ({ name: attachment.name, netns: attachment.netns, interface: attachment.interface, addresses: addressesOf(attachment.name) })),
    rx_bytes: counters?.rxBytes ?? null,
    tx_bytes: counters?.txBytes ?? null,
    refused: Object.fromEntries(Object.entries(counters?.refused ?? {}).filter(([, count]) => count > 0)),
  };
}

function peerStatus({ node, name }: AppSnapshot['hosts'][number], { app, stats, verdictOf }: StatusInput): PeerStatus {
  const counters = stats?.peers.find((one) => one.node === node);
  const verdict = verdictOf(node);
  const endpoint = counters?.endpoint;
  return {
    node,
    name,
    networks: app.networks.filter(({ endpoints }) => endpoints.some((one) => one.node === node)).map((network) => network.name),
    path: counters?.path ?? verdict?.path ?? 'direct',
    why: verdict?.why ?? counters?.why ?? '',
    endpoint: endpoint ? (endpoint.host.includes(':') ? `[${endpoint.host}]:${endpoint.port}` : `${endpoint.host}:${endpoint.port}`) : null,
    handshake_ms: counters?.latestHandshake_ms ?? null,
    rx_bytes: counters?.rxBytes ?? null,
    tx_bytes: counters?.txBytes ?? null,
  };
}
