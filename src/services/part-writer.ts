/**
 * Writes a file as it comes in: octets are gathered in one of two buffers of its own while the other is on its way to the disk. So a
 * transfer holds a fixed amount of memory, and makes no garbage of the size of the file: on a host that also carries keystrokes a
 * collection is a pause that somebody feels.
 */
import type { Hash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import type { Timers } from '../transport/system.ts';

/** Two of them a transfer. Large enough that system calls do not count. */
const BATCH_BYTES = 256 * 1024;
/** What came is on its way to the disk after this, though the buffer is not full: it is what a later attempt need not send again. */
const BATCH_MS_MAX = 20;

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

export class PartWriter {
  readonly #options: PartWriterOptions;
  #filling: Buffer = Buffer.allocUnsafeSlow(BATCH_BYTES);
  #spare: Buffer | null = Buffer.allocUnsafeSlow(BATCH_BYTES);
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
    return this.#filling.subarray(this.#filled, Math.min(this.#filled + bytesMax, BATCH_BYTES));
  }

  /** So many octets were put into what `free` gave. @throws why an earlier write failed */
  added(bytes: number): void {
    this.#check();
    this.#filled += bytes;
    if (this.#filled === BATCH_BYTES) this.#write();
    else this.#cancelTimer ??= this.#options.timers.after(BATCH_MS_MAX, this.#onTimer);
  }

  /** Resolves once `free` has some. @throws why a write failed */
  async room(): Promise<void> {
    while (this.#filled === BATCH_BYTES && this.#failure === null) await this.#writing;
    this.#check();
  }

  /** Everything is with the operating system, or cannot be. @throws why a write failed */
  async finish(): Promise<void> {
    while (this.#filled > 0 && this.#failure === null) {
      this.#write();
      await this.#writing;
    }
    await this.close();
    this.#check();
  }

  /** Waits for what is under way: the file may be closed afterwards. Never rejects. */
  async close(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    await this.#writing;
  }

  readonly #onTimer = (): void => {
    this.#cancelTimer = null;
    this.#write();
  };

  /** Sends the filling buffer off if the other one is free; if not, that one's end does it. */
  #write(): void {
    const next = this.#spare;
    if (next === null || this.#filled === 0 || this.#failure !== null) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    const batch = this.#filling;
    const length = this.#filled;
    this.#filling = next;
    this.#filled = 0;
    this.#spare = null;
    this.#writing = this.#writeOut(batch, length);
  }

  async #writeOut(batch: Buffer, length: number): Promise<void> {
    const { file, hash, position, onWritten } = this.#options;
    hash.update(batch.subarray(0, length));
    try {
      // A nearly full disk takes a part; the next call says why.
      for (let done = 0; done < length; ) done += (await file.write(batch, done, length - done, position + this.#written + done)).bytesWritten;
      this.#written += length;
      onWritten(this.#written);
    } catch (error) {
      this.#failure ??= { error };
    }
    this.#spare = batch;
    if (this.#filled === BATCH_BYTES) this.#write();
  }

  #check(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}
