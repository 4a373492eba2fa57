/**
 * The memory that packets from the tunnel are read into, and in which they wait until the far end has consumed them: a few blocks, used in turn. Left to the collector, 64 KiB for
 * each read begin a collection of the whole heap every 32 MiB. Pure: how far the far end is comes with `free`.
 */
import { limits } from '../base/limits.ts';

/** Less room than this at the end of a block is left alone. */
const READ_BYTES_MIN = 32 * 1024;

export class CarryMemory {
  #block = new Uint8Array(limits.carry_block_bytes);
  #used = 0;
  /** Nothing in the block is needed once the far end has consumed this many octets of the flow. */
  #neededUpTo = 0;
  /** Full blocks, oldest first. */
  #full: { readonly block: Uint8Array<ArrayBuffer>; readonly neededUpTo: number }[] = [];
  #spare: Uint8Array<ArrayBuffer>[] = [];

  /** Blocks that may not be written to yet. */
  get held(): number {
    return this.#full.length;
  }

  /** Where the next octets may be read to. The same until some were taken. */
  room(): Uint8Array {
    if (this.#block.length - this.#used < READ_BYTES_MIN) {
      this.#full.push({ block: this.#block, neededUpTo: this.#neededUpTo });
      this.#block = this.#spare.pop() ?? new Uint8Array(limits.carry_block_bytes);
      this.#used = 0;
      this.#neededUpTo = 0;
    }
    return this.#block.subarray(this.#used);
  }

  /**
   * `bytes` were read into the room. The flow keeps some of them where they lie, until the far end has consumed `keptUpTo` octets from its start; null: it keeps none, and the room
   * is free again. So a far end that consumes nothing while packets come and are dropped costs no memory.
   */
  took(bytes: Uint8Array, keptUpTo: number | null): void {
    if (keptUpTo === null || bytes.buffer !== this.#block.buffer) return;
    this.#used += bytes.length;
    this.#neededUpTo = keptUpTo;
  }

  /** The far end has consumed so many octets of the flow. */
  free(consumed: number): void {
    let count = 0;
    for (const { block, neededUpTo } of this.#full) {
      if (neededUpTo > consumed) break;
      if (this.#spare.length < limits.carry_spare_blocks_max) this.#spare.push(block);
      count++;
    }
    if (count > 0) this.#full.splice(0, count);
  }
}
