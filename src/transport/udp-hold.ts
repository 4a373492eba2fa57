/**
 * How long the way back to UDP is left alone (spec 4.1). Each move down to TCP costs its channel a gap. Where UDP is lost again soon after it had come back, the path
 * flaps: the next way back begins later, each time twice as late, so that there is no storm of moves. A path that has kept UDP for a while is trusted anew. Pure.
 */
import { limits } from '../base/limits.ts';

export class UdpHold {
  #isLost = false;
  #back_ms: number | null = null;
  #until_ms = 0;
  /** How often in a row UDP was lost soon after it had come back. */
  #flaps = 0;

  /** A session over TCP was taken though UDP is offered. */
  lost(now_ms: number): void {
    if (this.#isLost) return;
    this.#isLost = true;
    const isFlap = this.#back_ms !== null && now_ms - this.#back_ms < limits.udp_settled_ms;
    this.#flaps = isFlap ? this.#flaps + 1 : 0;
    this.#until_ms = isFlap ? now_ms + Math.min(limits.udp_hold_ms_base * 2 ** (this.#flaps - 1), limits.udp_hold_ms_max) : now_ms;
  }

  /** A session over UDP was taken. */
  back(now_ms: number): void {
    if (this.#isLost) this.#back_ms = now_ms;
    this.#isLost = false;
  }

  /** Milliseconds until UDP is worth a try. */
  left_ms(now_ms: number): number {
    return this.#isLost ? Math.max(0, this.#until_ms - now_ms) : 0;
  }
}
