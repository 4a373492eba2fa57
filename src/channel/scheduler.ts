/**
 * The scheduler answers one question: which flow may hand the next chunk to the session (spec 5.5)?
 *
 * Tier 0 (`fabric_control`, `input`) before tier 1 (`route_control`, `health`) before tier 2, in which classes share by weight
 * (start-time fair queueing: a class's virtual time advances by octets / weight) and the flows of one class take turns. A floor keeps
 * anyone from starving: of every 16 chunks' worth of octets that passed over a waiting lower tier, one chunk is the lower tier's.
 */
import { limits } from '../base/limits.ts';
import { classRow, type TrafficClass } from './classes.ts';

/** What the scheduler sees of a flow. */
export interface Schedulable {
  readonly class: TrafficClass;
}

/** Octets of higher tiers that may pass a waiting lower tier before it has one turn. */
const PASSED_OVER_BYTES_MAX = 16 * limits.chunk_bytes_max;

class ClassQueue<T extends Schedulable> {
  readonly weight: number;
  readonly tier: 0 | 1 | 2;
  virtual = 0;
  flows: T[] = [];
  turn = 0;

  constructor(name: TrafficClass) {
    const row = classRow(name);
    this.weight = row.weight;
    this.tier = row.tier;
  }

  /** The next flow in turn that can send, or null. */
  next(canSend: (flow: T) => boolean): T | null {
    for (let step = 0; step < this.flows.length; step++) {
      const index = (this.turn + step) % this.flows.length;
      const flow = this.flows[index] as T;
      if (canSend(flow)) {
        this.turn = index;
        return flow;
      }
    }
    return null;
  }
}

export class Scheduler<T extends Schedulable> {
  readonly #classes = new Map<TrafficClass, ClassQueue<T>>();
  /** Virtual time of each tier: the start of the class served last. A class that was idle joins here and has saved nothing. */
  readonly #virtual: [number, number, number] = [0, 0, 0];
  #passedOver: [number, number, number] = [0, 0, 0];

  add(flow: T): void {
    let queue = this.#classes.get(flow.class);
    if (!queue) {
      queue = new ClassQueue<T>(flow.class);
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

  /** The flow whose chunk leaves next, or null. `canSend`: it has octets and credit, and its lane takes them now. Tell `sent` what it took before asking again. */
  next(canSend: (flow: T) => boolean): T | null {
    const best: [Candidate<T> | null, Candidate<T> | null, Candidate<T> | null] = [null, null, null];
    for (const queue of this.#classes.values()) {
      const flow = queue.next(canSend);
      if (flow === null) continue;
      const start = Math.max(queue.virtual, this.#virtual[queue.tier]);
      const held: Candidate<T> | null = best[queue.tier];
      if (held === null || start < held.start) best[queue.tier] = { flow, start };
    }
    for (const tier of [2, 1] as const) if (best[tier] !== null && this.#passedOver[tier] >= PASSED_OVER_BYTES_MAX) return best[tier].flow;
    for (const tier of [1, 2] as const) if (best[tier] === null) this.#passedOver[tier] = 0;
    return (best[0] ?? best[1] ?? best[2])?.flow ?? null;
  }

  sent(flow: T, bytes: number): void {
    const queue = this.#classes.get(flow.class);
    if (!queue) return;
    const start = Math.max(queue.virtual, this.#virtual[queue.tier]);
    this.#virtual[queue.tier] = start;
    queue.virtual = start + bytes / queue.weight;
    queue.turn = queue.flows.length === 0 ? 0 : (queue.turn + 1) % queue.flows.length;
    this.#passedOver[queue.tier] = 0;
    for (let lower = queue.tier + 1; lower <= 2; lower++) this.#passedOver[lower as 1 | 2] += bytes;
  }
}

interface Candidate<T> {
  readonly flow: T;
  readonly start: number;
}
