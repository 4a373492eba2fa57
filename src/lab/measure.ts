/** Figures out of samples: percentiles, the longest time without progress, a rate over time. Pure but for `FileGrowth`, which looks at files. */
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

/** Bytes that had arrived at a time. Milliseconds are of `performance.now()`. */
export interface Progress {
  readonly at_ms: number;
  readonly bytes: number;
}

export interface RttSample {
  readonly at_ms: number;
  readonly rtt_ms: number;
}

/** The nearest-rank percentile; NaN of nothing. */
export function percentile(values: readonly number[], part: number): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? Number.NaN;
}

/** The longest time within [from, to] in which nothing arrived. */
export function longestGap(progress: readonly Progress[], from_ms: number, to_ms: number): number {
  let last = from_ms;
  let gap = 0;
  for (const { at_ms } of progress) {
    if (at_ms <= from_ms || at_ms > to_ms) continue;
    gap = Math.max(gap, at_ms - last);
    last = at_ms;
  }
  return Math.max(gap, to_ms - last);
}

/** Mbit/s between two times; what arrived by a time is the last progress before it. */
export function rateBetween(progress: readonly Progress[], from_ms: number, to_ms: number): number {
  return ((bytesAt(progress, to_ms) - bytesAt(progress, from_ms)) * 8) / 1000 / (to_ms - from_ms);
}

export function bytesAt(progress: readonly Progress[], at_ms: number): number {
  return progress.findLast((entry) => entry.at_ms <= at_ms)?.bytes ?? 0;
}

/** How often a growing file is looked at: well below the shortest gap that matters. */
const LOOK_MS = 5;

/**
 * The receiver's truth: watches the files in a directory whose name holds `name` (the unfinished file, then the finished one) and
 * notes each time that there is more. Ends with `stop`.
 */
export class FileGrowth {
  readonly progress: Progress[] = [];
  readonly #directory: string;
  readonly #name: string;
  readonly #look_ms: number;
  readonly #stop = new AbortController();
  readonly #done: Promise<void>;

  /** Looking costs the machine that is measured: often for a gap, seldom for a rate. */
  constructor(directory: string, name: string, look_ms: number = LOOK_MS) {
    this.#directory = directory;
    this.#name = name;
    this.#look_ms = look_ms;
    this.#done = this.#watch().catch(() => {});
  }

  get bytes(): number {
    return this.progress.at(-1)?.bytes ?? 0;
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#done;
  }

  async #watch(): Promise<void> {
    let path: string | null = null;
    for (;;) {
      const size: number | null =
        path === null
          ? null
          : await stat(path).then(
              (facts) => facts.size,
              () => null,
            );
      if (size === null) path = await this.#find();
      else if (size > this.bytes) this.progress.push({ at_ms: performance.now(), bytes: size });
      await pause(this.#look_ms, undefined, { signal: this.#stop.signal });
    }
  }

  async #find(): Promise<string | null> {
    const entries = await readdir(this.#directory).catch(() => []);
    const found = entries.find((entry) => entry.includes(this.#name));
    return found === undefined ? null : join(this.#directory, found);
  }
}
