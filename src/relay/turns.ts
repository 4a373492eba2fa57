/**
 * Who may pass something on, and when: everybody who has something takes turns, a bounded piece each, with the event loop having its own turn in between. Who waits for
 * room is looked at again every few milliseconds, all by one timer.
 */
import { limits } from '../base/limits.ts';
import type { Timers } from '../transport/system.ts';

/** What is left after a turn: more of the same, something that waits for room, or nothing. */
export type TurnOutcome = 'more' | 'blocked' | 'idle';

export interface TakesTurns {
  /** Never throws. */
  turn(): TurnOutcome;
}

export class Turns {
  readonly #timers: Timers;
  #ready = new Set<TakesTurns>();
  readonly #blocked = new Set<TakesTurns>();
  #isRunning = false;
  #cancelLook: (() => void) | null = null;

  constructor(timers: Timers) {
    this.#timers = timers;
  }

  ask(one: TakesTurns): void {
    this.#blocked.delete(one);
    this.#ready.add(one);
    if (this.#isRunning) return;
    this.#isRunning = true;
    setImmediate(this.#round);
  }

  forget(one: TakesTurns): void {
    this.#ready.delete(one);
    this.#blocked.delete(one);
  }

  readonly #round = (): void => {
    const round = this.#ready;
    this.#ready = new Set();
    for (const one of round) {
      const outcome = one.turn();
      if (outcome === 'more') this.#ready.add(one);
      else if (outcome === 'blocked') this.#block(one);
    }
    this.#isRunning = this.#ready.size > 0;
    if (this.#isRunning) setImmediate(this.#round);
  };

  #block(one: TakesTurns): void {
    this.#blocked.add(one);
    this.#cancelLook ??= this.#timers.after(limits.carry_look_ms, () => {
      this.#cancelLook = null;
      for (const waiting of [...this.#blocked]) this.ask(waiting);
    });
  }

  close(): void {
    this.#ready.clear();
    this.#blocked.clear();
    this.#cancelLook?.();
  }
}
