/**
 * What a lane has been handed and could not send yet, and which flows wait for it to shrink. Counting only: it holds no octets.
 */
export class Backlog {
  readonly #bytesMax: number;
  readonly #waiting = new Set<number>();
  #bytes = 0;
  #full = false;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get ready(): boolean {
    return this.#bytes < this.#bytesMax;
  }

  /** Counts what was taken from `flow`; false if that flow should now wait. */
  add(flow: number, bytes: number): boolean {
    this.#bytes += bytes;
    if (this.ready) return true;
    this.#full = true;
    this.#waiting.add(flow);
    return false;
  }

  /** Counts what has left. The flows that may go on, if the lane became ready by it (perhaps none waits any more); else null. */
  remove(bytes: number): number[] | null {
    this.#bytes -= bytes;
    if (!this.#full || !this.ready) return null;
    this.#full = false;
    const flows = [...this.#waiting];
    this.#waiting.clear();
    return flows;
  }

  /** The flow has ended: nobody waits for it. */
  forget(flow: number): void {
    this.#waiting.delete(flow);
  }

  clear(): void {
    this.#bytes = 0;
    this.#full = false;
    this.#waiting.clear();
  }
}
