/** The clock of a simulated host: what it shows may be set, how fast it goes may be off, and what was planned by it ends with the program that planned it. */
import type { Timers } from '../../transport/system.ts';
import type { Agenda } from './agenda.ts';

export class HostClock {
  readonly #agenda: Agenda;
  #wallOffset_ms = 0;
  #drift_part = 0;
  #runs = 0;
  /** What takes its timers back. */
  readonly #pending = new Set<() => void>();
  /** It was set since its host started. */
  isStepped = false;

  constructor(agenda: Agenda) {
    this.#agenda = agenda;
  }

  get now(): number {
    return this.#agenda.now * (1 + this.#drift_part);
  }

  get wall_ms(): number {
    return this.now + this.#wallOffset_ms;
  }

  /** From now on what it shows is off by so much. */
  set(off_ms: number): void {
    this.#wallOffset_ms = off_ms;
    this.isStepped = true;
  }

  /** From now on it goes faster by this part of itself. */
  drift(part: number): void {
    this.#drift_part = part;
  }

  /** For the program that runs now: once that has ended they plan nothing. */
  get timers(): Timers {
    const run = this.#runs;
    return {
      clock: { now: () => this.now, wall: () => this.wall_ms },
      after: (delay_ms, action) => (run === this.#runs ? this.#after(delay_ms, action) : () => {}),
    };
  }

  #after(delay_ms: number, action: () => void): () => void {
    const cancel = this.#agenda.at(this.#agenda.now + delay_ms / (1 + this.#drift_part), () => {
      this.#pending.delete(cancel);
      action();
    });
    this.#pending.add(cancel);
    return () => {
      this.#pending.delete(cancel);
      cancel();
    };
  }

  /** The program has ended. */
  endRun(): void {
    this.#runs++;
    for (const cancel of this.#pending) cancel();
    this.#pending.clear();
  }

  /** Whether the program that runs now still does. */
  get isRunning(): () => boolean {
    const run = this.#runs;
    return () => run === this.#runs;
  }
}
