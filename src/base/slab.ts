/**
 * Rooms for a few octets each in one buffer, one after another. A buffer of its own costs more than what is in it, once V8 gives it memory outside of its heap, which
 * takes ten times as long as within.
 */

const SLAB_BYTES = 8 * 1024;
/** Up to here V8 keeps octets in its heap. */
const HEAP_BYTES_MAX = 64;
/** What is larger has a buffer of its own. Whoever keeps a part keeps its whole slab: parts are for what goes on at once. */
const PART_BYTES_MAX = 512;

export class Slab {
  #bytes = new Uint8Array(SLAB_BYTES);
  #used = 0;

  take(length: number): Uint8Array {
    if (length <= HEAP_BYTES_MAX || length > PART_BYTES_MAX) return new Uint8Array(length);
    if (this.#used + length > SLAB_BYTES) {
      this.#bytes = new Uint8Array(SLAB_BYTES);
      this.#used = 0;
    }
    return this.#bytes.subarray(this.#used, this.#used + length);
  }

  /** The first `length` octets of what was taken last; the rest of it is free again. */
  keep(taken: Uint8Array, length: number): Uint8Array {
    // By its length, not its buffer: to ask for that is what makes V8 give it memory of its own.
    if (taken.length > HEAP_BYTES_MAX && taken.length <= PART_BYTES_MAX) this.#used += length;
    return taken.length === length ? taken : taken.subarray(0, length);
  }

  copy(bytes: Uint8Array): Uint8Array {
    const taken = this.take(bytes.length);
    taken.set(bytes);
    return this.keep(taken, bytes.length);
  }
}
