/**
 * One direction of a flow that is passed on: octets as they come, not looked at. It takes from the source only what the target's path has room for, so that
 * the source feels the target's pace, and this host holds little.
 */
import { asSelvedgeError, type SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { DelayWindow } from '../transport/carry/window.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { Timers } from '../transport/system.ts';
import type { TakesTurns, TurnOutcome, Turns } from './turns.ts';

export interface PipeOptions {
  readonly source: FlowHandle;
  readonly target: FlowHandle;
  readonly timers: Timers;
  readonly turns: Turns;
  /** The most that this pipe may have under way now. */
  readonly share: () => number;
  readonly onFailure: (error: SelvedgeError) => void;
}

export class Pipe implements TakesTurns {
  readonly #options: PipeOptions;
  readonly #window: DelayWindow;
  #held: Uint8Array | null;
  #taken = 0;
  #isEnded = false;

  /** `first` leaves before anything of the source. */
  constructor(options: PipeOptions, first: Uint8Array | null) {
    this.#options = options;
    this.#window = new DelayWindow(options.timers.clock.now());
    this.#held = first !== null && first.length > 0 ? first : null;
    options.turns.ask(this);
  }

  /** Octets that have left, or wait in the target's flow. */
  get taken(): number {
    return this.#taken;
  }

  turn(): TurnOutcome {
    if (this.#isEnded) return 'idle';
    try {
      const outcome = this.#pass();
      if (outcome === 'idle') void this.#wait();
      return outcome;
    } catch (error) {
      this.end();
      this.#options.onFailure(asSelvedgeError(error, 'flow_lost'));
      return 'idle';
    }
  }

  #pass(): TurnOutcome {
    const { source, target, timers, share } = this.#options;
    const now_ms = timers.clock.now();
    this.#window.acknowledged(now_ms, target.acknowledged);
    const room = share() - this.#window.underWay;
    for (let passed = 0; passed < Math.min(room, limits.carry_turn_bytes_max); ) {
      const piece = this.#held ?? source.read();
      this.#held = piece;
      if (piece === null) return 'idle';
      const count = Math.min(piece.length, this.#window.room);
      if (count <= 0) {
        this.#window.limited();
        return 'blocked';
      }
      this.#window.take(now_ms, count);
      target.write(count === piece.length ? piece : piece.subarray(0, count));
      this.#held = count === piece.length ? null : piece.subarray(count);
      this.#taken += count;
      passed += count;
    }
    return room > limits.carry_turn_bytes_max ? 'more' : 'blocked';
  }

  /** Until the source has something. One that has finished finishes the target. */
  async #wait(): Promise<void> {
    const { source, target, turns } = this.#options;
    const isMore = await source.readable();
    if (this.#isEnded) return;
    if (isMore) return turns.ask(this);
    this.end();
    target.end();
  }

  end(): void {
    this.#isEnded = true;
    this.#held = null;
    this.#options.turns.forget(this);
  }
}
