/**
 * What is under way between the two ends of a session in memory: each thing for as long as it is told, in order within its line (a source of
 * octets), while lines overtake each other. What ends the session comes after everything else, as it does where nothing is under way.
 */
import type { Timers } from './system.ts';

interface Line<Thing> {
  readonly number: number;
  last_ms: number;
  readonly waiting: Thing[];
}

export class Transit<Thing> {
  readonly #timers: Timers;
  readonly #arrived: (thing: Thing) => void;
  readonly #lines = new Map<number, Line<Thing>>();
  #recent: Line<Thing> | null = null;
  /** Of all lines. */
  #waiting = 0;
  readonly #endings: Thing[] = [];
  #endingsDue = 0;

  constructor(timers: Timers, arrived: (thing: Thing) => void) {
    this.#timers = timers;
    this.#arrived = arrived;
  }

  /** Without a line, and so in no order. */
  loose(delay_ms: number, thing: Thing): void {
    this.#timers.after(delay_ms, () => this.#arrived(thing));
  }

  inLine(number: number, delay_ms: number, thing: Thing): void {
    const now_ms = this.#timers.clock.now();
    const line = this.#line(number);
    const { waiting } = line;
    line.last_ms = Math.max(now_ms + delay_ms, line.last_ms);
    waiting.push(thing);
    this.#waiting++;
    // Timers are not exact: whichever of a line's fires first, its oldest arrives.
    this.#timers.after(line.last_ms - now_ms, () => {
      const oldest = waiting.shift() as Thing;
      this.#waiting--;
      this.#arrived(oldest);
      this.#endIfEmpty();
    });
  }

  /** The one that was used last is mostly the next one, too. */
  #line(number: number): Line<Thing> {
    if (this.#recent?.number === number) return this.#recent;
    const line = this.#lines.get(number) ?? { number, last_ms: 0, waiting: [] };
    this.#recent = line;
    this.#lines.set(number, line);
    return line;
  }

  /** Nothing comes on it any more. */
  forget(number: number): void {
    if ((this.#lines.get(number)?.waiting.length ?? 0) > 0) return;
    this.#lines.delete(number);
    if (this.#recent?.number === number) this.#recent = null;
  }

  last(delay_ms: number, thing: Thing): void {
    this.#endings.push(thing);
    this.#timers.after(delay_ms, () => {
      this.#endingsDue++;
      this.#endIfEmpty();
    });
  }

  #endIfEmpty(): void {
    if (this.#endingsDue === 0 || this.#waiting > 0) return;
    for (const thing of this.#endings.splice(0, this.#endingsDue)) this.#arrived(thing);
    this.#endingsDue = 0;
  }
}
