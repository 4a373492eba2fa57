/** How this host is (spec 7.1, the local health hint): by how busy its event loop was since it was looked at last, some seconds ago. */
import { performance } from 'node:perf_hooks';
import type { Clock } from '../base/seam.ts';
import type { HealthHint } from '../channel/heartbeat.ts';

/** Parts of the time in which nothing was waited for. */
const STRAINED_PART = 0.9;
const FAILING_PART = 0.99;
const LOOK_MS = 5_000;

export function loopHealth(clock: Clock): () => HealthHint {
  let seen = performance.eventLoopUtilization();
  let lookedAt = clock.now();
  let hint: HealthHint = 'well';
  return () => {
    if (clock.now() < lookedAt + LOOK_MS) return hint;
    lookedAt = clock.now();
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, seen);
    seen = now;
    hint = utilization > FAILING_PART ? 'failing' : utilization > STRAINED_PART ? 'strained' : 'well';
    return hint;
  };
}
