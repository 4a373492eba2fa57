/**
 * The seam between the pure core and the world: time and randomness come in through these two interfaces, so that a test or the
 * simulator can be both. The real ones are in `transport/system.ts`.
 */

/** Milliseconds, with a fraction. `now` never goes back; `wall` is the time since the Unix epoch and may be set by anyone. */
export interface Clock {
  now(): number;
  wall(): number;
}

export interface Random {
  /** `length` bytes fit for secrets. */
  bytes(length: number): Uint8Array;
  /** Uniform in [0, 1); for jitter, not for secrets. */
  unit(): number;
}
