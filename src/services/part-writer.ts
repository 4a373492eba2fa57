/**
 * Writes a file as it comes in: octets are gathered in a few buffers of its own, one being filled while others are on their way to the
 * disk. So a transfer holds a fixed amount of memory, goes on while the disk pauses for a moment, and makes no garbage of the size of
 * the file: on a host that also carries keystrokes a collection is a pause that somebody feels.
 */
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { Timers } from '../transport/system.ts';

/** Large enough that system calls do not count. */
const BUFFER_BYTES = 256 * 1024;
const BUFFERS_MAX = 4;
/** What came is on its way to the disk after this, though the buffer is not full: it is what a later attempt need not send again. */
const GATHER_MS_MAX = 20;

export interface PartWriterOptions {
  readonly file: FileHandle;
  /** Fed with everything that is written, in order. */
  readonly hash: Hash;
  readonly timers: Timers;
  /** Where in the file the first octet goes. */
  readonly position: number;
  /** So many octets, in all since the start, have been written. */
  readonly onWritten: (bytes: number) => void;
}

interface Filled {
  readonly buffer: Buffer;
  readonly length: number;
}

export class PartWriter {
  readonly #options: PartWriterOptions;
  readonly #spare: Buffer[] = [];
  /** Full, or gathered for long enough; the first is being written. */
  readonly #queue: Filled[] = [];
  #made = 1;
  #filling: Buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #filled = 0;
  #written = 0;
  #writing: Promise<void> = Promise.resolve();
  #failure: { readonly error: unknown } | null = null;
  #cancelTimer: (() => void) | null = null;

  constructor(options: PartWriterOptions) {
    this.#options = options;
  }

  /** Where the next octets go, at most `bytesMax` of them: fill it from the front, then tell `added`. Empty: wait for `room`. */
  free(bytesMax: number): Uint8Array {
    return this.#filling.subarray(this.#filled, Math.min(this.#filled + bytesMax, BUFFER_BYTES));
  }

  /** So many octets were put into what `free` gave. @throws why an earlier write failed */
  added(bytes: number): void {
    this.#check();
    this.#filled += bytes;
    if (this.#isFull) this.#send();
    else this.#cancelTimer ??= this.#options.timers.after(GATHER_MS_MAX, this.#onTimer);
  }

  /** Resolves once `free` has some. @throws why a write failed */
  async room(): Promise<void> {
    while (this.#isFull && this.#failure === null) await this.#writing;
    this.#check();
  }

  /** Everything is with the operating system, or cannot be. @throws why a write failed */
  async finish(): Promise<void> {
    while ((this.#filled > 0 || this.#queue.length > 0) && this.#failure === null) {
      this.#send();
      await this.#writing;
    }
    this.#check();
  }

  /** Waits for what is under way: the file may be closed afterwards. Never rejects. */
  async close(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#queue.length = Math.min(this.#queue.length, 1);
    await this.#writing;
  }

  get #isFull(): boolean {
    return this.#filled === BUFFER_BYTES;
  }

  readonly #onTimer = (): void => {
    this.#cancelTimer = null;
    this.#send();
  };

  /** Puts the filling buffer into the queue, if there is another one to fill; if not, the end of a write does it. */
  #send(): void {
    const next = this.#filled === 0 ? undefined : this.#takeSpare();
    if (next === undefined) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#queue.push({ buffer: this.#filling, length: this.#filled });
    this.#filling = next;
    this.#filled = 0;
    if (this.#queue.length === 1) this.#writing = this.#writeFirst();
  }

  #takeSpare(): Buffer | undefined {
    if (this.#spare.length > 0 || this.#made === BUFFERS_MAX) return this.#spare.pop();
    this.#made++;
    return Buffer.allocUnsafeSlow(BUFFER_BYTES);
  }

  async #writeFirst(): Promise<void> {
    const [first] = this.#queue;
    if (first === undefined || this.#failure !== null) return;
    const { buffer, length } = first;
    const { file, hash, position, onWritten } = this.#options;
    hash.update(buffer.subarray(0, length));
    try {
      // A nearly full disk takes a part; the next call says why.
      for (let done = 0; done < length; ) done += (await file.write(buffer, done, length - done, position + this.#written + done)).bytesWritten;
      this.#written += length;
      onWritten(this.#written);
    } catch (error) {
      this.#failure = { error };
    }
    this.#queue.shift();
    this.#spare.push(buffer);
    if (this.#queue.length > 0) this.#writing = this.#writeFirst();
    if (this.#isFull) this.#send();
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}
