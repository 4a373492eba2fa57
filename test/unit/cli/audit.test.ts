/** `selvedge audit …` and `selvedge tower backup|restore`, by processes of their own, against a real tower's socket. */
import { spawn } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { adminApi } from '../../../src/tower/api.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { HOUR_MS, makeTower } from '../tower/support.ts';

t.setTimeout(240_000);

const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));

async function selvedge(...args: string[]) {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await closed, stdout, stderr };
}

t.test('the audit log is listed and verified, against the database, the signed head and a head kept elsewhere', async (t) => {
  const tower = await makeTower(t);
  const directory = freshDirectory(t);
  const socket = join(directory, 's');
  const api = await adminApi(tower, socket);
  t.teardown(() => api.close());
  // More than a page.
  for (let index = 0; index < 600; index++) await tower.resources.create('tenant', `t-${index}`, {}, 'operator:ada');
  await tower.keepAuditHead();
  const at = ['--socket', socket];
  t.match(await selvedge('audit', 'list', '--after', '1', '--count', '2', ...at), {
    status: 0,
    stdout: /^SEQ .*\n2 +\S+ +operator:ada +tenant\.create +t-0 .*\n3 .*\n$/,
  });
  const listed = JSON.parse((await selvedge('audit', 'list', '--count', '600', '--json', ...at)).stdout) as { rows: { seq: number }[] };
  t.equal(listed.rows.length, 600);
  t.match(await selvedge('audit', 'verify', ...at), { status: 0, stdout: /is whole: 601 rows, .* with the head signed at row 601\n$/ });
  const head = join(directory, 'head.json');
  const printed = (await selvedge('audit', 'head', '--json', ...at)).stdout;
  writeFileSync(head, printed);
  t.match(await selvedge('audit', 'verify', '--head', head, '--json', ...at), { status: 0, stdout: /"rows":601,.*"head_seq":601/ });
  t.match(await selvedge('audit', 'verify', '--head', head, ...at), { status: 0, stdout: /, and with that of .*head\.json at row 601\n$/ });
  const { seq, hash } = JSON.parse(printed) as { seq: number; hash: string };
  writeFileSync(head, JSON.stringify({ seq: seq + 5, hash }));
  t.match(await selvedge('audit', 'verify', '--head', head, ...at), { status: 1, stderr: /ends at row 601, before row 606.*\[audit_broken\]/s });
  writeFileSync(head, JSON.stringify({ seq: 5, hash }));
  t.match(await selvedge('audit', 'verify', '--head', head, ...at), { status: 1, stderr: /row 5 is not the one that the head in .*\[audit_broken\]/s });
  t.match(await selvedge('audit', 'verify', '--head', join(directory, 'none'), ...at), { status: 1, stderr: /\[not_found\]/ });
});

t.test('a running tower is backed up into a file that was checked, and restored from it', async (t) => {
  const tower = await makeTower(t);
  await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const directory = freshDirectory(t);
  const socket = join(directory, 's');
  const api = await adminApi(tower, socket);
  t.teardown(() => api.close());
  const file = join(directory, 'tower.backup');
  writeFileSync(`${file}.part`, 'left by a kill');
  t.match(await selvedge('tower', 'backup', file, '--socket', socket), { status: 0, stdout: /^cluster alpha at version \d+ is in .*tower\.backup, checked/ });
  t.notOk(existsSync(`${file}.part`));
  t.match(await selvedge('tower', 'backup', file, '--socket', socket), { status: 1, stderr: /\[file_exists\]/ });
  const key = join(directory, 'key');
  writeFileSync(key, `${'07'.repeat(32)}\n`, { mode: 0o600 });
  const state = join(directory, 'again');
  t.match(await selvedge('tower', 'restore', file, '--state', state, '--key-file', key, '--json'), { status: 0, stdout: /^\{"cluster":"alpha",/ });
  t.ok(existsSync(join(state, 'tower.json')));
  t.match(await selvedge('tower', 'restore', file, '--state', state, '--key-file', key), { status: 1, stderr: /\[file_exists\]/ });
  writeFileSync(file, 'no backup');
  t.match(await selvedge('tower', 'restore', file, '--state', join(directory, 'more'), '--key-file', key), { status: 1, stderr: /\[backup_invalid\]/ });
});
