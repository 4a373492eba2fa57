/**
 * Octets in order, between whoever brings them and whoever reads them. They are copied in, so that a session may use its own memory
 * again at once. A reader that copies them out (`takeInto`) gives this memory back as well: a long transfer then runs in a few slabs
 * that stay warm, and leaves nothing to collect. V8 counts array buffers against the old space, and begins a collection of all of it
 * every 32 MiB of them.
 */
import { limits } from '../base/limits.ts';

/** Below this, octets have a piece of their own size, or share a small slab with those that follow. */
const SMALL_BYTES = 4 * 1024;
const SMALL_SLAB_BYTES = 2 * SMALL_BYTES;
const SLAB_BYTES = limits.receive_slab_bytes;

/** Slabs that a copying reader has emptied, for the next busy flow of any channel. */
const spares: Uint8Array[] = [];

interface Slab {
  readonly bytes: Uint8Array;
  /** Unread octets are those from `from` to `to`. */
  from: number;
  to: number;
}

export class ByteQueue {
  #slabs: Slab[] = [];
  #length = 0;
  /** The reader copies: what it empties is used again. One that takes arrays for good gets them no larger than what came. */
  #isCopied = false;

  /** Unread octets. */
  get length(): number {
    return this.#length;
  }

  push(bytes: Uint8Array): void {
    this.#length += bytes.length;
    for (let at = 0; at < bytes.length; ) {
      const slab = this.#slabFor(bytes.length - at);
      const count = Math.min(bytes.length - at, slab.bytes.length - slab.to);
      slab.bytes.set(count === bytes.length ? bytes : bytes.subarray(at, at + count), slab.to);
      slab.to += count;
      at += count;
    }
  }

  /** The next octets, for good; null if there are none. */
  take(): Uint8Array | null {
    const slab = this.#slabs.shift();
    if (slab === undefined) return null;
    this.#isCopied = false;
    this.#length -= slab.to - slab.from;
    return slab.bytes.subarray(slab.from, slab.to);
  }

  /** Copies the next octets into `into`, as many as there are and fit; how many. */
  takeInto(into: Uint8Array): number {
    this.#isCopied = true;
    let filled = 0;
    for (let slab = this.#slabs[0]; slab !== undefined && filled < into.length; slab = this.#slabs[0]) {
      const count = Math.min(slab.to - slab.from, into.length - filled);
      into.set(slab.bytes.subarray(slab.from, slab.from + count), filled);
      filled += count;
      slab.from += count;
      if (slab.from < slab.to) break;
      this.#slabs.shift();
      giveSlab(slab.bytes);
    }
    this.#length -= filled;
    return filled;
  }

  /** The slab that takes the next of `count` octets: the last one if it has room, else another. */
  #slabFor(count: number): Slab {
    const last = this.#slabs.at(-1);
    if (last !== undefined && last.to < last.bytes.length) return last;
    const slab = { bytes: this.#newBytes(count), from: 0, to: 0 };
    this.#slabs.push(slab);
    return slab;
  }

  #newBytes(count: number): Uint8Array {
    if (count < SMALL_BYTES) return new Uint8Array(this.#length === count ? count : SMALL_SLAB_BYTES);
    return this.#isCopied ? (spares.pop() ?? new Uint8Array(SLAB_BYTES)) : new Uint8Array(count);
  }
}

function giveSlab(bytes: Uint8Array): void {
  if (bytes.length === SLAB_BYTES && spares.length < limits.receive_slabs_kept_max) spares.push(bytes);
}
