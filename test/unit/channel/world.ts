/** A virtual clock with its agenda, and seeded randomness: what every test of the pure core runs on. Nothing here waits. */
import type { Random } from '../../../src/base/seam.ts';

/** xorshift32: small, fast, the same everywhere. */
export function seeded(seed: number): Random & { below(n: number): number } {
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
}

export class World {
  now = 1_000;
  readonly random: ReturnType<typeof seeded>;
  #agenda: Entry[] = [];
  #order = 0;
  #sameTime = 0;

  constructor(seed = 1) {
    this.random = seeded(seed);
  }

  /** Runs `action` at `at`, after what was planned for the same time before. The returned function takes it back. */
  at(at: number, action: () => void): () => void {
    const entry = { at: Math.max(at, this.now), order: this.#order++, action };
    this.#push(entry);
    return () => {
      const index = this.#agenda.indexOf(entry);
      if (index < 0) return;
      const last = this.#agenda.pop() as Entry;
      if (index === this.#agenda.length) return;
      this.#agenda[index] = last;
      this.#down(index);
      this.#up(index);
    };
  }

  /** Lets time pass up to `until`, which then is the time. */
  runUntil(until: number): void {
    for (let first = this.#agenda[0]; first !== undefined && first.at <= until; first = this.#agenda[0]) {
      this.#step(first);
    }
    this.now = Math.max(this.now, until);
  }

  run(ms: number): void {
    this.runUntil(this.now + ms);
  }

  /** Lets time pass until `isSo`; false if that was not so within `ms`. */
  runWhen(isSo: () => boolean, ms: number): boolean {
    const until = this.now + ms;
    while (!isSo()) {
      const first = this.#agenda[0];
      if (first === undefined || first.at > until) {
        this.now = until;
        return isSo();
      }
      this.#step(first);
    }
    return true;
  }

  /** A machine that asks to be called at once, again and again, is stuck. */
  #step(first: Entry): void {
    this.#shift();
    this.#sameTime = first.at > this.now ? 0 : this.#sameTime + 1;
    if (this.#sameTime > 200_000) throw new Error(`time stands still at ${this.now}: ${first.action}`);
    this.now = first.at;
    first.action();
  }

  /** When something happens next; null if nothing will. */
  get nextAt(): number | null {
    return this.#agenda[0]?.at ?? null;
  }

  get planned(): number {
    return this.#agenda.length;
  }

  #before(left: number, right: number): boolean {
    const a = this.#agenda[left] as Entry;
    const b = this.#agenda[right] as Entry;
    return a.at < b.at || (a.at === b.at && a.order < b.order);
  }

  #swap(left: number, right: number): void {
    const held = this.#agenda[left] as Entry;
    this.#agenda[left] = this.#agenda[right] as Entry;
    this.#agenda[right] = held;
  }

  #push(entry: Entry): void {
    this.#agenda.push(entry);
    this.#up(this.#agenda.length - 1);
  }

  #shift(): void {
    const last = this.#agenda.pop() as Entry;
    if (this.#agenda.length === 0) return;
    this.#agenda[0] = last;
    this.#down(0);
  }

  #up(from: number): void {
    for (let index = from; index > 0; ) {
      const parent = (index - 1) >> 1;
      if (!this.#before(index, parent)) return;
      this.#swap(index, parent);
      index = parent;
    }
  }

  #down(from: number): void {
    for (let index = from; ; ) {
      let least = index;
      for (const child of [2 * index + 1, 2 * index + 2]) if (child < this.#agenda.length && this.#before(child, least)) least = child;
      if (least === index) return;
      this.#swap(index, least);
      index = least;
    }
  }
}
