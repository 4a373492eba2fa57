/** `PacketCarrier` over the mesh: a way for each peer that needs one, and the flows of service `carry` that peers open, judged before anything of theirs reaches the tunnel. */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import type { CarryWord } from '../transport/carry/frames.ts';
import { CARRY_SERVICE, type CarryMesh, hearGreeting } from '../transport/carry/greeting.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { Timers } from '../transport/system.ts';
import { CarriedPeer } from './carried-peer.ts';
import type { CarriedState, CarryRoute, ChannelFacts, PacketCarrier } from './carrier.ts';

export interface FlowCarrierOptions {
  readonly self: string;
  readonly mesh: CarryMesh;
  /** The tunnel's carry socket. */
  readonly socketPath: string;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

export class FlowCarrier implements PacketCarrier {
  readonly #options: FlowCarrierOptions;
  readonly #peers = new Map<string, CarriedPeer>();
  #nodes: ReadonlySet<string> = new Set();
  /** Flows of which the greeting has not come, by who opened them. */
  readonly #greeting = new Map<string, Set<FlowHandle>>();
  #listener: () => void = () => undefined;
  /** Nodes with an established channel, and whether it is silent at the moment. */
  #channels: ReadonlyMap<string, { readonly suspect: boolean }> = new Map();
  #isClosed = false;

  constructor(options: FlowCarrierOptions) {
    this.#options = options;
    options.mesh.handle(CARRY_SERVICE, (flow) => {
      this.#accept(flow).catch((error: unknown) => {
        const { code, message } = asSelvedgeError(error, 'flow_refused');
        flow.reset(code, message);
        if (!this.#isClosed) options.log('carried path refused', { peer: flow.peer, code, reason: message });
      });
    });
  }

  onChange(listener: () => void): void {
    this.#listener = listener;
  }

  follow(nodes: ReadonlySet<string>): void {
    this.#nodes = nodes;
    for (const [node, peer] of this.#peers) {
      if (nodes.has(node)) {
        peer.rulesChanged();
        continue;
      }
      this.#peers.delete(node);
      peer.close(new SelvedgeError('policy_denied', { why: 'no common app network any more' }));
    }
  }

  /** A channel that is silent holds what it is given until it has found another session: then rather through the tower. */
  routeTo(node: string): CarryRoute | null {
    if (this.#peers.get(node)?.isDenied) return null;
    const own = this.#channels.get(node);
    const tower = this.#channels.get(TOWER_ID);
    if (own?.suspect === false) return 'channel';
    if (tower?.suspect === false) return 'tower';
    return own ? 'channel' : tower ? 'tower' : null;
  }

  say(node: string, word: CarryWord): void {
    // A peer that nobody wants to be carried to needs no place here.
    if (word.wants || this.#peers.has(node)) this.#peer(node)?.say(word);
  }

  stateOf(node: string): CarriedState | null {
    return this.#peers.get(node)?.state ?? null;
  }

  denialOf(node: string): SelvedgeError | null {
    return this.#peers.get(node)?.denial ?? null;
  }

  droppedTo(node: string): number {
    return this.#peers.get(node)?.dropped ?? 0;
  }

  channelsAre(channels: readonly ChannelFacts[]): void {
    this.#channels = new Map(channels.filter(({ state }) => state === 'established' || state === 'degraded').map((channel) => [channel.peer, channel]));
    for (const peer of this.#peers.values()) peer.channelsChanged();
  }

  /** @throws as hearGreeting; limit_reached, wrong_node, policy_denied */
  async #accept(flow: FlowHandle): Promise<void> {
    const { self, timers } = this.#options;
    if (this.#isClosed) throw new SelvedgeError('shutting_down');
    const waiting = this.#greeting.get(flow.peer) ?? new Set();
    const max = limits.carry_greetings_per_peer_max;
    if (waiting.size >= max) throw new SelvedgeError('limit_reached', { limit: 'carry_greetings_per_peer_max', max });
    this.#greeting.set(flow.peer, waiting.add(flow));
    try {
      const { greeting, rest } = await hearGreeting(flow, timers);
      if (this.#isClosed) throw new SelvedgeError('shutting_down');
      if (greeting.to !== self) throw new SelvedgeError('wrong_node', { found: self, expected: greeting.to });
      // The tower has checked who it is that asked it to pass this on; nobody else may speak for another.
      if (greeting.from !== flow.peer && flow.peer !== TOWER_ID) throw new SelvedgeError('wrong_node', { found: flow.peer, expected: greeting.from });
      const peer = this.#peer(greeting.from);
      if (peer === null) throw new SelvedgeError('policy_denied', { why: 'no common app network' });
      peer.take(flow, rest, flow.peer === greeting.from ? 'channel' : 'tower');
    } finally {
      waiting.delete(flow);
      if (waiting.size === 0) this.#greeting.delete(flow.peer);
    }
  }

  /** Null for who is not to be carried to. */
  #peer(node: string): CarriedPeer | null {
    if (!this.#nodes.has(node) || this.#isClosed) return null;
    const known = this.#peers.get(node);
    if (known) return known;
    const peer = new CarriedPeer({ ...this.#options, node, routeTo: (to) => this.routeTo(to), onChange: () => this.#listener() });
    this.#peers.set(node, peer);
    return peer;
  }

  close(): void {
    this.#isClosed = true;
    const why = new SelvedgeError('shutting_down');
    for (const flow of [...this.#greeting.values()].flatMap((flows) => [...flows])) flow.reset(why.code, why.message);
    for (const peer of this.#peers.values()) peer.close(why);
    this.#peers.clear();
  }
}
