/**
 * The scheduler answers one question: which flow may hand the next chunk to the session (spec 5.5)?
 *
 * Tier 0 (`fabric_control`, `input`) before tier 1 (`route_control`, `health`) before tier 2, in which classes share by weight (start-time fair
 * queueing: virtual time advances by octets / weight) and the flows of one class take turns. A floor keeps anyone from starving: of 17 octets
 * of which 16 passed over what waits in a later tier, one is that one's. One lane may take nothing for long while the other does; so the classes of
 * tier 2 share by weight within their lane, and the two lanes by the weights of what is ready in them: who waits for his lane is not forgotten
 * because the other is busy, and has saved nothing either.
 */
import { limits } from '../base/limits.ts';
import { classRow, type TrafficClass } from './classes.ts';

/** What the scheduler sees of a flow. */
export interface Schedulable {
  readonly class: TrafficClass;
}

/** Of a flow: it has nothing to send, or it has and its lane, its credit or the pace does not let it now, or it may. */
export type Standing = 'idle' | 'waits' | 'may';

/** Whose turn it is; `isOverdue`: because too much has passed it over. */
export interface Turn<T> {
  readonly flow: T;
  readonly isOverdue: boolean;
}

/** Octets of higher tiers for one of what they pass over, and how many may pass before that one's turn. */
const PASSED_OVER_PART = 16;
const PASSED_OVER_BYTES_MAX = PASSED_OVER_PART * limits.chunk_bytes_max;

/** Fair shares by weight: each takes part with a virtual time of its own, and the pool's is the start of the one served last, where who was idle joins. */
interface Share {
  virtual: number;
}

class Pool {
  #virtual = 0;

  start({ virtual }: Share): number {
    return Math.max(virtual, this.#virtual);
  }

  serve(share: Share, bytes: number, weight: number): void {
    this.#virtual = this.start(share);
    share.virtual = this.#virtual + bytes / weight;
  }

  least<C extends { readonly share: Share }>(candidates: readonly C[]): C | null {
    return candidates.reduce<C | null>((best, one) => (best === null || this.start(one.share) < this.start(best.share) ? one : best), null);
  }
}

class ClassQueue<T extends Schedulable> implements Share {
  readonly weight: number;
  readonly group: Group;
  virtual = 0;
  flows: T[] = [];
  turn = 0;

  constructor(name: TrafficClass, group: Group) {
    this.weight = classRow(name).weight;
    this.group = group;
  }

  /** The next flow in turn that may send, else whether any would. */
  next(standing: (flow: T) => Standing): T | 'idle' | 'waits' {
    let found: 'idle' | 'waits' = 'idle';
    for (let step = 0; step < this.flows.length; step++) {
      const index = (this.turn + step) % this.flows.length;
      const flow = this.flows[index] as T;
      const own = standing(flow);
      if (own === 'may') {
        this.turn = index;
        return flow;
      }
      if (own === 'waits') found = 'waits';
    }
    return found;
  }
}

/** The classes of one tier and lane. */
class Group implements Share {
  readonly tier: 0 | 1 | 2;
  readonly classes = new Pool();
  virtual = 0;
  /** Octets of earlier tiers while something here wanted to send. */
  passedOver = 0;
  isWanting = false;

  constructor(tier: 0 | 1 | 2) {
    this.tier = tier;
  }
}

/** What may leave of one group. */
interface Ready<T> {
  readonly share: Group;
  /** The classes that have a flow which may send, and that flow. */
  readonly classes: { readonly share: Share; readonly flow: T }[];
  weight: number;
}

const NOBODY: readonly never[] = [];

export class Scheduler<T extends Schedulable> {
  readonly #classes = new Map<TrafficClass, ClassQueue<T>>();
  readonly #lanes = new Pool();
  readonly #groups = { first: new Group(0), second: new Group(1), shared: new Group(2), bulk: new Group(2) } as const;
  readonly #allGroups = Object.values(this.#groups);
  /** Of the group that `next` chose from. */
  #weight = 1;

  add(flow: T): void {
    let queue = this.#classes.get(flow.class);
    if (!queue) {
      queue = new ClassQueue<T>(flow.class, this.#groupOf(flow.class));
      this.#classes.set(flow.class, queue);
    }
    queue.flows.push(flow);
  }

  remove(flow: T): void {
    const queue = this.#classes.get(flow.class);
    const index = queue?.flows.indexOf(flow) ?? -1;
    if (!queue || index < 0) return;
    queue.flows.splice(index, 1);
    if (queue.turn > index) queue.turn--;
    // An empty class is kept with its virtual time: else one flow after another would always be first.
  }

  /** The flow whose chunk leaves next, or null. Tell `sent` what it took before asking again. */
  next(standing: (flow: T) => Standing): Turn<T> | null {
    const ready = this.#look(standing);
    if (ready.length === 0) return null;
    const passed = ready.findLast(({ share }) => share.passedOver >= PASSED_OVER_BYTES_MAX);
    const tier = Math.min(...ready.map(({ share }) => share.tier));
    const chosen = passed ?? this.#lanes.least(ready.filter(({ share }) => share.tier === tier));
    if (chosen === null) return null;
    this.#weight = chosen.weight;
    const flow = chosen.share.classes.least(chosen.classes)?.flow;
    return flow === undefined ? null : { flow, isOverdue: passed !== undefined };
  }

  sent(flow: T, bytes: number): void {
    const queue = this.#classes.get(flow.class);
    if (!queue) return;
    const { group } = queue;
    group.classes.serve(queue, bytes, queue.weight);
    this.#lanes.serve(group, bytes, this.#weight);
    queue.turn = queue.flows.length === 0 ? 0 : (queue.turn + 1) % queue.flows.length;
    group.passedOver = Math.max(0, group.passedOver - PASSED_OVER_PART * bytes);
    for (const other of this.#allGroups) if (other.tier > group.tier) other.passedOver = Math.min(other.passedOver + bytes, 2 * PASSED_OVER_BYTES_MAX);
  }

  /** By group, the later ones last. What wants nothing has nothing that could pass it over. */
  #look(standing: (flow: T) => Standing): readonly Ready<T>[] {
    // Mostly nobody wants anything: then there is nothing to make room for.
    let ready: Map<Group, Ready<T>> | null = null;
    for (const group of this.#allGroups) group.isWanting = false;
    for (const queue of this.#classes.values()) {
      const found = queue.next(standing);
      if (found === 'idle') continue;
      queue.group.isWanting = true;
      if (found === 'waits') continue;
      ready ??= new Map();
      const own = ready.get(queue.group) ?? { share: queue.group, classes: [], weight: 0 };
      own.classes.push({ share: queue, flow: found });
      own.weight += queue.weight;
      ready.set(queue.group, own);
    }
    for (const group of this.#allGroups) if (!group.isWanting) group.passedOver = 0;
    return ready === null ? NOBODY : this.#allGroups.flatMap((group) => ready.get(group) ?? []);
  }

  #groupOf(name: TrafficClass): Group {
    const { tier, bulk } = classRow(name);
    if (tier === 2) return bulk ? this.#groups.bulk : this.#groups.shared;
    return tier === 1 ? this.#groups.second : this.#groups.first;
  }
}
