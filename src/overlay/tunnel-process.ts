/**
 * Starts selvedge-tunnel, so that it outlives this daemon: a session of its own, no pipe to us, its output in a file. Whether one runs already is found out by
 * connecting (tunnel-link.ts), since it may be another's child: that of a daemon before, or of a service manager.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readFile, stat, truncate } from 'node:fs/promises';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

/** What starts a tunnel; `TunnelProcess`, or a test's. */
export interface TunnelStarter {
  /** Returns once it runs, which is before it listens. @throws tunnel_missing */
  start(): Promise<void>;
  /** Why the one that was started last has ended; null while it runs. */
  ended(): Promise<SelvedgeError | null>;
}

export interface TunnelProcessOptions {
  readonly program: string;
  readonly socketPath: string;
  readonly carryPath: string;
  readonly logPath: string;
}

export class TunnelProcess implements TunnelStarter {
  readonly #options: TunnelProcessOptions;
  #child: ChildProcess | null = null;

  constructor(options: TunnelProcessOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    if (this.#child !== null && !hasEnded(this.#child)) return;
    const { program, socketPath, carryPath, logPath } = this.#options;
    await keepSmall(logPath);
    const log = await open(logPath, 'a', 0o600);
    try {
      const args = ['run', '--socket', socketPath, '--carry', carryPath];
      const child = spawn(program, args, { detached: true, stdio: ['ignore', log.fd, log.fd], cwd: '/' });
      await once(child, 'spawn');
      child.unref();
      this.#child = child;
    } catch (error) {
      throw new SelvedgeError('tunnel_missing', { why: error instanceof Error ? error.message : String(error) }, { cause: error });
    } finally {
      await log.close();
    }
  }

  async ended(): Promise<SelvedgeError | null> {
    const child = this.#child;
    if (child === null || !hasEnded(child)) return null;
    const { logPath, socketPath } = this.#options;
    const last = (await readFile(logPath, 'utf8').catch(() => '')).trimEnd().split('\n').at(-1) ?? '';
    return new SelvedgeError('tunnel_unreachable', {
      path: socketPath,
      why: `it ended with ${child.signalCode ?? `exit code ${child.exitCode}`}: ${last || 'no message'}`,
    });
  }
}

function hasEnded(child: ChildProcess): boolean {
  return child.exitCode !== null || child.signalCode !== null;
}

/** Nobody turns over the log of a program that runs for years; it says little. */
async function keepSmall(path: string): Promise<void> {
  const facts = await stat(path).catch(() => null);
  if (facts !== null && facts.size > limits.tunnel_log_bytes_max) await truncate(path, 0);
}
