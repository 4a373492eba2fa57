/**
 * How often one node is pushed a snapshot: a handful as changes come, so that each is there at once, then evenly. Whoever makes changes without end costs
 * every other node that hears of them only so much. Pure: told the time, it says how long to wait.
 */
import { limits } from '../base/limits.ts';

export class PushPace {
  /** When all that was pushed would have left evenly. */
  #even_ms = 0;

  /** 0: now. */
  delay_ms(now_ms: number): number {
    const { snapshot_push_interval_ms: interval_ms, snapshot_pushes_burst_max: burst } = limits;
    return Math.max(0, this.#even_ms - (burst - 1) * interval_ms - now_ms);
  }

  spend(now_ms: number): void {
    this.#even_ms = Math.max(this.#even_ms, now_ms) + limits.snapshot_push_interval_ms;
  }
}
