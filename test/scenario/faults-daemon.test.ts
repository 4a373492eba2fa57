/** What breaks around the programs themselves: each says what, with its code, and none outlives its end. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, readdir, readFile, truncate, writeFile } from 'node:fs/promises';
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { daemons, programFile, type Run } from './daemons.ts';
import { freePort } from '../fixtures/free-port.ts';

const directory = t.testdir({});
const at = (name: string): string => join(directory, name);
const key = ['--key-file', at('key')];
/** What is said of a daemon that does not end in the time of a host's shutdown. */
const END_MS_MAX = 4_000;

const run = daemons(t);

/** Asks it to end, and how long that took. */
async function stop(it: Run): Promise<{ code: number | null; ms: number }> {
  const asked_ms = Date.now();
  it.child.kill('SIGTERM');
  const late = setTimeout(() => it.child.kill('SIGKILL'), 12_000);
  const code = await it.ended();
  clearTimeout(late);
  return { code, ms: Date.now() - asked_ms };
}

const init = run('tower', ['init', '--cluster', 'test', '--state', at('tower'), '--json', ...key]);
if ((await init.ended()) !== 0) throw new Error(init.said.text);
const { fingerprint } = JSON.parse(init.said.text) as { fingerprint: string };
const port = await freePort();
const towerArgs = ['run', '--state', at('tower'), '--listen', '127.0.0.1', '--port', String(port), ...key];
let tower = run('tower', towerArgs);
await tower.until('tower runs');
const made = run('selvedge', ['token', 'create', '--state', at('tower'), '--json']);
await made.ended();
const { token } = JSON.parse(made.said.text) as { token: string };
await writeFile(at('token'), token);
const joinArgs = (state: string): string[] => [
  'join',
  '--tower',
  `127.0.0.1:${port}`,
  '--fingerprint',
  fingerprint,
  '--token-file',
  at('token'),
  '--name',
  'a',
  '--state',
  at(state),
  ...key,
];

t.test('a clock that is a year off says so when joining', async (t) => {
  const fast = run('selvedge', joinArgs('off'), { nodeArgs: ['--import', yearOff()] });
  t.equal(await fast.ended(), 1);
  t.match(fast.said.text, /\[clock_skew\]/);
  t.notMatch(fast.said.text, token);
});

t.test('a node joins, and nothing that it or the tower says holds the token', async (t) => {
  const joined = run('selvedge', joinArgs('node'));
  t.equal(await joined.ended(), 0, joined.said.text);
  t.notMatch(joined.said.text + tower.said.text, token);
});

const nodeArgs = ['--state', at('node'), ...key];

t.test('a second daemon on the same state is refused, and the first keeps its channel', async (t) => {
  const first = run('selvedged', nodeArgs);
  await first.until('channel carried');
  // Its own acceptance may be told a moment later at the other end.
  await tower.until('channel accepted');
  const before = tower.said.text.length;
  const second = run('selvedged', nodeArgs);
  t.equal(await second.ended(), 1);
  t.match(second.said.text, /\[state_in_use\]/);
  t.notMatch(tower.said.text.slice(before), /channel ended|channel accepted/, 'the tower saw nothing of it');
  const other = run('tower', [...towerArgs.slice(0, -4), '--port', String(await freePort()), ...key]);
  t.equal(await other.ended(), 1);
  t.match(other.said.text, /\[state_in_use\]/, 'and so it is at the tower');
  t.match(await stop(first), { code: 0 });
});

t.test('a port in use is named', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  const address = taken.address();
  const inUse = typeof address === 'object' ? (address?.port ?? 0) : 0;
  const it = run('selvedged', [...nodeArgs, '--listen', '127.0.0.1', '--port', String(inUse)]);
  t.equal(await it.ended(), 1);
  t.match(it.said.text, new RegExp(`TCP port ${inUse} on 127.0.0.1 is in use.*port_in_use`, 's'));
  taken.close();
});

t.test('a UDP port in use is named as well', async (t) => {
  const taken = createSocket('udp4').bind(0, '127.0.0.1');
  await once(taken, 'listening');
  const { port: inUse } = taken.address();
  const it = run('selvedged', [...nodeArgs, '--listen', '127.0.0.1', '--port', String(inUse)]);
  t.equal(await it.ended(), 1);
  t.match(it.said.text, new RegExp(`UDP port ${inUse} on 127.0.0.1 is in use.*port_in_use`, 's'));
  taken.close();
});

t.test('a damaged sealed store and another key are told apart', async (t) => {
  await cp(at('node'), at('damaged'), { recursive: true });
  const sealed = at('damaged/sealed.bin');
  const bytes = await readFile(sealed);
  await truncate(sealed, bytes.length - 1);
  const damaged = run('selvedged', ['--state', at('damaged'), ...key]);
  t.equal(await damaged.ended(), 1);
  t.match(damaged.said.text, /\[store_damaged\]/);
  await writeFile(sealed, bytes);
  await writeFile(at('wrong-key'), 'ab'.repeat(32), { mode: 0o600 });
  const locked = run('selvedged', ['--state', at('damaged'), '--key-file', at('wrong-key')]);
  t.equal(await locked.ended(), 1);
  t.match(locked.said.text, /\[store_locked\]/);
});

t.test('a daemon whose clock is a year off says that certificates are not valid now', async (t) => {
  const it = run('selvedged', nodeArgs, { nodeArgs: ['--import', yearOff()] });
  const code = await Promise.race([it.ended(), it.until('certificate_invalid').then(() => 'runs' as const)]);
  if (code === 'runs') await stop(it);
  t.match(it.said.text, /expired|not valid|clock/, it.said.text.slice(0, 300));
});

t.test('a daemon ends within seconds of SIGTERM, at whatever moment', async (t) => {
  const moments = ['node runs', 'channel carried'];
  for (const moment of moments) {
    const it = run('selvedged', nodeArgs);
    await it.until(moment);
    const { code, ms } = await stop(it);
    t.equal(code, 0, it.said.text);
    t.ok(ms < END_MS_MAX, `at "${moment}": ${ms} ms`);
  }
});

t.test('a daemon in the middle of a transfer, and the tower that receives it, end within seconds of SIGTERM', async (t) => {
  // More than any machine moves in the second that a daemon gives what is under way.
  await writeFile(at('large'), '');
  await truncate(at('large'), 4 * 1024 ** 3);
  const it = run('selvedged', nodeArgs);
  await it.until('channel carried');
  const sending = run('selvedge', ['send', at('large'), 'tower', '--socket', at('node/selvedged.sock'), '--json']);
  await sending.until('"bytes"');
  const [node, other] = await Promise.all([stop(it), stop(tower)]);
  t.match([node.code, other.code], [0, 0], `${it.said.text.slice(-600)}\n${tower.said.text.slice(-600)}`);
  t.ok(node.ms < END_MS_MAX && other.ms < END_MS_MAX, `${node.ms} and ${other.ms} ms`);
  t.not(await sending.ended(), 0, 'and who waited for the transfer is told');
  tower = run('tower', towerArgs);
  await tower.until('tower runs');
});

t.test('the tower ends as well, with nodes connected and without a word of a secret in what it said', async (t) => {
  const it = run('selvedged', nodeArgs);
  await it.until('channel carried');
  const { code, ms } = await stop(tower);
  t.equal(code, 0, tower.said.text);
  t.ok(ms < END_MS_MAX, `${ms} ms`);
  t.match(await stop(it), { code: 0 });
  t.notMatch(it.said.text + tower.said.text, /PRIVATE KEY|svt_/);
});

t.test('a daemon that crashes leaves no core dump: its keys would be in it', async (t) => {
  const daemon = [process.execPath, programFile('selvedged'), ...nodeArgs].map((word) => `'${word}'`).join(' ');
  const child = spawn('sh', ['-c', `ulimit -c unlimited; exec ${daemon}`], { cwd: directory, stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => void child.kill('SIGKILL'));
  await new Promise<void>((resolve) => child.stdout.setEncoding('utf8').on('data', (text: string) => text.includes('node runs') && resolve()));
  t.match(await readFile(`/proc/${child.pid}/limits`, 'utf8'), /^Max core file size +0 +0 /m);
  const ended = once(child, 'exit');
  child.kill('SIGABRT');
  await ended;
  t.same(
    (await readdir(directory)).filter((name) => name.startsWith('core')),
    [],
  );
});

/** A module that moves the clock of a program by a year. */
function yearOff(): string {
  return `data:text/javascript,${encodeURIComponent('const now = Date.now; Date.now = () => now() + 366 * 86400000;')}`;
}
