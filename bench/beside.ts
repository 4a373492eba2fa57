/** Echoes of class `input` through a channel, at a steady pace, alone and then beside a file; and what of the file arrives, over time. */
import { setTimeout as pause } from 'node:timers/promises';
import type { GovernorFacts } from '../src/channel/governor.ts';
import type { FlowHandle } from '../src/peering/mesh.ts';
import type { PeerMesh } from '../src/peering/peer-mesh.ts';
import { CHUNK_BYTES, ECHO_BYTES } from './subject.ts';

export const ARRIVALS_MS = 100;
const FACTS_MS = 250;
/** Echoes that have not come back when the time is over are waited for so long; then they count with what they have waited. */
const LAST_ECHOES_MS = 3_000;

export interface BesideTimes {
  readonly idle_ms: number;
  readonly loaded_ms: number;
  readonly interval_ms: number;
}

export interface Beside {
  /** Round trips in ms. */
  readonly idle: readonly number[];
  readonly loaded: readonly number[];
  /** How the governor went, every `FACTS_MS` from the file's begin. */
  readonly governor: readonly (GovernorFacts | null)[];
}

/** Octets that arrived, in pieces of time. */
export class Arrivals {
  readonly octets: number[] = [];
  #first = 0;

  add(count: number): void {
    const now = performance.now();
    if (this.octets.length === 0) this.#first = now;
    const index = Math.floor((now - this.#first) / ARRIVALS_MS);
    while (this.octets.length <= index) this.octets.push(0);
    this.octets[index] = (this.octets[index] ?? 0) + count;
  }
}

export async function echoesBeside(mesh: PeerMesh, peer: string, times: BesideTimes): Promise<Beside> {
  const echoes = new Echoes(mesh.open(peer, 'input', 'messages', 'echo'), times.interval_ms);
  await echoes.during(times.idle_ms);
  const idle = await echoes.take();
  const file = new File(mesh.open(peer, 'file_transfer', 'stream', 'sink'));
  const governor: (GovernorFacts | null)[] = [];
  const looks = setInterval(() => governor.push(mesh.status()[0]?.governor ?? null), FACTS_MS);
  await echoes.during(times.loaded_ms);
  clearInterval(looks);
  const loaded = await echoes.take();
  await file.stop();
  echoes.end();
  return { idle, loaded, governor };
}

/** Question k leaves k intervals after the first, whatever has come back by then. */
class Echoes {
  readonly #flow: FlowHandle;
  readonly #interval_ms: number;
  #waiting: number[] = [];
  #times: number[] = [];

  constructor(flow: FlowHandle, interval_ms: number) {
    this.#flow = flow;
    this.#interval_ms = interval_ms;
    void this.#receive();
  }

  async during(ms: number): Promise<void> {
    const start = performance.now();
    for (let due = start; due < start + ms; due += this.#interval_ms) {
      await pause(Math.max(0, due - performance.now()));
      this.#waiting.push(performance.now());
      this.#flow.send(new Uint8Array(ECHO_BYTES));
    }
  }

  async take(): Promise<number[]> {
    const until = performance.now() + LAST_ECHOES_MS;
    while (this.#waiting.length > 0 && performance.now() < until) await pause(this.#interval_ms);
    const times = [...this.#times, ...this.#waiting.map((at) => performance.now() - at)];
    this.#times = [];
    return times;
  }

  end(): void {
    this.#flow.end();
  }

  async #receive(): Promise<void> {
    for (let message = await this.#flow.receive(); message !== null; message = await this.#flow.receive()) {
      const at = this.#waiting.shift();
      if (at !== undefined) this.#times.push(performance.now() - at);
    }
  }
}

/** A file without an end, as fast as the channel takes it. */
class File {
  readonly #flow: FlowHandle;
  #isWanted = true;
  readonly #ended: Promise<void>;

  constructor(flow: FlowHandle) {
    this.#flow = flow;
    this.#ended = this.#write();
  }

  async stop(): Promise<void> {
    this.#isWanted = false;
    this.#flow.reset('flow_lost', 'measured');
    await this.#ended;
  }

  async #write(): Promise<void> {
    const chunk = new Uint8Array(CHUNK_BYTES);
    while (this.#isWanted) if (!this.#flow.write(chunk)) await this.#flow.drained();
  }
}
