/**
 * How often what comes in from one peer is looked at while others want their turn as well. Each look wakes this thread, and costs far more than the octets that it finds; a peer that
 * says very much in very small pieces has them gathered for a moment, so that a look finds many. Who is alone here, says little, or sends by the tens of kilobytes is
 * looked at at once, always. Told the time, it says how long to wait, both in milliseconds.
 */
import { limits } from '../base/limits.ts';

/** Who has been looked at lately. */
export class Readers {
  #last = { reader: -1, at: Number.NEGATIVE_INFINITY };
  /** Of another reader than the last. */
  #before = { reader: -1, at: Number.NEGATIVE_INFINITY };
  #count = 0;

  add(): ReadPace {
    return new ReadPace(this, this.#count++);
  }

  looked(reader: number, now: number): void {
    if (this.#last.reader === reader) this.#last.at = now;
    else [this.#before, this.#last] = [this.#last, { reader, at: now }];
  }

  /** Whether another than this one was looked at a moment ago. */
  isShared(reader: number, now: number): boolean {
    const other = this.#last.reader === reader ? this.#before : this.#last;
    return now - other.at < limits.read_shared_ms;
  }
}

/** The looks at what one session brings; `source` is one of its pipes. */
export class ReadPace {
  readonly #readers: Readers;
  readonly #reader: number;
  /** When all looks so far would be over, at the rate that is free. */
  #even = 0;
  /** Of the source that was looked at last: who goes from one to the other has each look counted all the same. */
  readonly #lookedAt = new Map<number, number>();

  constructor(readers: Readers, reader: number) {
    this.#readers = readers;
    this.#reader = reader;
  }

  /** There is something on `source`. 0: look now. */
  wait_ms(source: number, now: number): number {
    this.#readers.looked(this.#reader, now);
    const { read_looks_per_s: per_s, read_looks_burst: burst } = limits;
    const turn_ms = 1_000 / per_s;
    this.#even = Math.min(Math.max(this.#even, now) + turn_ms, now + 2 * burst * turn_ms);
    const before = this.#lookedAt.get(source) ?? Number.NEGATIVE_INFINITY;
    this.#lookedAt.set(source, now);
    const over = (this.#even - now) / turn_ms - burst;
    if (over <= 0 || !this.#readers.isShared(this.#reader, now)) return 0;
    // A source that says little is not held up by one beside it that says much, unless there are very many of them.
    const isBusy = now - before < 2 * limits.read_gather_ms;
    return isBusy || over >= burst - 1 ? limits.read_gather_ms : 0;
  }

  /** A look found much: it was worth its while. */
  found(bytes: number): void {
    if (bytes >= limits.read_worth_bytes) this.#even -= 1_000 / limits.read_looks_per_s;
  }

  sourceEnded(source: number): void {
    this.#lookedAt.delete(source);
  }
}

/** All readers of this thread: each has the others beside it, whatever carries them. */
export const threadReaders = new Readers();
