/**
 * A run's record, `/run/selvedge-lab/RUN/run.json`: who owns the run. It is there before anything else of the run is and goes last, so
 * that whatever a killed run left behind has an entry here, and the next run removes it. Touches only what bears a run's name.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { mustRun, runCommand } from './command.ts';

const RUNS_DIRECTORY = '/run/selvedge-lab';
const RUN_ID = /^[0-9a-f]{6}$/;

/** A process, told apart from a later one that got its number. */
interface Owner {
  readonly boot: string;
  readonly pid: number;
  readonly started: string;
}

export interface RunRecord {
  readonly run: string;
  /** For logs, states and files of the run: on disk, since /run may be in memory. */
  readonly directory: string;
}

/** All network namespaces of a run begin with this. */
export function namespacePrefix(run: string): string {
  return `selvedge-${run}-`;
}

export async function createRun(topology: string): Promise<RunRecord> {
  const run = randomBytes(3).toString('hex');
  const draft = join(RUNS_DIRECTORY, `.${run}`);
  const directory = workDirectory(run);
  await mkdir(draft, { recursive: true, mode: 0o700 });
  await writeFile(join(draft, 'run.json'), `${JSON.stringify({ run, topology, owner: await ownerOf(process.pid) })}\n`);
  await rename(draft, join(RUNS_DIRECTORY, run));
  await mkdir(directory, { mode: 0o700 });
  return { run, directory };
}

/** Removes what runs left behind whose owner is gone; says which. */
export async function removeLeftovers(): Promise<string[]> {
  const removed: string[] = [];
  for (const run of await readdir(RUNS_DIRECTORY).catch(() => [])) {
    if (!RUN_ID.test(run) || (await isOwned(run))) continue;
    await removeRun(run);
    removed.push(run);
  }
  return removed;
}

/** Ends every process in the run's namespaces, then removes the namespaces (and with them each interface) and the directory. */
export async function removeRun(run: string): Promise<void> {
  for (const namespace of await namespacesOf(run)) {
    for (const pid of await pidsIn(namespace)) killQuietly(pid, 'SIGKILL');
    const result = await runCommand('ip', ['netns', 'delete', namespace]);
    if (result.exitCode !== 0 && (await namespacesOf(run)).includes(namespace)) await mustRun('ip', ['netns', 'delete', namespace]);
  }
  await rm(workDirectory(run), { recursive: true, force: true });
  await rm(join(RUNS_DIRECTORY, run), { recursive: true, force: true });
}

function workDirectory(run: string): string {
  return `/var/tmp/selvedge-lab-${run}`;
}

export async function namespacesOf(run: string): Promise<string[]> {
  const all = await readdir('/run/netns').catch(() => []);
  return all.filter((name) => name.startsWith(namespacePrefix(run)));
}

export async function pidsIn(namespace: string): Promise<number[]> {
  const result = await runCommand('ip', ['netns', 'pids', namespace]);
  return result.stdout.split('\n').filter(Boolean).map(Number);
}

export function killQuietly(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It ended by itself in the meantime.
  }
}

async function isOwned(run: string): Promise<boolean> {
  try {
    const { owner } = JSON.parse(await readFile(join(RUNS_DIRECTORY, run, 'run.json'), 'utf8')) as { owner: Owner };
    const now = await ownerOf(owner.pid);
    return now.boot === owner.boot && now.started === owner.started;
  } catch {
    return false;
  }
}

/** Rejects if there is no such process. */
async function ownerOf(pid: number): Promise<Owner> {
  const [boot, stat] = await Promise.all([readFile('/proc/sys/kernel/random/boot_id', 'utf8'), readFile(`/proc/${pid}/stat`, 'utf8')]);
  // The fields after the program's name, which may hold anything, even parentheses; the start time is the 22nd of all.
  const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  return { boot: boot.trim(), pid, started: started ?? '' };
}
