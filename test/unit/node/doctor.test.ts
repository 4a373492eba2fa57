/** What `selvedge doctor` finds: each thing as it should be, and each way in which it is not, made for real. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { chmod, mkdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { PROGRAM_VERSION } from '../../../src/api/program.ts';
import { certificatesCheck } from '../../../src/node/doctor/certificates.ts';
import { clockCheck } from '../../../src/node/doctor/clock.ts';
import { type Check, examine, type Finding, ok } from '../../../src/node/doctor/finding.ts';
import { checksOf } from '../../../src/node/doctor/host.ts';
import { kernelCheck } from '../../../src/node/doctor/kernel.ts';
import { openedStore } from '../../../src/node/doctor/opened-store.ts';
import { portsCheck } from '../../../src/node/doctor/ports.ts';
import { reachCheck } from '../../../src/node/doctor/reach.ts';
import { diskCheck, permissionsCheck, storeCheck } from '../../../src/node/doctor/store.ts';
import { versionsCheck } from '../../../src/node/doctor/versions.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { apiWorld } from '../tower/api-world.ts';
import { DAY_MS, makeTower, shiftedClock, unseal } from '../tower/support.ts';
import { freePort } from '../../fixtures/free-port.ts';

t.setTimeout(120_000);

const MS_MAX = 20_000;
const WAIT_MS = 2_000;

const look = (...checks: Check[]): Promise<Finding[]> => examine(checks, MS_MAX);
const verdicts = (findings: readonly Finding[]): string[] => findings.map(({ check, verdict }) => `${check} ${verdict}`);

/** A tower's state, its API on a real port, and a file with the key of its store. */
async function world(t: Test) {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const { port } = await apiWorld(t, tower, { clock });
  const keyFile = join(freshDirectory(t), 'key');
  const key = unseal.kind === 'key' ? unseal.key : new Uint8Array();
  await writeFile(keyFile, `${Buffer.from(key).toString('hex')}\n`, { mode: 0o600 });
  const sealed = join(tower.state, 'sealed.bin');
  return { clock, tower, state: tower.state, sealed, keyFile, at: { host: '127.0.0.1', tcp: port, udp: null } };
}

t.test('a check that fails, or does not end, is a fault of its own and hides no other', async (t) => {
  const never: Check = { name: 'never', run: () => new Promise(() => undefined) };
  const broken: Check = { name: 'broken', run: () => Promise.reject(new Error('no such thing')) };
  const fine: Check = { name: 'fine', run: async () => [ok('fine', 'all well', 'well')] };
  const findings = await examine([never, broken, fine], 50);
  t.strictSame(verdicts(findings), ['never fault', 'broken fault', 'fine ok']);
  t.match(findings[0], { found: /50 ms.*\[timeout\]/, remedy: String });
});

t.test('the clock is compared with the tower’s, and with the files of this host', async (t) => {
  const { clock, at, state, sealed } = await world(t);
  const seen = async (offset_ms: number, files: string[] = []) =>
    (await look(clockCheck({ clock: { wall: () => clock.wall() + offset_ms }, tower: at, files, wait_ms: WAIT_MS })))[0];
  t.match(await seen(0), { check: 'clock', verdict: 'ok', remedy: null });
  t.match(await seen(60_000), { verdict: 'warning', found: /(59|60|61) s ahead of the tower/ });
  t.match(await seen(-400_000), { verdict: 'fault', found: /(399|400|401) s behind the tower/, remedy: /Set the clock \(NTP\)/ });
  const deaf = clockCheck({ clock, tower: { ...at, tcp: await freePort() }, files: [], wait_ms: WAIT_MS });
  t.match((await look(deaf))[0], { verdict: 'warning', found: /did not answer/ });
  const own = () => look(clockCheck({ clock, tower: null, files: [sealed, join(state, 'none')], wait_ms: WAIT_MS }));
  t.match(await own(), [{ verdict: 'ok' }]);
  const future = new Date(Date.now() + DAY_MS);
  await utimes(sealed, future, future);
  t.match(await own(), [{ verdict: 'fault', found: /sealed\.bin was written 8\d{4} s in the future/ }]);
});

t.test('a port is free, the daemon’s own, or another program’s, which is named', async (t) => {
  const listen = { host: '127.0.0.1', tcp: await freePort(), udp: await freePort() };
  t.strictSame(verdicts(await look(portsCheck({ listen, daemon: null }))), ['port tcp ok', 'port udp ok']);
  t.strictSame(verdicts(await look(portsCheck({ listen: null, daemon: null }))), ['port ok']);
  t.match(await look(portsCheck({ listen, daemon: process.pid })), [{ verdict: 'fault', found: /is free, and the daemon runs/ }, { verdict: 'fault' }]);
  t.match(await look(portsCheck({ listen: { ...listen, host: '192.0.2.1' }, daemon: null })), [
    { verdict: 'fault', found: /no address of this host/ },
    { verdict: 'fault' },
  ]);
  const tcp = createServer().listen(listen.tcp, '127.0.0.1');
  const udp = createSocket('udp4').bind(listen.udp, '127.0.0.1');
  t.teardown(() => void [tcp.close(), udp.close()]);
  await Promise.all([once(tcp, 'listening'), once(udp, 'listening')]);
  t.match(await look(portsCheck({ listen, daemon: process.pid })), [
    { verdict: 'ok', found: /held by the daemon/ },
    { verdict: 'ok', found: /held by the daemon/ },
  ]);
  const held = { verdict: 'fault', found: new RegExp(`is held by .+ \\(process ${process.pid}\\)`), remedy: /Stop what uses it/ };
  t.match(await look(portsCheck({ listen, daemon: null })), [held, held]);
});

t.test('the tower is reached over TCP and UDP, or why not', async (t) => {
  const { at } = await world(t);
  t.strictSame(verdicts(await look(reachCheck(at, WAIT_MS))), ['reach tcp ok', 'reach udp ok'], 'a tower without QUIC');
  const deaf = createSocket('udp4').bind(0, '127.0.0.1');
  t.teardown(() => deaf.close());
  await once(deaf, 'listening');
  const silent = { ...at, udp: deaf.address().port };
  t.match(await look(reachCheck(silent, WAIT_MS)), [
    { verdict: 'ok' },
    { check: 'reach udp', verdict: 'warning', found: /channels go over TCP/, remedy: /Let UDP pass/ },
  ]);
  t.match(await look(reachCheck({ ...silent, tcp: await freePort() }, WAIT_MS)), [
    { check: 'reach tcp', verdict: 'fault', found: /network_unreachable/ },
    { check: 'reach udp', verdict: 'fault' },
  ]);
});

t.test('files that others may read, and a directory that others may change, are named', async (t) => {
  const { state, sealed } = await world(t);
  const check = permissionsCheck(state, ['sealed.bin', 'tower.json', 'missing.json']);
  t.match(await look(check), [{ verdict: 'ok', found: /^2 files/ }]);
  await chmod(sealed, 0o640);
  await chmod(state, 0o777);
  t.match(await look(check), [{ verdict: 'fault', found: /tower has mode 0777; .*sealed\.bin has mode 0640/, remedy: /chmod/ }]);
  t.match(await look(permissionsCheck(join(state, 'none'), [])), [{ verdict: 'fault', found: /is missing/ }]);
  t.match(await look(diskCheck(state)), [{ check: 'disk', found: /GiB free/ }]);
});

t.test('a store opens, is sealed with another key, is damaged, or is missing', async (t) => {
  const { sealed, keyFile } = await world(t);
  const seen = (file: string) => look(storeCheck(sealed, openedStore(sealed, { keyFile: file }), false));
  t.match(await seen(keyFile), [
    { check: 'store', verdict: 'ok', found: /whole, format 2, sealed with a key file/ },
    { check: 'unseal', verdict: 'ok', found: /opens it: \d+ secrets/ },
  ]);
  const unnamed = (isRunning: boolean) => look(storeCheck(sealed, openedStore(sealed, {}), isRunning));
  t.match(await unnamed(true), [{ verdict: 'ok' }, { check: 'unseal', verdict: 'ok', found: /daemon that runs has opened it/ }]);
  t.match(await unnamed(false), [{ verdict: 'ok' }, { check: 'unseal', verdict: 'warning', found: /--key-file was not given/, remedy: /--key-file/ }]);
  const other = join(freshDirectory(t), 'key');
  await writeFile(other, `${'ab'.repeat(32)}\n`, { mode: 0o600 });
  t.match(await seen(other), [{ verdict: 'ok' }, { check: 'unseal', verdict: 'fault', found: /store_locked/ }]);
  await chmod(other, 0o644);
  t.match(await seen(other), [{ verdict: 'ok' }, { check: 'unseal', verdict: 'fault', found: /unseal_key_invalid/ }]);
  const bytes = await readFile(sealed);
  bytes[200] = (bytes[200] ?? 0) ^ 1;
  await writeFile(sealed, bytes);
  t.match(await seen(keyFile), [{ check: 'store', verdict: 'fault', found: /is damaged/ }]);
  await rm(sealed);
  t.match(await seen(keyFile), [{ check: 'store', verdict: 'fault', found: /not_found/ }]);
});

t.test('certificates are counted in days, and one that has ended, or has not begun, is a fault', async (t) => {
  const { sealed, keyFile, clock } = await world(t);
  const at = async (days: number) => {
    const checked = certificatesCheck(openedStore(sealed, { keyFile }), { wall: () => clock.wall() + days * DAY_MS });
    return Object.fromEntries((await look(checked)).map(({ check, verdict, found }) => [check, `${verdict} ${found}`]));
  };
  t.match(await at(0), { 'certificate ca/root': /^ok \d+ days left/, 'certificate tower/leaf': /^ok/ });
  t.match(await at(28), { 'certificate tower/leaf': /^warning .* in (less than a day|\d+ days)/ });
  t.match(await at(40), { 'certificate tower/leaf': /^fault .*ended at/, 'certificate ca/root': /^ok/ });
  t.match(await at(-40), { 'certificate tower/leaf': /^fault it is not valid yet/ });
  t.match(await look(certificatesCheck(openedStore(sealed, { keyFile: '/nowhere' }), clock)), [{ verdict: 'warning', found: /not looked at/ }]);
});

t.test('parts of another version, and a Node that is too old, are named', async (t) => {
  const folder = freshDirectory(t);
  const tunnelProgram = join(folder, 'selvedge-tunnel');
  const says = (version: string) => writeFile(tunnelProgram, `#!/bin/sh\necho selvedge-tunnel ${version}\n`, { mode: 0o755 });
  const same = { daemon: PROGRAM_VERSION, tunnelProgram, tower: async () => PROGRAM_VERSION, node: '24.1.0' };
  await says(PROGRAM_VERSION);
  t.strictSame(verdicts(await look(versionsCheck(same))), ['versions ok', 'node ok']);
  await says('0.0.1');
  t.match(await look(versionsCheck({ ...same, daemon: '0.0.2', node: '20.9.0' })), [
    { verdict: 'warning', found: /daemon 0\.0\.2, selvedge-tunnel 0\.0\.1/, remedy: /Restart or upgrade daemon and selvedge-tunnel/ },
    { verdict: 'fault', found: 'Node 20.9.0' },
  ]);
  const unknown = { ...same, daemon: null, tunnelProgram: join(folder, 'none'), tower: () => Promise.reject(new Error('away')) };
  t.match(await look(versionsCheck(unknown)), [{ verdict: 'ok', found: `selvedge ${PROGRAM_VERSION}` }, {}]);
});

t.test('a kernel without TUN or WireGuard is a warning: only app networks miss them', async (t) => {
  const root = freshDirectory(t);
  t.strictSame(verdicts(await look(kernelCheck(root))), ['kernel tun warning', 'kernel wireguard warning']);
  await mkdir(join(root, 'sys/module/wireguard'), { recursive: true });
  t.match((await look(kernelCheck(root)))[1], { verdict: 'ok', found: 'loaded' });
});

t.test('a host that is neither node nor tower yet is told so, and looked at all the same', async (t) => {
  const request = { state: freshDirectory(t), source: {}, listen: null, clock: shiftedClock(), tunnelProgram: '/nowhere', wait_ms: WAIT_MS };
  const findings = await look(...(await checksOf(request)));
  t.match(findings[0], { check: 'state', verdict: 'fault', found: /not_enrolled/ });
  t.match(verdicts(findings).join(), /port ok.*kernel.*versions/);
});
