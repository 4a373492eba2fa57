/** Two hosts in network namespaces, joined by one veth pair, and the programs that run in them. Everything goes with `close`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { mustRun } from '../../src/lab/command.ts';

export type Side = 0 | 1;
export const sides = [0, 1] as const;

/** Of the veth pair itself, in IPv4. */
export const underlay = ['10.77.0.1', '10.77.0.2'] as const;
const UNDERLAY_MTU = 1_500;
const START_MS_MAX = 10_000;

/** A way from the first host to the second. */
export interface Subject {
  /** From the first host, the second. */
  readonly to: string;
  /** The processes that carry. */
  readonly pids: readonly number[];
}

export class Hosts implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), 'selvedge-overlay-'));
  readonly #prefix = `svo${process.pid}`;
  readonly #children: ChildProcess[] = [];

  static async up(): Promise<Hosts> {
    const hosts = new Hosts();
    try {
      for (const side of sides) {
        await mustRun('ip', ['netns', 'add', hosts.namespace(side)]);
        await hosts.ip(side, 'link', 'set', 'lo', 'up');
      }
      await hosts.ip(0, 'link', 'add', 'u0', 'mtu', String(UNDERLAY_MTU), 'type', 'veth', 'peer', 'name', 'u0', 'netns', hosts.namespace(1));
      for (const side of sides) {
        await hosts.ip(side, 'address', 'add', `${underlay[side]}/24`, 'dev', 'u0');
        await hosts.ip(side, 'link', 'set', 'u0', 'up');
      }
    } catch (error) {
      await hosts.close();
      throw error;
    }
    return hosts;
  }

  namespace(side: Side): string {
    return `${this.#prefix}-${side}`;
  }

  async ip(side: Side, ...args: string[]): Promise<void> {
    await mustRun('ip', ['-n', this.namespace(side), ...args]);
  }

  /** To its end; what it printed. @throws lab_failed */
  exec(side: Side, argv: readonly string[], timeout_ms = 30_000): Promise<string> {
    return mustRun('ip', ['netns', 'exec', this.namespace(side), ...argv], { timeout_ms });
  }

  /** A program that runs until the end; resolves once it has printed a line that `ready` wants, if any. */
  async start(side: Side, argv: readonly string[], { input = '', ready }: { readonly input?: string; readonly ready?: RegExp } = {}): Promise<ChildProcess> {
    const child = spawn('ip', ['netns', 'exec', this.namespace(side), ...argv], { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#children.push(child);
    const said: string[] = [];
    child.stdin?.on('error', () => {});
    child.stdin?.write(input);
    await new Promise<void>((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${argv.join(' ')}: ${why}: ${said.slice(-3).join('; ')}`));
      const timer = setTimeout(() => fail('not ready in time'), START_MS_MAX);
      const settle = () => {
        clearTimeout(timer);
        resolve();
      };
      for (const stream of [child.stdout, child.stderr])
        if (stream)
          createInterface(stream).on('line', (line) => {
            said.push(line);
            if (ready?.test(line)) settle();
          });
      child.once('exit', (code) => fail(`ended with ${code}`));
      if (!ready) child.once('spawn', settle);
    });
    return child;
  }

  async close(): Promise<void> {
    for (const child of this.#children.splice(0).reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const gone = once(child, 'exit');
      child.kill('SIGKILL');
      await gone;
    }
    for (const side of sides) await mustRun('ip', ['netns', 'del', this.namespace(side)]).catch(() => {});
    rmSync(this.directory, { recursive: true, force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
