/** A program that runs in a host of the lab, owned by the lab: its lines are heard and logged, and it ends at the latest with the lab. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { goFirstAsGroup } from './command.ts';
import { killQuietly } from './run-record.ts';

export interface SpawnOptions {
  /** Of its log file; one name may be used again after a restart. */
  readonly name: string;
  readonly logFile: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly onLine?: (line: string, stream: 'stdout' | 'stderr') => void;
}

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export class LabProcess {
  readonly name: string;
  /** Resolves when the program has ended and all its lines were told; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  #end: ProcessEnd | null = null;
  #lastError = '';

  constructor(program: string, args: readonly string[], options: SpawnOptions) {
    this.name = options.name;
    const log = createWriteStream(options.logFile, { flags: 'a' });
    log.on('error', () => {});
    // A process group of its own: Ctrl-C reaches the lab, which then ends everything in order.
    this.#child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], detached: true, env: { ...process.env, ...options.env } });
    this.#child.stdin?.on('error', () => {});
    goFirstAsGroup(this.#child);
    this.#hear('stdout', log, options);
    this.#hear('stderr', log, options);
    this.ended = new Promise((resolve) => {
      const settle = (end: ProcessEnd) => {
        this.#end ??= end;
        log.end();
        resolve(this.#end);
      };
      this.#child.once('error', (error) => {
        this.#lastError = error.message;
        settle({ code: null, signal: null });
      });
      this.#child.once('close', (code, signal) => settle({ code, signal }));
    });
  }

  get running(): boolean {
    return this.#end === null;
  }

  get pid(): number | null {
    return this.#child.pid ?? null;
  }

  /** The last line that it wrote to standard error, for messages. */
  get lastError(): string {
    return this.#lastError;
  }

  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  endInput(): void {
    this.#child.stdin?.end();
  }

  kill(signal: NodeJS.Signals): void {
    if (this.running && this.#child.pid !== undefined) killQuietly(this.#child.pid, signal);
  }

  /** Asks it to end, and after a while makes it. */
  async stop(): Promise<ProcessEnd> {
    this.kill('SIGTERM');
    const timer = setTimeout(() => this.kill('SIGKILL'), limits.lab_process_stop_ms_max);
    const end = await this.ended;
    clearTimeout(timer);
    return end;
  }

  /** @throws lab_failed unless it ended with exit code 0 */
  async succeeded(): Promise<void> {
    const { code, signal } = await this.ended;
    if (code !== 0)
      throw new SelvedgeError('lab_failed', { why: `${this.name} ended with ${signal ?? `exit code ${code}`}: ${this.#lastError || 'no message'}` });
  }

  #hear(stream: 'stdout' | 'stderr', log: WriteStream, options: SpawnOptions): void {
    const source = this.#child[stream];
    let rest = '';
    const tell = (line: string) => {
      if (stream === 'stderr' && line.trim() !== '') this.#lastError = line;
      options.onLine?.(line, stream);
    };
    source?.setEncoding('utf8');
    source?.on('data', (text: string) => {
      log.write(text);
      const lines = (rest + text).split('\n');
      rest = (lines.pop() ?? '').slice(0, limits.lab_process_line_bytes_max);
      for (const line of lines) tell(line);
    });
    source?.on('end', () => {
      if (rest !== '') tell(rest);
    });
  }
}
