/** Making and opening a cluster's state. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import t from 'tap';
import { fingerprint, formatFingerprint } from '../../../src/identity/fingerprint.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { initTower, openTower } from '../../../src/tower/init.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { DAY_MS, endpoints, HOUR_MS, makeTower, random, shiftedClock, unseal } from './support.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(120_000);

t.test('one command makes a cluster, whose tower proves its identity against the printed fingerprint', async (t) => {
  const state = join(freshDirectory(t), 'deep', 'tower');
  const made = await initTower({ state, cluster: 'alpha', unseal, endpoints, clock: systemClock, random });
  t.match(made, { cluster: 'alpha', fingerprint: /^sha256:[0-9a-f]{64}$/ });
  t.strictSame(readdirSync(state).sort(), ['inbox', 'sealed.bin', 'tower.db', 'tower.json']);
  t.equal(statSync(state).mode & 0o777, 0o700);
  for (const name of ['sealed.bin', 'tower.json', 'tower.db']) t.equal(statSync(join(state, name)).mode & 0o777, 0o600, name);
  t.strictSame(readdirSync(dirname(state)), ['tower']);

  const tower = await openTower({ state, unseal, clock: systemClock, random });
  t.teardown(() => tower.close());
  const [, , root] = tower.credentials.chain;
  t.equal(formatFingerprint(fingerprint(root ?? new Uint8Array())), made.fingerprint);
  t.equal(formatFingerprint(tower.rootFingerprint), made.fingerprint);
  const { identity, notAfter_ms } = verifyPeer({
    chain: tower.credentials.chain,
    roots: tower.roots,
    cluster: 'alpha',
    now_ms: systemClock.wall(),
    usage: 'server',
    expectedNode: 'tower',
    recordedFingerprint: tower.recordedFingerprint,
  });
  t.strictSame(identity, { cluster: 'alpha', site: 'tower', node: 'tower' });
  t.ok(Math.abs(notAfter_ms - systemClock.wall() - 30 * DAY_MS) < HOUR_MS, 'the leaf is valid for 30 days');
  t.match(await tower.status(), { cluster: 'alpha', fingerprint: made.fingerprint, endpoints, nodes: 0, tokens: 0 });
});

t.test('a directory that is not empty, a bad name and a wrong place are refused, and nothing is left behind', async (t) => {
  const parent = freshDirectory(t);
  const state = join(parent, 'tower');
  const request = { state, cluster: 'alpha', unseal, endpoints, clock: systemClock, random };
  mkdirSync(state);
  await initTower(request);
  await rejectsWith(t, initTower(request), 'file_exists');
  const other = join(parent, 'other');
  await rejectsWith(t, initTower({ ...request, state: other, cluster: 'Not A Label' }), 'argument_invalid');
  writeFileSync(join(parent, 'file'), '');
  await t.rejects(initTower({ ...request, state: join(parent, 'file', 'tower') }), { name: 'SelvedgeError' });
  t.strictSame(readdirSync(parent).sort(), ['file', 'tower']);
});

t.test('a kill in the middle of making a cluster leaves nothing that looks whole, and the next attempt succeeds', async (t) => {
  const parent = freshDirectory(t);
  const state = join(parent, 'tower');
  const url = (path: string) => JSON.stringify(new URL(`../../../src/${path}`, import.meta.url).href);
  const program = `
    const { initTower } = await import(${url('tower/init.ts')});
    const { systemClock, systemRandom } = await import(${url('transport/system.ts')});
    process.stdout.write('go\\n');
    await initTower({ state: ${JSON.stringify(state)}, cluster: 'alpha', unseal: { kind: 'key', key: new Uint8Array(32).fill(7) }, endpoints: [], clock: systemClock, random: systemRandom });
    process.stdout.write('made\\n');`;
  let killed = 0;
  for (let round = 0; round < 8; round++) {
    rmSync(state, { recursive: true, force: true });
    const child = spawn(process.execPath, ['--input-type=module', '--eval', program], { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data');
    const timer = setTimeout(() => child.kill('SIGKILL'), round * 6);
    const [, signal] = await once(child, 'close');
    clearTimeout(timer);
    if (signal === 'SIGKILL') killed++;
    if (!existsSync(state)) continue;
    await (await openTower({ state, unseal, clock: systemClock, random })).close();
  }
  t.ok(killed > 0, `${killed} of 8 were killed in time`);
  rmSync(state, { recursive: true, force: true });
  await initTower({ state, cluster: 'alpha', unseal, endpoints, clock: systemClock, random });
  t.strictSame(readdirSync(parent), ['tower'], 'what was half made is gone');
});

t.test('the leaf is renewed at start when two thirds of its life are over, the record follows, and every snapshot says so', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const open = () => openTower({ state: tower.state, unseal, clock, random });
  const before = tower.credentials;
  await tower.close();
  clock.offset_ms = 19 * DAY_MS;
  const same = await open();
  t.strictSame(same.credentials, before);
  const { version } = await same.status();
  await same.close();
  clock.offset_ms = 21 * DAY_MS;
  const renewed = await open();
  t.teardown(() => renewed.close());
  t.not(Buffer.compare(renewed.credentials.chain[0] ?? new Uint8Array(), before.chain[0] ?? new Uint8Array()), 0);
  t.strictSame(renewed.recordedFingerprint({ cluster: 'alpha', site: 'tower', node: 'tower' }), fingerprint(renewed.credentials.chain[0] ?? new Uint8Array()));
  t.equal((await renewed.status()).version, version + 1);
});

t.test('other endpoints given at start are kept and told; the same ones change nothing', async (t) => {
  const tower = await makeTower(t);
  const { version } = await tower.status();
  await tower.close();
  for (const moved of [version + 1, version + 1]) {
    const again = await openTower({ state: tower.state, unseal, endpoints: [{ host: 'tower.example', tcp: 443, udp: null }], clock: systemClock, random });
    t.match(await again.status(), { version: moved, endpoints: [{ host: 'tower.example' }] });
    await again.close();
  }
});

t.test('state that is missing, in use, damaged, mixed or sealed with another key is named', async (t) => {
  const tower = await makeTower(t);
  const open = (state: string, key = unseal) => openTower({ state, unseal: key, clock: systemClock, random });
  await rejectsWith(t, open(freshDirectory(t)), 'not_found');
  await rejectsWith(t, open(tower.state), 'state_in_use');
  await tower.close();
  await rejectsWith(t, open(tower.state, { kind: 'key', key: new Uint8Array(32) }), 'store_locked');

  const other = await makeTower(t, { cluster: 'alpha' });
  await other.close();
  const file = join(tower.state, 'tower.json');
  const own = readFileSync(file);
  for (const content of ['', '{}', '{"format":1,"cluster":"alpha"}', readFileSync(join(other.state, 'tower.json'))]) {
    writeFileSync(file, content);
    await rejectsWith(t, open(tower.state), 'store_damaged');
  }
  writeFileSync(file, own);
  await (await open(tower.state)).close();
});
