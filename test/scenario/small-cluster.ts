/** The real programs of a small cluster, for scenarios that are about processes: started, asked by the CLI, and ended with the test. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { freePort } from '../fixtures/free-port.ts';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Command line of one of the programs. */
export const program = (name: 'selvedge' | 'selvedged' | 'tower'): [string, string] => [process.execPath, join(root, 'daemon', `${name}.ts`)];

export interface StartOptions {
  readonly cwd: string;
  readonly gid?: number;
}

/** Runs it with no limit on core dumps, and resolves once it said `word`. */
export async function started(t: Test, command: readonly string[], word: string, options: StartOptions): Promise<ChildProcess> {
  const child = spawn('sh', ['-c', 'ulimit -c unlimited; exec "$@"', 'sh', ...command], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  t.teardown(() => child.kill('SIGKILL'));
  let text = '';
  await new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
        if (text.includes(word)) resolve();
      });
    child.once('exit', () => reject(new Error(`${command.at(-1)} ended: ${text}`)));
  });
  return child;
}

/** What a command of the CLI prints as JSON, and how it ends. */
export async function told(...args: string[]): Promise<{ readonly code: number | null; readonly json: Record<string, unknown> }> {
  const [node, file] = program('selvedge');
  const child = spawn(node, [file, ...args, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, json: JSON.parse(text) as Record<string, unknown> };
}

/** Made, and the tower runs; `joined` are state directories of nodes, with the key in `key`. Neither listens but the tower. */
export async function smallCluster(t: Test, directory: string, options: StartOptions) {
  const at = (name: string): string => join(directory, name);
  const key = ['--key-file', at('key')];
  const port = await freePort();
  const made = await told('tower', 'init', '--cluster', 'edge', '--state', at('tower'), ...key);
  const runTower = () =>
    started(t, [...program('tower'), 'run', '--state', at('tower'), ...key, '--listen', '127.0.0.1', '--port', String(port)], 'tower runs', options);
  const tower = await runTower();
  const { json } = await told('token', 'create', '--state', at('tower'));
  await writeFile(at('token'), String(json.token), { mode: 0o600 });
  const where = ['--tower', `127.0.0.1:${port}`, '--fingerprint', String(made.json.fingerprint), '--token-file', at('token'), '--name', 'a'];
  await told('join', ...where, '--state', at('node'), ...key);
  const runNode = () => started(t, [...program('selvedged'), '--state', at('node'), ...key], 'node runs', options);
  return { at, key, port, tower, runNode };
}
