/**
 * Passes carried packets on between two hosts that have no channel with each other: a flow of service `carry` that names another node goes on to that node, both ways,
 * until either end goes. The packets are sealed; who talks to whom and how much is all that can be seen here. Whether two may is asked before, and again when told to.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { CARRY_SERVICE, type CarryGreeting, type CarryMesh, hearGreeting, openCarry } from '../transport/carry/greeting.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { Timers } from '../transport/system.ts';
import { Pipe } from './pipe.ts';
import { Turns } from './turns.ts';

export interface CarryRelayOptions {
  readonly mesh: CarryMesh;
  readonly timers: Timers;
  /** Whether this may be passed on. Asked for each flow. @throws policy_denied, rate_limited */
  readonly judge: (greeting: CarryGreeting) => Promise<void>;
  /** Whether what is passed on still may be. @throws policy_denied */
  readonly judgeAgain: (greeting: CarryGreeting) => Promise<void>;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

interface Pair {
  readonly greeting: CarryGreeting;
  readonly near: FlowHandle;
  readonly far: FlowHandle;
  readonly pipes: readonly Pipe[];
}

export interface CarryFacts {
  readonly from: string;
  readonly to: string;
  /** Octets passed on, from who opened it and back. */
  readonly bytes: readonly number[];
}

export class CarryRelay {
  readonly #options: CarryRelayOptions;
  readonly #turns: Turns;
  /** By who opened it, and to whom. */
  readonly #pairs = new Map<string, Map<string, Pair>>();
  readonly #greeting = new Map<string, Set<FlowHandle>>();
  #count = 0;
  #isClosed = false;

  constructor(options: CarryRelayOptions) {
    this.#options = options;
    this.#turns = new Turns(options.timers);
    options.mesh.handle(CARRY_SERVICE, (flow) => {
      this.#accept(flow).catch((error: unknown) => {
        const { code, message } = asSelvedgeError(error, 'internal_error', { what: 'passing packets on' });
        flow.reset(code, message);
        if (!this.#isClosed) options.log('carried flow refused', { node: flow.peer, code, reason: message });
      });
    });
  }

  /** What is passed on now. */
  get pairs(): readonly CarryFacts[] {
    return this.#all().map(({ greeting, pipes }) => ({ ...greeting, bytes: pipes.map(({ taken }) => taken) }));
  }

  /** @throws as hearGreeting and `judge`; limit_reached, wrong_node, not_connected */
  async #accept(near: FlowHandle): Promise<void> {
    const { timers, judge } = this.#options;
    if (this.#isClosed) throw new SelvedgeError('shutting_down');
    const waiting = this.#greeting.get(near.peer) ?? new Set();
    checkBelow(waiting.size, 'carry_greetings_per_peer_max');
    this.#greeting.set(near.peer, waiting.add(near));
    try {
      const { greeting, rest } = await hearGreeting(near, timers);
      if (greeting.from !== near.peer) throw new SelvedgeError('wrong_node', { found: near.peer, expected: greeting.from });
      if (greeting.to === greeting.from) throw new SelvedgeError('flow_refused', { why: 'a node needs nobody to carry packets to itself' });
      await judge(greeting);
      if (this.#isClosed) throw new SelvedgeError('shutting_down');
      this.#start(near, greeting, rest);
    } finally {
      waiting.delete(near);
      if (waiting.size === 0) this.#greeting.delete(near.peer);
    }
  }

  #start(near: FlowHandle, greeting: CarryGreeting, rest: Uint8Array): void {
    const { mesh, timers } = this.#options;
    const own = this.#pairs.get(greeting.from) ?? new Map<string, Pair>();
    // One that comes anew has given up on what it had.
    const before = own.get(greeting.to);
    if (before) this.#end(before, new SelvedgeError('replaced'));
    checkBelow(own.size, 'carry_pairs_per_node_max');
    checkBelow(this.#count, 'carry_pairs_max');
    const far = openCarry(mesh, greeting.to, greeting);
    const common = {
      timers,
      turns: this.#turns,
      share: () => Math.floor(limits.carry_relay_bytes_max / (2 * this.#count)),
      onFailure: (error: SelvedgeError) => this.#end(pair, error),
    };
    this.#count++;
    const pipes = [new Pipe({ ...common, source: near, target: far }, rest), new Pipe({ ...common, source: far, target: near }, null)];
    const pair: Pair = { greeting, near, far, pipes };
    this.#pairs.set(greeting.from, own.set(greeting.to, pair));
    for (const flow of [near, far]) void flow.closed.then((error) => this.#end(pair, error));
  }

  /** Both flows end with the same word; without one, both have finished. */
  #end(pair: Pair, error: SelvedgeError | null): void {
    const { near, far, pipes, greeting } = pair;
    const own = this.#pairs.get(greeting.from);
    if (own?.get(greeting.to) !== pair) return;
    own.delete(greeting.to);
    if (own.size === 0) this.#pairs.delete(greeting.from);
    this.#count--;
    for (const pipe of pipes) pipe.end();
    for (const flow of [near, far]) {
      if (error === null) flow.end();
      else flow.reset(error.code, error.message);
    }
  }

  /** Asks again about what is passed on for these nodes, and ends what may no longer be. Null: about everything. */
  async recheck(nodes: ReadonlySet<string> | null): Promise<void> {
    const concerned = this.#all().filter(({ greeting }) => nodes === null || nodes.has(greeting.from) || nodes.has(greeting.to));
    for (const pair of concerned) {
      try {
        await this.#options.judgeAgain(pair.greeting);
      } catch (error) {
        this.#end(pair, asSelvedgeError(error, 'policy_denied'));
      }
    }
  }

  #all(): readonly Pair[] {
    return [...this.#pairs.values()].flatMap((own) => [...own.values()]);
  }

  close(): void {
    this.#isClosed = true;
    const why = new SelvedgeError('shutting_down');
    for (const flow of [...this.#greeting.values()].flatMap((flows) => [...flows])) flow.reset(why.code, why.message);
    for (const pair of this.#all()) this.#end(pair, why);
    this.#turns.close();
  }
}

function checkBelow(count: number, limit: 'carry_greetings_per_peer_max' | 'carry_pairs_per_node_max' | 'carry_pairs_max'): void {
  if (count >= limits[limit]) throw new SelvedgeError('limit_reached', { limit, max: limits[limit] });
}
