/** Attempts that start one after the other and run side by side; the first to succeed wins. It knows nothing of sessions. */
import type { Timers } from './system.ts';

export interface RaceOptions<Value> {
  /** How long the latest attempt has before the next starts beside it; it starts at once when the latest has failed. */
  readonly stagger_ms: number;
  readonly timers: Timers;
  readonly signal: AbortSignal;
  /** Takes what an attempt brought after the race was over. */
  readonly discard: (value: Value) => void;
}

export type Attempt<Value> = (signal: AbortSignal) => Promise<Value>;

/** Every attempt failed, or the race was given up. Without a stack trace: it tells what became of the attempts, and each dial of an absent peer ends in some. */
export class RaceLost extends Error {
  /** By attempt; absent where it never started or was still running. */
  readonly errors: readonly (unknown | undefined)[];

  constructor(errors: readonly (unknown | undefined)[], wasGivenUp: boolean) {
    const { stackTraceLimit } = Error;
    Error.stackTraceLimit = 0;
    super(wasGivenUp ? 'race given up' : 'every attempt failed');
    Error.stackTraceLimit = stackTraceLimit;
    this.name = 'RaceLost';
    this.errors = errors;
  }
}

/** Made once: an abort without a reason makes one of its own, at the cost of a stack trace for each dial. */
const OVER = new Error('the race is over');

/** The first success. Losers are aborted; nothing of the race, no timer either, is left when it settles. @throws RaceLost */
export function race<Value>(attempts: readonly Attempt<Value>[], options: RaceOptions<Value>): Promise<Value> {
  return new Promise((resolve, reject) => {
    const losers = new AbortController();
    const errors: (unknown | undefined)[] = attempts.map(() => undefined);
    let started = 0;
    let running = 0;
    let isOver = false;
    let cancelStagger = (): void => {};

    const over = (): void => {
      isOver = true;
      cancelStagger();
      options.signal.removeEventListener('abort', giveUp);
      losers.abort(OVER);
    };
    const lose = (wasGivenUp: boolean): void => {
      over();
      reject(new RaceLost(errors, wasGivenUp));
    };
    function giveUp(): void {
      if (!isOver) lose(true);
    }
    const startNext = (): void => {
      cancelStagger();
      cancelStagger = () => {};
      const index = started;
      const attempt = attempts[index];
      if (attempt === undefined) {
        if (running === 0) lose(false);
        return;
      }
      started++;
      running++;
      if (started < attempts.length) cancelStagger = options.timers.after(options.stagger_ms, startNext);
      attempt(losers.signal).then(
        (value) => {
          if (isOver) return options.discard(value);
          over();
          resolve(value);
        },
        (error: unknown) => {
          if (isOver) return;
          errors[index] = error;
          running--;
          if (index === started - 1 || running === 0) startNext();
        },
      );
    };

    if (options.signal.aborted) return lose(true);
    options.signal.addEventListener('abort', giveUp);
    startNext();
  });
}
