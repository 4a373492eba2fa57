/** A virtual clock with its agenda, and seeded randomness: what the simulator and every test of the pure core run on. Nothing here waits. */
import type { Random } from '../../base/seam.ts';

export type SeededRandom = Random & { below(n: number): number };

/** xorshift32: small, fast, the same everywhere. */
export function seeded(seed: number): SeededRandom {
  let state = (seed ^ 0x9e37_79b9) >>> 0 || 1;
  const next = (): number => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
  for (let warm = 0; warm < 8; warm++) next();
  return {
    bytes: (length) => Uint8Array.from({ length }, () => next() & 0xff),
    unit: () => next() / 0x1_0000_0000,
    below: (n) => next() % n,
  };
}

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly action: () => void;
  /** Its place in the heap; -1: it is not there. */
  index: number;
}

/** Actions at one virtual time before it is said to stand still. */
const ACTIONS_AT_ONCE_MAX = 200_000;

/** After so many moments the event loop has its turn, for what is real: signals, messages of other threads. */
const MOMENTS_PER_TURN = 1_000;

/** Whatever waits for promises has had its turn: Node calls a tick back once no microtask is left. A turn of the event loop says the same, and costs ten times as much. */
const settled = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));

/** What happens when, on a clock that moves only from one action to the next. A binary heap by time, then by when it was planned. */
export class Agenda {
  now = 1_000;
  readonly random: SeededRandom;
  readonly #heap: Entry[] = [];
  #order = 0;
  #sameTime = 0;

  constructor(seed = 1) {
    this.random = seeded(seed);
  }

  /** Runs `action` at `at`, after what was planned for the same time before. The returned function takes it back. */
  at(at: number, action: () => void): () => void {
    const entry = { at: Math.max(at, this.now), order: this.#order++, action, index: this.#heap.length };
    this.#heap.push(entry);
    this.#up(entry);
    return () => this.#remove(entry);
  }

  /** Lets time pass up to `until`, which then is the time. */
  runUntil(until: number): void {
    for (let first = this.#heap[0]; first !== undefined && first.at <= until; first = this.#heap[0]) this.#step(first);
    this.now = Math.max(this.now, until);
  }

  run(ms: number): void {
    this.runUntil(this.now + ms);
  }

  /** Lets time pass until `isSo`; false if that was not so within `ms`. */
  runWhen(isSo: () => boolean, ms: number): boolean {
    const until = this.now + ms;
    while (!isSo()) {
      const first = this.#heap[0];
      if (first === undefined || first.at > until) {
        this.now = until;
        return isSo();
      }
      this.#step(first);
    }
    return true;
  }

  /**
   * The same, with a turn for everything that waits for promises between two moments; ends early once `isDone`. Moments that lie within `grain_ms` of each other
   * are one: coarser, and faster where much happens.
   */
  async runSettled(until: number, isDone: () => boolean = () => false, grain_ms = 0): Promise<void> {
    for (let moments = 0; ; moments++) {
      await (moments % MOMENTS_PER_TURN === 0 ? new Promise(setImmediate) : settled());
      if (isDone()) return;
      const next = this.nextAt;
      if (next === null || next > until) break;
      this.runUntil(Math.min(until, next + grain_ms));
    }
    this.runUntil(until);
  }

  /** When something happens next; null if nothing will. */
  get nextAt(): number | null {
    return this.#heap[0]?.at ?? null;
  }

  get planned(): number {
    return this.#heap.length;
  }

  /** A machine that asks to be called at once, again and again, is stuck. */
  #step(first: Entry): void {
    this.#remove(first);
    this.#sameTime = first.at > this.now ? 0 : this.#sameTime + 1;
    if (this.#sameTime > ACTIONS_AT_ONCE_MAX) throw new Error(`time stands still at ${this.now}: ${first.action}`);
    this.now = first.at;
    first.action();
  }

  #remove(entry: Entry): void {
    const { index } = entry;
    if (index < 0) return;
    entry.index = -1;
    const last = this.#heap.pop();
    if (last === undefined || last === entry) return;
    this.#put(last, index);
    this.#up(last);
    this.#down(last);
  }

  #put(entry: Entry, index: number): void {
    this.#heap[index] = entry;
    entry.index = index;
  }

  #up(entry: Entry): void {
    while (entry.index > 0) {
      const index = entry.index;
      const parent = this.#heap[(index - 1) >> 1];
      if (parent === undefined || isBefore(parent, entry)) return;
      this.#put(entry, parent.index);
      this.#put(parent, index);
    }
  }

  #down(entry: Entry): void {
    for (;;) {
      const index = entry.index;
      const left = this.#heap[2 * index + 1];
      const right = this.#heap[2 * index + 2];
      const child = right !== undefined && left !== undefined && isBefore(right, left) ? right : left;
      if (child === undefined || isBefore(entry, child)) return;
      this.#put(entry, child.index);
      this.#put(child, index);
    }
  }
}

function isBefore(left: Entry, right: Entry): boolean {
  return left.at < right.at || (left.at === right.at && left.order < right.order);
}
