/** The path machines of all peers: fed from the tunnel's statistics, the channel table and the peers' words, and what follows from them: the way that carries packets. */
import type { Timers } from '../transport/system.ts';
import type { AppHost } from './app-snapshot.ts';
import type { ChannelFacts, PacketCarrier } from './carrier.ts';
import { PathMachine, type PathVerdict } from './path.ts';
import type { Path, PeerStats } from './tunnel-wire.ts';

export interface PeerPathsOptions {
  readonly timers: Timers;
  readonly carrier: PacketCarrier | null;
  /** A peer's path is another one now. */
  readonly onChange: (node: string, verdict: PathVerdict) => void;
}

const ROUTES = { channel: 'its channel carries them', tower: 'they are carried through the tower' } as const;

export class PeerPaths {
  readonly #options: PeerPathsOptions;
  readonly #peers = new Map<string, PathMachine>();

  constructor(options: PeerPathsOptions) {
    this.#options = options;
  }

  pathOf(node: string): Path {
    return this.#peers.get(node)?.verdict.path ?? 'direct';
  }

  /** With the route, where packets are carried. */
  verdictOf(node: string): PathVerdict | null {
    const { carrier } = this.#options;
    const verdict = this.#peers.get(node)?.verdict ?? null;
    if (verdict === null) return null;
    const denial = carrier?.denialOf(node) ?? null;
    if (denial !== null) return { path: verdict.path, why: `${verdict.why}; not carried: ${denial.message}` };
    if (verdict.path === 'direct') return verdict;
    const state = carrier?.stateOf(node) ?? null;
    return { path: verdict.path, why: `${verdict.why}; ${state === null ? 'the way that carries packets is being opened' : ROUTES[state.route]}` };
  }

  /** Something goes to some peer, and another path could become better at any moment: worth another look soon. */
  get isTalking(): boolean {
    return this.#options.carrier !== null && [...this.#peers.values()].some((machine) => machine.isTalking);
  }

  /** The peers there are now. */
  follow(hosts: readonly AppHost[]): void {
    const nodes = new Set(hosts.map(({ node }) => node));
    for (const node of this.#peers.keys()) if (!nodes.has(node)) this.#peers.delete(node);
    for (const node of nodes) if (!this.#peers.has(node)) this.#peers.set(node, new PathMachine(this.#options.timers.clock.now()));
    this.#options.carrier?.follow(nodes);
  }

  step(hosts: readonly AppHost[], stats: readonly PeerStats[], channels: readonly ChannelFacts[]): void {
    const { carrier, timers } = this.#options;
    const now_ms = timers.clock.now();
    carrier?.channelsAre(channels);
    const statsOf = new Map(stats.map((peer) => [peer.node, peer]));
    const channelOf = new Map(channels.filter(({ state }) => state === 'established' || state === 'degraded').map((channel) => [channel.peer, channel]));
    const momentOf = (age_ms: number | null | undefined) => (age_ms === null || age_ms === undefined ? null : now_ms - age_ms);
    for (const { node, endpoint } of hosts) {
      const machine = this.#peers.get(node);
      const peer = statsOf.get(node);
      if (machine === undefined || peer === undefined) continue;
      const channel = channelOf.get(node);
      const word = carrier?.stateOf(node)?.peer;
      const before = machine.verdict.path;
      const { path } = machine.step(now_ms, {
        canCarry: (carrier?.routeTo(node) ?? null) !== null,
        isUdpFailing: channel !== undefined && (channel.suspect || channel.transport === 'tcp'),
        hasEndpoint: endpoint !== null || (peer.endpoint ?? null) !== null,
        txBytes: peer.txBytes,
        directHeard_ms: momentOf(peer.directHeard_ms),
        carriedHeard_ms: momentOf(peer.carriedHeard_ms),
        peerHears: word?.hears ?? null,
        peerWants: word?.wants ?? null,
      });
      carrier?.say(node, { wants: path === 'carried', hears: machine.hears });
      if (path !== before) this.#options.onChange(node, machine.verdict);
    }
  }

  /** No peer any more; the ways end. */
  clear(): void {
    this.#peers.clear();
    this.#options.carrier?.follow(new Set());
  }

  close(): void {
    this.#peers.clear();
    this.#options.carrier?.close();
  }
}
