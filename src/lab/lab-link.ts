/** One shaped link of a running lab: owns its `selvedge-link` process and speaks its line protocol. */
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { SelvedgeError } from '../base/errors.ts';
import { LINK_PROGRAM } from './command.ts';
import type { Link, Shape } from './topology.ts';
import { queueBytes } from './units.ts';

export interface WayStats {
  readonly frames_in: number;
  readonly bytes_in: number;
  readonly frames_out: number;
  readonly bytes_out: number;
  readonly dropped_queue: number;
  readonly dropped_loss: number;
  readonly dropped_write: number;
  readonly queue_bytes: number;
  /** Since the last look. */
  readonly queue_peak_bytes: number;
  /** How late a frame was handed on, at worst since the last look: the lab's own error. */
  readonly late_peak_us: number;
}

export interface LinkStats {
  readonly forward: WayStats;
  readonly backward: WayStats;
}

export type Way = 'forward' | 'backward';

/** Where each end's interface appears: a network namespace and a name. */
export type LinkEnds = readonly [{ readonly namespace: string; readonly interface: string }, { readonly namespace: string; readonly interface: string }];

interface Waiter {
  resolve(answer: Record<string, unknown>): void;
  reject(error: SelvedgeError): void;
}

export class LabLink {
  readonly name: string;
  readonly #shapes: Record<Way, Shape>;
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #waiters: Waiter[] = [];
  #lastError = '';
  #over = false;

  private constructor(link: Link, ends: LinkEnds, seed: number) {
    this.name = link.name;
    this.#shapes = { forward: link.forward, backward: link.backward };
    const args = ends.flatMap((end) => ['--end', `/run/netns/${end.namespace}:${end.interface}`]);
    args.push('--forward', shapeText(link.forward), '--backward', shapeText(link.backward), '--seed', String(seed));
    this.#process = spawn(LINK_PROGRAM, args, { stdio: 'pipe', detached: true });
    this.#process.stdin.on('error', () => {});
    this.#process.on('error', (error) => this.#finish(error.message));
    this.#process.on('close', () => this.#finish(this.#lastError || 'selvedge-link ended'));
    createInterface(this.#process.stderr).on('line', (line) => {
      this.#lastError ||= line;
    });
    createInterface(this.#process.stdout).on('line', (line) => this.#answered(line));
  }

  /** Resolves when both interfaces are there. @throws lab_failed */
  static async open(link: Link, ends: LinkEnds, seed: number): Promise<LabLink> {
    const opened = new LabLink(link, ends, seed);
    await opened.#next();
    return opened;
  }

  shape(way: Way): Shape {
    return this.#shapes[way];
  }

  /** Changes what is given, in one direction or in both; frames under way stay. */
  async set(change: Partial<Shape>, ways: readonly Way[] = ['forward', 'backward']): Promise<void> {
    for (const way of ways) {
      const shape = { ...this.#shapes[way], ...change };
      await this.#ask(`set ${way} ${shapeText(shape)}`);
      this.#shapes[way] = shape;
    }
  }

  async stats(): Promise<LinkStats> {
    return (await this.#ask('stats')) as unknown as LinkStats;
  }

  async close(): Promise<void> {
    this.#process.stdin.end();
    if (this.#process.exitCode === null && this.#process.signalCode === null && !this.#over) await once(this.#process, 'close');
  }

  async #ask(command: string): Promise<Record<string, unknown>> {
    const answer = this.#next();
    this.#process.stdin.write(`${command}\n`);
    return answer;
  }

  #next(): Promise<Record<string, unknown>> {
    if (this.#over) return Promise.reject(this.#gone(this.#lastError));
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  #answered(line: string): void {
    const waiter = this.#waiters.shift();
    const answer = JSON.parse(line) as Record<string, unknown>;
    if (typeof answer.error === 'string') waiter?.reject(this.#gone(answer.error));
    else waiter?.resolve(answer);
  }

  #finish(why: string): void {
    this.#over = true;
    this.#lastError ||= why;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(this.#gone(why));
  }

  #gone(why: string): SelvedgeError {
    return new SelvedgeError('lab_failed', { why: `link ${this.name}: ${why}` });
  }
}

function shapeText(shape: Shape): string {
  return `rate=${Math.round(shape.rate_bps ?? 0)},delay=${Math.round(shape.delay_us)},queue=${queueBytes(shape.queue, shape.rate_bps)},loss=${Math.round(shape.loss_ppm)}`;
}
