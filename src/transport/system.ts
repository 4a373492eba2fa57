/**
 * The real clock, randomness and timers behind the seams, for everything outside the pure core. Nothing here decides anything; code
 * that waits takes a `Timers`, so that a test can be the clock.
 */
import { randomBytes } from 'node:crypto';
// The global of that name is a getter, paid at each look at the clock.
import { performance } from 'node:perf_hooks';
import type { Clock, Random } from '../base/seam.ts';
import { Wheel } from './wheel.ts';

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
};

export const systemRandom: Random = {
  bytes: (length) => new Uint8Array(randomBytes(length)),
  // For jitter, which every heartbeat has: the system's randomness costs more than all else of one.
  unit: Math.random,
};

/** A clock that can also wake its caller. */
export interface Timers {
  readonly clock: Clock;
  /** Calls `action` once, `delay_ms` from now, unless the returned function is called before. */
  after(delay_ms: number, action: () => void): () => void;
}

/** Timers of Node, in a wheel: a host has as many that wait for seconds as it has channels. */
export const systemTimers: Timers = new Wheel({
  clock: systemClock,
  after(delay_ms, action) {
    const timer = setTimeout(action, delay_ms);
    return () => clearTimeout(timer);
  },
});
