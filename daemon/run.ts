/**
 * What the long-running programs share: the log, the end on SIGINT or SIGTERM, and the one place where an error becomes an exit code. Exit codes
 * are those of docs/cli.md.
 */
import { pino } from 'pino';
import { type Command, CommanderError } from 'commander';
import { SelvedgeError } from '../src/base/errors.ts';
import { endWithReader, exitCodes, reportError } from './cli/output.ts';

export type Log = (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;

/** One JSON object a line on standard output: a constant message, facts as fields. */
export function makeLog(): Log {
  const log = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ fd: 1, sync: true }));
  return (message, facts) => log.info(facts, message);
}

/** Resolves on the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilStopped(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let isStopping = false;
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.on(signal, () => {
        if (isStopping) process.exit(130);
        isStopping = true;
        resolve(signal);
      });
    }
  });
}

/** For what waits at the start: its signal is aborted, with a reason that `isStop` knows, when the daemon is asked to end. */
export function abortOn(stopped: Promise<NodeJS.Signals>): AbortSignal {
  const controller = new AbortController();
  void stopped.then((signal) => controller.abort(new Stop(signal)));
  return controller.signal;
}

export function isStop(error: unknown): boolean {
  return error instanceof Stop;
}

class Stop extends Error {}

/** Call it before closing: closing that does not come to its end, or what still holds the process after it, is a bug, is named, and does not keep a host from restarting it. */
export function endSoon(log: Log): void {
  setTimeout(() => {
    log('closing took too long', { resources: process.getActiveResourcesInfo().join(' ') });
    process.exit(1);
  }, END_MS_MAX).unref();
}

const END_MS_MAX = 5_000;

/** Runs a daemon's command line, and turns how it ended into its exit code. */
export async function runProgram(program: Command): Promise<void> {
  endWithReader();
  for (const command of [program, ...program.commands]) command.exitOverride().showHelpAfterError('(--help tells what there is)');
  try {
    await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    else process.exitCode = reportError(error, false);
  }
}

/** Closes in the reverse order of opening. */
export class Closers {
  readonly #closers: (() => Promise<void> | void)[] = [];

  add(close: () => Promise<void> | void): void {
    this.#closers.push(close);
  }

  async close(): Promise<void> {
    for (const close of this.#closers.splice(0).reverse()) await close();
  }
}

/** `--port` and the like. @throws for commander to print */
export function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_535) throw new SelvedgeError('argument_invalid', { name: 'port', why: `'${text}' is not 1 to 65535` });
  return port;
}
