/**
 * Notices when much is written after a pause. A congestion control that has long left its start, and saw but a trickle since, has forgotten what the path carries: one packet lost
 * of a few lets it take the trickle for the path (measured with BBR at 1 % loss: 2 to 60 Mbit/s of 230), and from there it grows by a quarter in eight round trips. Pure: the time,
 * in ms, comes with each call.
 */
import { limits } from '../base/limits.ts';

export class PauseWatch {
  #spanAt_ms: number;
  #spanBytes = 0;
  /** When a span last had as much as no trickle has. */
  #busyAt_ms: number;

  constructor(now_ms: number) {
    this.#spanAt_ms = now_ms;
    this.#busyAt_ms = now_ms;
  }

  /** True once at the end of each pause. */
  wrote(now_ms: number, bytes: number): boolean {
    if (now_ms - this.#spanAt_ms >= limits.tcp_trickle_ms) {
      this.#spanAt_ms = now_ms;
      this.#spanBytes = 0;
    }
    this.#spanBytes += bytes;
    if (this.#spanBytes < limits.tcp_trickle_bytes_max) return false;
    const wasPause = now_ms - this.#busyAt_ms >= limits.tcp_pause_ms;
    this.#busyAt_ms = now_ms;
    return wasPause;
  }
}
