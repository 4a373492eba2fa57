/**
 * What metrics count of app networks: a row for each network and for each peer, of the tunnel's statistics as they were read last. However many there are, only so many
 * have a row of their own; the others are summed up in one. Pure.
 */
import { limits } from '../base/limits.ts';
import type { AppSnapshot } from './app-snapshot.ts';
import { type RefusalReason, refusalReasons, type StatsAnswer } from './tunnel-wire.ts';

/** The label of what has no row of its own: no name of a network, and no id of a node, has this form. */
export const OTHERS = '_other';

export interface NetworkCounters {
  readonly network: string;
  /** Inner frames, in octets: from this host into the network, and from the network to this host. */
  readonly sent: number;
  readonly received: number;
  /** Frames that got nowhere. */
  readonly refused: ReadonlyMap<RefusalReason, number>;
}

export interface PeerCounters {
  readonly node: string;
  readonly name: string;
  /** Sealed packets, in octets. */
  readonly sent: number;
  readonly received: number;
  /** Sealed packets that found no room: in the tunnel's queue, or on the way that carries them. */
  readonly queueDropped: number;
  readonly carryDropped: number;
  /** Null in the row of all others. */
  readonly path: 'direct' | 'carried' | null;
  /** Since the last handshake; null: there was none. In the row of all others, the oldest. */
  readonly handshake_ms: number | null;
}

export interface AppCounters {
  readonly isTunnelUp: boolean;
  /** How many there are. */
  readonly networkCount: number;
  readonly networks: readonly NetworkCounters[];
  readonly peers: readonly PeerCounters[];
  /** Of all peers. */
  readonly paths: Readonly<Record<'direct' | 'carried', number>>;
}

export interface CountersInput {
  readonly app: AppSnapshot | null;
  /** Null: no tunnel runs. */
  readonly stats: StatsAnswer | null;
  readonly pathOf: (node: string) => 'direct' | 'carried';
  readonly droppedTo: (node: string) => number;
}

export function makeCounters({ app, stats, pathOf, droppedTo }: CountersInput): AppCounters {
  const networksOf = new Map(stats?.networks.map((row) => [row.name, row]));
  const peersOf = new Map(stats?.peers.map((row) => [row.node, row]));
  const networks = (app?.networks ?? []).map(({ name }): NetworkCounters => {
    const { txBytes = 0, rxBytes = 0, refused = {} } = networksOf.get(name) ?? {};
    return { network: name, sent: txBytes, received: rxBytes, refused: refusals(refused) };
  });
  const peers = (app?.hosts ?? []).map(({ node, name }): PeerCounters => {
    const { txBytes = 0, rxBytes = 0, dropped = 0, latestHandshake_ms = null } = peersOf.get(node) ?? {};
    const own = { node, name, sent: txBytes, received: rxBytes, queueDropped: dropped, carryDropped: droppedTo(node) };
    return { ...own, path: pathOf(node), handshake_ms: latestHandshake_ms ?? null };
  });
  const carried = peers.filter(({ path }) => path === 'carried').length;
  return {
    isTunnelUp: stats !== null,
    networkCount: networks.length,
    networks: bounded(networks, limits.metric_networks_max, ({ network }) => network, addNetworks),
    peers: bounded(peers, limits.metric_peers_max, ({ node }) => node, addPeers),
    paths: { direct: peers.length - carried, carried },
  };
}

/** A reason of a newer tunnel that is not known here counts as `other`. */
function refusals(refused: Readonly<Record<string, number>>): Map<RefusalReason, number> {
  const counts = new Map<RefusalReason, number>();
  for (const [name, count] of Object.entries(refused)) {
    const reason = refusalReasons.find((one) => one === name) ?? 'other';
    counts.set(reason, (counts.get(reason) ?? 0) + count);
  }
  return counts;
}

/** The first by key keep their rows, so that counters seldom change places; the rest is one row. */
function bounded<Row>(rows: readonly Row[], max: number, keyOf: (row: Row) => string, add: (rest: readonly Row[]) => Row): readonly Row[] {
  if (rows.length <= max) return rows;
  const sorted = [...rows].sort((left, right) => (keyOf(left) < keyOf(right) ? -1 : 1));
  return [...sorted.slice(0, max), add(sorted.slice(max))];
}

function addNetworks(rest: readonly NetworkCounters[]): NetworkCounters {
  const refused = new Map<RefusalReason, number>();
  for (const [reason, count] of rest.flatMap((row) => [...row.refused])) refused.set(reason, (refused.get(reason) ?? 0) + count);
  return { network: OTHERS, sent: sum(rest, ({ sent }) => sent), received: sum(rest, ({ received }) => received), refused };
}

function addPeers(rest: readonly PeerCounters[]): PeerCounters {
  return {
    node: OTHERS,
    name: OTHERS,
    sent: sum(rest, ({ sent }) => sent),
    received: sum(rest, ({ received }) => received),
    queueDropped: sum(rest, ({ queueDropped }) => queueDropped),
    carryDropped: sum(rest, ({ carryDropped }) => carryDropped),
    path: null,
    handshake_ms: rest.reduce<number | null>((oldest, { handshake_ms }) => (handshake_ms === null ? oldest : Math.max(oldest ?? 0, handshake_ms)), null),
  };
}

function sum<Row>(rows: readonly Row[], of: (row: Row) => number): number {
  return rows.reduce((total, row) => total + of(row), 0);
}
