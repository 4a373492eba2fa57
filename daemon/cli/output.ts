/** How the CLI prints: JSON for programs, lines and columns for people, and errors with their exit codes (docs/cli.md). */
import { SelvedgeError } from '../../src/base/errors.ts';

export const exitCodes = { ok: 0, failed: 1, usage: 2, unreachable: 3, interrupted: 130, unread: 141 } as const;

/**
 * Whoever read the output may end before it does, as `head` does. Other programs are then ended by SIGPIPE, without a word; Node ignores that signal and
 * tells an error. Here the program ends with the exit code that a shell shows for SIGPIPE, and what it must put away first it does, as on SIGTERM.
 */
export function endWithReader(): void {
  let isClosed = false;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    if (isClosed) return;
    isClosed = true;
    process.on('exit', () => {
      process.exitCode = exitCodes.unread;
    });
    if (process.listenerCount('SIGTERM') > 0) process.kill(process.pid, 'SIGTERM');
    else process.exit();
  });
  // Nobody is left to tell why a command failed; its exit code still does.
  process.stderr.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

export function printLine(text = ''): void {
  process.stdout.write(`${text}\n`);
}

/** Columns as wide as their widest cell; the last one is not padded. */
export function printTable(heads: readonly string[], rows: readonly (readonly string[])[]): void {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => (row[column] ?? '').length)));
  for (const row of [heads, ...rows]) printLine(row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  '));
}

/** Prints why a command failed, the way it was asked to print. @returns the exit code */
export function reportError(error: unknown, asJson: boolean): number {
  if (!(error instanceof SelvedgeError)) {
    // Not of the table: a bug, whose stack is what helps.
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    return exitCodes.failed;
  }
  if (asJson) process.stderr.write(`${JSON.stringify({ error })}\n`);
  else
    process.stderr.write(
      `${[error, ...error.also].map(({ message }) => `error: ${message}\n`).join('')}${untold(error)}       ${error.remedy} [${error.code}]\n`,
    );
  // A value that the daemon, not this program, found not allowed is wrong usage as well.
  if (error.code === 'argument_invalid' || error.code === 'request_invalid') return exitCodes.usage;
  return error.code === 'daemon_unreachable' ? exitCodes.unreachable : exitCodes.failed;
}

/** A configuration file with more faults than are told. */
function untold({ also, facts: { faults } }: SelvedgeError): string {
  const more = typeof faults === 'number' ? faults - also.length - 1 : 0;
  return more > 0 ? `       and ${more} more\n` : '';
}

const BYTE_UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1_000 && unit < BYTE_UNITS.length - 1) {
    value /= 1_000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${BYTE_UNITS[unit]}`;
}

export function formatMs(ms: number | null): string {
  if (ms === null) return '-';
  return ms < 10 ? `${ms.toFixed(2)} ms` : `${ms.toFixed(1)} ms`;
}

export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3_600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3_600)} h ${Math.floor((whole % 3_600) / 60)} min`;
}

/** What came from a peer reaches the terminal without its control characters. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}]/gu, '?');
}

/** Standard input: at most `bytes_max` of it, and one more, which makes it too long for whatever it should be. */
export async function readInput(bytes_max: number): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > bytes_max) break;
  }
  return Buffer.concat(chunks).subarray(0, bytes_max + 1);
}
