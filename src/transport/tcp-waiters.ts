/** Which flows wait for a lane of a TCP session to shrink. How full it is, the lane knows. */
export class Waiters {
  /** The lane is full with so many octets. */
  readonly bytes_max: number;
  readonly #flows = new Set<number>();
  #full = false;

  constructor(bytes_max: number) {
    this.bytes_max = bytes_max;
  }

  /** Somebody was told to wait, and not yet to go on. */
  get isFull(): boolean {
    return this.#full;
  }

  /** Those who wait are told when no more is left than this: what they then hand over is worth the telling. */
  get mark_bytes(): number {
    return this.bytes_max / 2;
  }

  /** The lane is full, and somebody was told so: this flow, if one is named. */
  fill(flow: number | null): void {
    this.#full = true;
    if (flow !== null) this.#flows.add(flow);
  }

  /** The lane has shrunk: the flows that may go on, or null if nobody was told that it was full. */
  drain(): number[] | null {
    if (!this.#full) return null;
    this.#full = false;
    const flows = [...this.#flows];
    this.#flows.clear();
    return flows;
  }

  /** The flow has ended. */
  forget(flow: number): void {
    this.#flows.delete(flow);
  }

  clear(): void {
    this.#full = false;
    this.#flows.clear();
  }
}
