/** A tower with its socket and its public port, and the CLI as an operator uses it. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import type { Test } from 'tap';
import { adminApi } from '../../../src/tower/api.ts';
import { apiWorld } from '../tower/api-world.ts';
import { makeTower } from '../tower/support.ts';

export const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));

export async function selvedge(...args: string[]) {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await closed, stdout, stderr };
}

export async function operatorWorld(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const socketPath = join(folder, 's');
  const tower = await makeTower(t);
  const admin = await adminApi(tower, socketPath);
  t.teardown(() => admin.close());
  const { port } = await apiWorld(t, tower);
  const at = ['--socket', socketPath];
  const place = ['--tower', `127.0.0.1:${port}`];
  const bundle = async (name: string) => {
    const path = join(folder, `${name}.bundle`);
    const made = await selvedge('operator', 'create', name, ...at);
    t.match(made, { status: 0, stderr: /to be redeemed once/ });
    writeFileSync(path, made.stdout, { mode: 0o600 });
    return path;
  };
  const redeem = (path: string, identity: string) => selvedge('operator', 'redeem', '--bundle-file', path, '--identity', identity, ...place);
  return { folder, tower, at, place, bundle, redeem };
}
