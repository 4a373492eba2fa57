/** `selvedge lab sim`: many seeds on all processors, what they found, and the transcript of the first that failed. */
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { SimOptions, SimResult } from './simulate.ts';

export interface SimRun {
  /** The first seed. */
  readonly seed: number;
  readonly seeds: number;
  readonly nodes: number;
  readonly sites: number;
  readonly minutes: number;
  readonly workers?: number;
  readonly onResult?: (result: SimResult, done: number) => void;
}

export interface SimSummary {
  readonly seeds: number;
  readonly violated: readonly SimResult[];
  readonly virtual_hours: number;
  readonly conversations: number;
  /** How those of them ended that did not end well, by code. */
  readonly failures: Readonly<Record<string, number>>;
  readonly sessions: number;
}

const FAILURES_KEPT_MAX = 10;
/** What a simulation makes it soon forgets: with more room for it, less of it is ever looked at again. */
const YOUNG_MB = 64;

/** Runs `seeds` simulations from `seed` on; one worker for each processor unless told. */
export async function runSeeds(run: SimRun): Promise<SimSummary> {
  const { seed, seeds, nodes, sites, minutes, workers = availableParallelism(), onResult } = run;
  const violated: SimResult[] = [];
  let next = seed;
  let done = 0;
  const failures: Record<string, number> = {};
  const totals = { virtual_ms: 0, conversations: 0, sessions: 0 };
  const take = (): SimOptions | null => (next < seed + seeds ? { seed: next++, nodes, sites, minutes } : null);
  const took = (result: SimResult): void => {
    done++;
    totals.virtual_ms += result.virtual_ms;
    totals.conversations += result.flows_done + result.flows_failed;
    totals.sessions += result.sessions;
    for (const [code, count] of Object.entries(result.failures)) failures[code] = (failures[code] ?? 0) + count;
    if (result.violations.length > 0 && violated.length < FAILURES_KEPT_MAX) violated.push(result);
    onResult?.(result, done);
  };
  await Promise.all(Array.from({ length: Math.min(workers, seeds) }, () => work(take, took)));
  return { seeds, violated, virtual_hours: totals.virtual_ms / 3_600_000, conversations: totals.conversations, failures, sessions: totals.sessions };
}

function work(take: () => SimOptions | null, took: (result: SimResult) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB } });
    const hand = (): void => {
      const options = take();
      if (options !== null) worker.postMessage(options);
      else void worker.terminate().then(() => resolve());
    };
    worker.on('message', (result: SimResult) => {
      took(result);
      hand();
    });
    worker.once('error', reject);
    hand();
  });
}
