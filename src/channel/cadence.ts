/** How often a channel sends heartbeats (spec 7.2): as often as the most pressing of its live flows wants, and as control wants while there are none. */
import { limits } from '../base/limits.ts';
import { classRow, type TrafficClass } from './classes.ts';

export class Cadence {
  #realtime = 0;
  #storage = 0;
  #all = 0;

  began(cls: TrafficClass): void {
    this.#count(cls, 1);
  }

  ended(cls: TrafficClass): void {
    this.#count(cls, -1);
  }

  /** Between two heartbeats, before jitter. */
  get ms(): number {
    if (this.#realtime > 0) return limits.heartbeat_ms_realtime;
    return this.#all > 0 && this.#storage === this.#all ? limits.heartbeat_ms_storage : limits.heartbeat_ms_active;
  }

  #count(cls: TrafficClass, by: 1 | -1): void {
    const { cadence } = classRow(cls);
    this.#all += by;
    if (cadence === 'realtime') this.#realtime += by;
    if (cadence === 'storage') this.#storage += by;
  }
}
