/** Runs a system tool (`ip`, `nft`) to its end: bounded in time and output, its own words in the error. */
import { type ChildProcess, execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { access, constants } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { fileURLToPath } from 'node:url';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

export interface CommandOptions {
  readonly input?: string;
  readonly timeout_ms?: number;
  readonly env?: NodeJS.ProcessEnv;
}

export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  /** Null if a signal ended it. */
  readonly exitCode: number | null;
}

/** What it printed, however it ended. @throws lab_failed if it cannot be started or takes too long */
export function runCommand(program: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  const timeout = options.timeout_ms ?? limits.lab_command_ms_max;
  const settings = { timeout, killSignal: 'SIGKILL', maxBuffer: limits.lab_command_output_bytes_max, env: options.env ?? process.env } as const;
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, settings, (error, stdout, stderr) => {
      if (error && typeof error.code === 'string') reject(failure(program, args, error.code === 'ENOENT' ? 'no such program' : error.message));
      else if (error?.killed) reject(failure(program, args, `not done within ${timeout} ms`));
      else resolve({ stdout, stderr, exitCode: child.exitCode });
    });
    goFirst(child);
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? '');
  });
}

/** Like `runCommand`, and anything but exit code 0 is an error. */
export async function mustRun(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const result = await runCommand(program, args, options);
  if (result.exitCode !== 0) throw failure(program, args, (result.stderr || result.stdout).trim() || `exit code ${result.exitCode}`);
  return result.stdout;
}

/** Of the lab's programs, as `nice` counts. */
const PRIORITY = -10;

/** What is measured goes before whatever else the machine does; every thread of the program inherits it. */
export function goFirst({ pid }: Pick<ChildProcess, 'pid'>): void {
  if (pid !== undefined) attempt(() => setPriority(pid, PRIORITY));
}

/** The same for a program with a session of its own: where the kernel groups processes by session (autogroup), it weighs the groups first. */
export function goFirstAsGroup(child: Pick<ChildProcess, 'pid'>): void {
  goFirst(child);
  attempt(() => writeFileSync(`/proc/${child.pid}/autogroup`, String(PRIORITY)));
}

/** It may be over already, the kernel may have no groups, or we no right to it: figures are then a little less steady on a busy machine. */
function attempt(action: () => void): void {
  try {
    action();
  } catch {
    // See above.
  }
}

function failure(program: string, args: readonly string[], why: string): SelvedgeError {
  return new SelvedgeError('lab_failed', { why: `${[program, ...args].join(' ')}: ${why}` });
}

export const LINK_PROGRAM = fileURLToPath(new URL('../../native/link/build/selvedge-link', import.meta.url));

/** What the lab needs of the machine, named one by one. @throws permission_denied, lab_failed, native_missing */
export async function checkMachine(): Promise<void> {
  if (process.getuid?.() !== 0) throw new SelvedgeError('permission_denied', { what: 'the lab makes network namespaces, which takes root' });
  const there = (path: string, mode: number) =>
    access(path, mode).then(
      () => true,
      () => false,
    );
  if (!(await there('/dev/net/tun', constants.R_OK | constants.W_OK))) {
    throw new SelvedgeError('lab_failed', { why: '/dev/net/tun is missing; load it with: modprobe tun (in a container: --device /dev/net/tun)' });
  }
  const packages = { ip: 'iproute2', nft: 'nftables' } as const;
  for (const [tool, origin] of Object.entries(packages)) {
    const found = await runCommand(tool, ['-V']).catch(() => null);
    if (!found) throw new SelvedgeError('lab_failed', { why: `program ${tool} is missing; install it with: apt-get install ${origin}` });
  }
  if (!(await there(LINK_PROGRAM, constants.X_OK))) throw new SelvedgeError('native_missing', { what: 'selvedge-link', why: `${LINK_PROGRAM} is not there` });
}
