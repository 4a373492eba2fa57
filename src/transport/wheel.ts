/**
 * Timers for those who wait for long and mostly in vain: thousands of them share one timer of the runtime, which fires at most once in `STEP_MS`. To wait costs an entry in
 * a set, and so does to wait no more. Nobody is called too early, nor later than by a timer of his own: what is left of the last step is waited for exactly.
 */
import type { Timers } from './system.ts';

/** Who falls due within one step is looked at together. */
const STEP_MS = 50;
/** Shorter waits have timers of their own. */
const WHEEL_MS_MIN = 4 * STEP_MS;
/** A time that was reckoned from a time is not exact to the last bit. */
const EPSILON_MS = 0.001;

interface Entry {
  readonly at_ms: number;
  readonly action: () => void;
  /** Of the exact timer that it may have in the end. */
  cancel: (() => void) | null;
  isOver: boolean;
}

export class Wheel implements Timers {
  readonly clock: Timers['clock'];
  readonly #exact: Timers;
  /** By step; each holds who is looked at when it begins. */
  readonly #steps = new Map<number, Set<Entry>>();
  /** Steps that somebody waits for, the next one last. Some may have been left by everybody since. */
  #order: number[] = [];
  #armedFor = Number.POSITIVE_INFINITY;
  #disarm: () => void = () => {};

  /** `exact`: timers of the runtime. */
  constructor(exact: Timers) {
    this.#exact = exact;
    this.clock = exact.clock;
  }

  /** Of its own, so that it can be put beside another clock. */
  readonly after = (delay_ms: number, action: () => void): (() => void) => {
    if (!(delay_ms >= WHEEL_MS_MIN)) return this.#exact.after(delay_ms, action);
    const at_ms = this.clock.now() + delay_ms;
    const step = Math.floor((at_ms + EPSILON_MS) / STEP_MS);
    const entry: Entry = { at_ms, action, cancel: null, isOver: false };
    this.#join(step, entry);
    return () => {
      entry.isOver = true;
      if (entry.cancel !== null) entry.cancel();
      else this.#leave(step, entry);
    };
  };

  #join(step: number, entry: Entry): void {
    const known = this.#steps.get(step);
    if (known !== undefined) {
      known.add(entry);
      return;
    }
    this.#steps.set(step, new Set([entry]));
    let at = this.#order.length;
    while (at > 0 && (this.#order[at - 1] as number) < step) at--;
    this.#order.splice(at, 0, step);
    this.#arm();
  }

  #leave(step: number, entry: Entry): void {
    const entries = this.#steps.get(step);
    if (!entries?.delete(entry) || entries.size > 0) return;
    this.#steps.delete(step);
    this.#order.splice(this.#order.indexOf(step), 1);
    this.#arm();
  }

  /** For the next step; nothing is left behind where nobody waits. */
  #arm(): void {
    const next = this.#order.at(-1) ?? Number.POSITIVE_INFINITY;
    if (next === this.#armedFor) return;
    this.#disarm();
    this.#armedFor = next;
    this.#disarm = next === Number.POSITIVE_INFINITY ? () => {} : this.#exact.after(Math.max(0, Math.ceil(next * STEP_MS - this.clock.now())), this.#turn);
  }

  readonly #turn = (): void => {
    this.#armedFor = Number.POSITIVE_INFINITY;
    this.#disarm = () => {};
    const now = this.clock.now();
    const due: Entry[] = [];
    for (let step = this.#order.at(-1); step !== undefined && step * STEP_MS <= now; step = this.#order.at(-1)) {
      this.#order.pop();
      for (const entry of this.#steps.get(step) ?? []) due.push(entry);
      this.#steps.delete(step);
    }
    this.#arm();
    let count = 0;
    try {
      for (; count < due.length; count++) this.#tell(due[count] as Entry, now);
    } finally {
      // Where one of them threw, the others have their turn all the same.
      for (const entry of due.slice(count + 1)) if (!entry.isOver) entry.cancel = this.#exact.after(0, entry.action);
    }
  };

  #tell(entry: Entry, now: number): void {
    if (entry.isOver) return;
    if (entry.at_ms > now + EPSILON_MS) entry.cancel = this.#exact.after(entry.at_ms - now, entry.action);
    else entry.action();
  }
}
