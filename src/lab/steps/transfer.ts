/** A file sent to the tower while the receiver is watched: what `qos`, `fallback` and `restart` share. */
import { createHash, randomFillSync } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { assert, SelvedgeError } from '../../base/errors.ts';
import type { SendRun } from '../fleet.ts';
import { FileGrowth } from '../measure.ts';
import type { World } from './step.ts';

const CHUNK_BYTES = 1024 * 1024;

/** A file of the given size whose bytes cannot be compressed or guessed. */
export async function makeFile(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'w', 0o600);
  try {
    for (let left = bytes; left > 0; left -= CHUNK_BYTES) await file.write(randomFillSync(new Uint8Array(Math.min(left, CHUNK_BYTES))));
  } finally {
    await file.close();
  }
}

export async function sha256File(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Uint8Array);
  return hash.digest('hex');
}

export interface Arrival {
  readonly lost_bytes: number;
  readonly sha256_equal: boolean;
}

/** One file on its way from a node to the tower: `prepare`, `start`, `finish`. `close` removes it from both ends, whatever happened. */
export class Transfer {
  readonly bytes: number;
  readonly growth: FileGrowth;
  readonly #world: World;
  readonly #node: string;
  readonly #file: string;
  readonly #name: string;
  #send: SendRun | null = null;
  /** How often it had to be sent again. */
  retries = 0;

  private constructor(world: World, node: string, name: string, bytes: number, look_ms?: number) {
    this.#world = world;
    this.#node = node;
    this.#name = name;
    this.bytes = bytes;
    this.#file = join(world.lab.directory, name);
    this.growth = new FileGrowth(world.fleet().inbox, name, look_ms);
  }

  static async prepare(world: World, node: string, name: string, bytes: number, look_ms?: number): Promise<Transfer> {
    await makeFile(join(world.lab.directory, name), bytes);
    return new Transfer(world, node, name, bytes, look_ms);
  }

  start(): void {
    this.#send = this.#world.fleet().send(this.#node, this.#file, this.#world.fleet().tower.name);
  }

  /** The sender that runs now, or ran last. */
  get send(): SendRun {
    assert(this.#send, 'the transfer was started');
    return this.#send;
  }

  /** @throws lab_failed if the sender ends before */
  async reached(bytes: number, within_ms: number): Promise<void> {
    const until = performance.now() + within_ms;
    while (this.growth.bytes < bytes) {
      if (!this.send.process.running && this.growth.bytes < bytes)
        throw new SelvedgeError('lab_failed', { why: `send ended early: ${(await this.send.result).why}` });
      if (performance.now() > until)
        throw new SelvedgeError('lab_failed', { why: `${this.growth.bytes} of ${bytes} bytes arrived within ${Math.round(within_ms)} ms` });
      await pause(5, undefined, { signal: this.#world.signal });
    }
  }

  /** Waits for the end; with `retries_max`, a sender that gave up is started again, to resume. */
  async finish(within_ms: number, retries_max = 0): Promise<Arrival> {
    const timer = setTimeout(() => this.send.process.kill('SIGTERM'), within_ms);
    try {
      let result = await this.send.result;
      while (!result.ok && this.retries < retries_max) {
        this.retries += 1;
        this.start();
        result = await this.send.result;
      }
      if (!result.ok) throw new SelvedgeError('lab_failed', { why: `send of ${this.#name} from ${this.#node}: ${result.why}` });
      return await this.#compare();
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    this.#send?.process.kill('SIGTERM');
    await this.#send?.result;
    await this.growth.stop();
    await rm(this.#file, { force: true });
    for (const name of await this.#received()) await rm(join(this.#world.fleet().inbox, name), { force: true });
  }

  /** Reads what the tower really has on its disk, instead of believing the sender. */
  async #compare(): Promise<Arrival> {
    const [name] = (await this.#received()).filter((entry) => !entry.endsWith('.part'));
    if (name === undefined) return { lost_bytes: this.bytes, sha256_equal: false };
    const received = join(this.#world.fleet().inbox, name);
    const [size, found, expected] = await Promise.all([stat(received).then((facts) => facts.size), sha256File(received), sha256File(this.#file)]);
    return { lost_bytes: Math.max(0, this.bytes - size), sha256_equal: found === expected };
  }

  async #received(): Promise<string[]> {
    return (await readdir(this.#world.fleet().inbox).catch(() => [])).filter((entry) => entry.includes(this.#name));
  }
}
