/** The long-running programs have private keys in memory: none leaves an image of it, and no other program of the same user looks into it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { freshDirectory } from '../compliance/store.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const program = (name: string): string[] => [process.execPath, join(root, 'daemon', `${name}.ts`)];
/** Not that of root: what /proc shows of a program that may not be looked into belongs to root and its group, whoever it runs as. */
const GROUP = 65_534;

/** Resolves once it said `word`; kills it when the test ends. */
async function started(t: Test, command: readonly string[], word: string, cwd: string) {
  const child = spawn('sh', ['-c', 'ulimit -c unlimited; exec "$@"', 'sh', ...command], { cwd, gid: GROUP, stdio: ['ignore', 'pipe', 'pipe'] });
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

async function keepsItsMemory(t: Test, child: ChildProcess, cwd: string): Promise<void> {
  t.match(await readFile(`/proc/${child.pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m, 'no limit to raise again');
  t.match(await readFile(`/proc/${child.pid}/status`, 'utf8'), new RegExp(`^Gid:\\s+${GROUP}\\s`, 'm'));
  const { uid, gid } = await stat(`/proc/${child.pid}/environ`);
  t.same({ uid, gid }, { uid: 0, gid: 0 }, 'not its own group: the kernel lets nobody of that look');
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  child.kill('SIGABRT');
  await ended;
  const left = await readdir(cwd);
  t.same(
    left.filter((name) => name.startsWith('core')),
    [],
  );
}

/** What a command of the CLI prints as JSON. */
async function told(t: Test, ...args: string[]): Promise<Record<string, string>> {
  const child = spawn(process.execPath, [...program('selvedge').slice(1), ...args, '--json'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  t.same(await once(child, 'close'), [0, null], args.slice(0, 2).join(' '));
  return JSON.parse(text) as Record<string, string>;
}

const skip = process.getuid?.() === 0 ? false : 'runs programs as another group: needs root';

t.test('no daemon leaves a core dump, even where the system allows it', { skip }, async (t) => {
  const directory = freshDirectory(t);
  await mkdir(join(directory, 'kept'), { mode: 0o700 });
  const at = (name: string): string => join(directory, name);
  const key = ['--key-file', at('key')];
  const port = String(await freePort());
  const { fingerprint = '' } = await told(t, 'tower', 'init', '--cluster', 'edge', '--state', at('tower'), ...key);
  const towerArgs = [...program('tower'), 'run', '--state', at('tower'), ...key, '--listen', '127.0.0.1', '--port', port];
  const tower = await started(t, towerArgs, 'tower runs', directory);
  const { token = '' } = await told(t, 'token', 'create', '--state', at('tower'));
  await writeFile(at('token'), token, { mode: 0o600 });
  const where = ['--tower', `127.0.0.1:${port}`, '--fingerprint', fingerprint, '--token-file', at('token'), '--name', 'a'];
  await told(t, 'join', ...where, '--state', at('node'), ...key);
  await keepsItsMemory(t, await started(t, [...program('selvedged'), '--state', at('node'), ...key], 'node runs', directory), directory);
  await keepsItsMemory(t, tower, directory);
  const tunnel = [join(root, 'native/tunnel/build/selvedge-tunnel'), 'run', '--socket', at('kept/tunnel.sock'), '--carry', at('kept/carry.sock')];
  await keepsItsMemory(t, await started(t, tunnel, 'tunnel serves', directory), directory);
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}
