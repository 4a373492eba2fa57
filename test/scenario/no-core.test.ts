/** The long-running programs have private keys in memory: none leaves an image of it, and no other program of the same user looks into it. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { freshDirectory } from '../compliance/store.ts';
import { root, smallCluster, started } from './small-cluster.ts';

t.setTimeout(240_000);

/** Not that of root: what /proc shows of a program that may not be looked into belongs to root and its group, whoever it runs as. */
const GROUP = 65_534;

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

const skip = process.getuid?.() === 0 ? false : 'runs programs as another group: needs root';

t.test('no daemon leaves a core dump, even where the system allows it', { skip }, async (t) => {
  const directory = freshDirectory(t);
  await mkdir(join(directory, 'kept'), { mode: 0o700 });
  const options = { cwd: directory, gid: GROUP };
  const { tower, at, runNode } = await smallCluster(t, directory, options);
  await keepsItsMemory(t, await runNode(), directory);
  await keepsItsMemory(t, tower, directory);
  const tunnel = [join(root, 'native/tunnel/build/selvedge-tunnel'), 'run', '--socket', at('kept/tunnel.sock'), '--carry', at('kept/carry.sock')];
  await keepsItsMemory(t, await started(t, tunnel, 'tunnel serves', options), directory);
});
