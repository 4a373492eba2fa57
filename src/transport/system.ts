/**
 * The real clock, randomness and timers behind the seams, for everything outside the pure core. Nothing here decides anything; code
 * that waits takes a `Timers`, so that a test can be the clock.
 */
import { randomBytes } from 'node:crypto';
// The global of that name is a getter, paid at each look at the clock.
import { performance } from 'node:perf_hooks';
import type { Clock, Random } from '../base/seam.ts';

export const systemClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
};

/** 2^32: the number of values of the 4 octets that `unit` draws. */
const UNIT_STEPS = 0x1_0000_0000;

export const systemRandom: Random = {
  bytes: (length) => new Uint8Array(randomBytes(length)),
  unit: () => randomBytes(4).readUInt32BE() / UNIT_STEPS,
};

/** A clock that can also wake its caller. */
export interface Timers {
  readonly clock: Clock;
  /** Calls `action` once, `delay_ms` from now, unless the returned function is called before. */
  after(delay_ms: number, action: () => void): () => void;
}

export const systemTimers: Timers = {
  clock: systemClock,
  after(delay_ms, action) {
    const timer = setTimeout(action, delay_ms);
    return () => clearTimeout(timer);
  },
};
