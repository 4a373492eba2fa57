/** The path machines of all peers: fed from the tunnel's statistics and the channel table, and what follows from them: the way that carries packets. */
import type { Timers } from '../transport/system.ts';
import type { AppHost } from './app-snapshot.ts';
import type { CarriedWay, PacketCarrier } from './carrier.ts';
import { PathMachine, type PathVerdict } from './path.ts';
import type { Path, PeerStats } from './tunnel-wire.ts';

/** Of a channel, what tells something about the way to its peer. */
export interface ChannelFacts {
  readonly peer: string;
  readonly state: string;
  readonly transport: string | null;
  readonly suspect: boolean;
}

export interface PeerPathsOptions {
  readonly timers: Timers;
  readonly carrier: PacketCarrier | null;
  readonly carrySocketPath: string;
  /** A peer's path is another one now. */
  readonly onChange: (node: string, verdict: PathVerdict) => void;
}

interface Tracked {
  readonly machine: PathMachine;
  way: CarriedWay | null;
}

export class PeerPaths {
  readonly #options: PeerPathsOptions;
  readonly #peers = new Map<string, Tracked>();

  constructor(options: PeerPathsOptions) {
    this.#options = options;
  }

  pathOf(node: string): Path {
    return this.#peers.get(node)?.machine.verdict.path ?? 'direct';
  }

  verdictOf(node: string): PathVerdict | null {
    return this.#peers.get(node)?.machine.verdict ?? null;
  }

  /** The peers there are now. */
  follow(hosts: readonly AppHost[]): void {
    const nodes = new Set(hosts.map(({ node }) => node));
    for (const [node, { way }] of this.#peers) {
      if (nodes.has(node)) continue;
      way?.close();
      this.#peers.delete(node);
    }
    for (const node of nodes) if (!this.#peers.has(node)) this.#peers.set(node, { machine: new PathMachine(this.#options.timers.clock.now()), way: null });
  }

  step(hosts: readonly AppHost[], stats: readonly PeerStats[], channels: readonly ChannelFacts[]): void {
    const now_ms = this.#options.timers.clock.now();
    const statsOf = new Map(stats.map((peer) => [peer.node, peer]));
    const channelOf = new Map(channels.filter(({ state }) => state === 'established').map((channel) => [channel.peer, channel]));
    const momentOf = (age_ms: number | null | undefined) => (age_ms === null || age_ms === undefined ? null : now_ms - age_ms);
    for (const { node, endpoint } of hosts) {
      const tracked = this.#peers.get(node);
      const peer = statsOf.get(node);
      if (tracked === undefined || peer === undefined) continue;
      const channel = channelOf.get(node);
      const before = tracked.machine.verdict.path;
      const verdict = tracked.machine.step(now_ms, {
        canCarry: this.#options.carrier?.canCarry(node) ?? false,
        isUdpFailing: channel !== undefined && (channel.suspect || channel.transport === 'tcp'),
        hasEndpoint: endpoint !== null || (peer.endpoint ?? null) !== null,
        txBytes: peer.txBytes,
        directHeard_ms: momentOf(peer.directHeard_ms),
        carriedHeard_ms: momentOf(peer.carriedHeard_ms),
      });
      if (verdict.path === before) continue;
      this.#carry(node, tracked, verdict.path);
      this.#options.onChange(node, verdict);
    }
  }

  #carry(node: string, tracked: Tracked, path: Path): void {
    tracked.way?.close();
    const { carrier, carrySocketPath } = this.#options;
    tracked.way = path === 'carried' && carrier !== null ? carrier.carry(node, carrySocketPath) : null;
  }

  close(): void {
    for (const { way } of this.#peers.values()) way?.close();
    this.#peers.clear();
  }
}
