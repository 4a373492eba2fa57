/** `selvedge app …` against a real tower behind its socket: what it prints, its exit codes, and what the API refuses by itself. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { appCommand } from '../../../daemon/cli/app.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { callControl, type ControlCall } from '../../../src/node/control-client.ts';
import { registerControl } from '../../../src/node/control-routes.ts';
import { controlServer } from '../../../src/node/control-server.ts';
import type { Mesh } from '../../../src/peering/mesh.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { adminApi } from '../../../src/tower/api.ts';
import { HOUR_MS, makeTower } from '../tower/support.ts';

const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));
// Each command is a process of its own.
t.setTimeout(240_000);

const KEY = `${'A'.repeat(42)}E=`;

function selvedgeApp(socketPath: string, ...args: string[]) {
  return selvedge('app', ...args, '--socket', socketPath);
}

async function selvedge(...args: string[]) {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const closed = new Promise<number | null>((resolve) => child.once('close', resolve));
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return { status: await closed, stdout, stderr };
}

async function tower(t: Test) {
  // The path of a socket has at most 107 octets.
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const socketPath = join(folder, 's');
  const made = await makeTower(t);
  const api = await adminApi(made, socketPath);
  t.teardown(() => api.close());
  const enroll = async (name: string, site: string) => {
    const { text: token } = await made.createToken({ uses: 1, life_ms: HOUR_MS });
    const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
    return (await made.enroll({ proof: { kind: 'token', token }, csr, name, site, listen: [{ host: '192.0.2.7', tcp: 443, udp: null }] }, '192.0.2.1')).node;
  };
  const app = (...args: string[]) => selvedgeApp(socketPath, ...args);
  const ask = (method: ControlCall['method'], path: string, body?: Record<string, unknown>) => callControl({ socketPath, method, path, ...(body && { body }) });
  return { tower: made, app, ask, enroll, socketPath };
}

t.test('a network is made, gets members, is shown, loses them and is deleted', async (t) => {
  const { tower: made, app, enroll } = await tower(t);
  const one = await enroll('cashier-1', 'harbor');
  await enroll('cashier-2', 'airport');
  t.match(await app('list'), { status: 0, stdout: /^NAME +VNI +SUBNET +MEMBERS +ATTACHMENTS\n$/ });
  t.match(await app('create', 'shop', '--subnet', '10.9.0.0/24', '--subnet6', 'fd12::/64', '--mtu', '1280'), {
    status: 0,
    stdout: 'app network shop is made: 10.9.0.0/24 fd12::/64, VNI 1001\nput nodes into it with: selvedge app add shop NODE\n',
  });
  t.match(await app('show', 'shop'), { status: 0, stdout: /^shop {2}10\.9\.0\.0\/24 fd12::\/64 {2}VNI 1001 {2}MTU at most 1280\nno members/ });
  t.match(await app('add', 'shop', 'cashier-1'), { status: 0, stdout: 'node cashier-1 is in app network shop: 10.9.0.2 fd12::2\n' });
  t.match(await app('add', 'shop', 'cashier-1'), { status: 0, stdout: /10\.9\.0\.2/ }, 'again gives the same');
  t.match(JSON.parse((await app('add', 'shop', 'cashier-2', '--json')).stdout), { network: 'shop', attachment: '', address4: '10.9.0.3', mac: /^02:/ });
  await made.app.wireguard(one, { keys: [KEY], listen: { host: null, port: 51_820 }, underlay: null });
  await made.app.attach(one, 'shop', 'web');
  const shown = (await app('show', 'shop')).stdout;
  t.match(shown, /^cashier-1 +- +10\.9\.0\.2 fd12::2 +02:[0-9a-f:]+ +harbor +100\.96\.0\.1 +192\.0\.2\.7:51820$/m);
  t.match(shown, /^cashier-1 +web +10\.9\.0\.4 fd12::4 +02:/m);
  t.match(shown, /^cashier-2 +- +10\.9\.0\.3 fd12::3 .*no key yet$/m);
  const asJson = JSON.parse((await app('show', 'shop', '--json')).stdout) as { members: { node: string }[] };
  t.match(asJson, { name: 'shop', vni: 1_001, subnet6: 'fd12::/64', mtu: 1_280, learning: false });
  t.match(
    asJson.members.find((member) => member.node === one),
    { name: 'cashier-1', site: 'harbor', live: true, keys: [KEY], endpoint: { port: 51_820 }, endpoints: [{ attachment: '' }, { attachment: 'web' }] },
  );
  t.match(JSON.parse((await app('list', '--json')).stdout), { networks: [{ name: 'shop', members: 2, attachments: 1 }] });
  t.match(await app('remove', 'shop', one), { status: 0, stdout: /is no longer in app network shop/ });
  t.match(JSON.parse((await app('delete', 'shop', '--json')).stdout), { name: 'shop', vni: 1_001 });
  t.match(JSON.parse((await app('list', '--json')).stdout), { networks: [] });
});

t.test('what is wrong is said with its code and its exit code, as text or JSON', async (t) => {
  const { app, enroll } = await tower(t);
  await enroll('cashier-1', 'harbor');
  await app('create', 'shop', '--subnet', '10.9.0.0/24');
  const cases: [string[], number, RegExp][] = [
    [['create', 'Shop', '--subnet', '10.9.0.0/24'], 2, /lower-case.*\[argument_invalid\]/s],
    [['create', 'other'], 2, /--subnet6.*\[argument_invalid\]/s],
    [['create', 'other', '--subnet', '10.9.0.7/24'], 2, /do you mean 10\.9\.0\.0\/24.*\[argument_invalid\]/s],
    [['create', 'other', '--subnet', '10.10.0.0/24', '--mtu', '100'], 2, /mtu.*from 576/],
    [['create', 'other', '--subnet', '10.9.0.0/16'], 1, /10\.9\.0\.0\/24 of app network shop.*\[subnet_overlaps\]/s],
    [['create', 'shop', '--subnet', '10.10.0.0/24'], 1, /\[app_network_exists\]/],
    [['add', 'shop', 'nobody'], 1, /node nobody not found.*\[not_found\]/s],
    [['add', 'none', 'cashier-1'], 1, /app network none not found.*\[not_found\]/s],
    [['add', 'shop', '../../tokens'], 2, /\[argument_invalid\]/],
    [['remove', 'shop', 'cashier-1'], 1, /member of app network shop.*\[not_found\]/s],
    [['show', 'none'], 1, /\[not_found\]/],
    [['show'], 2, /missing required argument/],
    [['nonsense'], 2, /unknown command/],
  ];
  for (const [args, status, stderr] of cases) t.match(await app(...args), { status, stdout: '', stderr }, args.join(' '));
  t.match(JSON.parse((await app('show', 'none', '--json')).stderr), { error: { code: 'not_found', facts: { name: 'none' } } });
});

t.test('what is not found comes with the command that tells what there is of its kind', async (t) => {
  const { app, enroll, socketPath } = await tower(t);
  await enroll('cashier-1', 'harbor');
  await app('create', 'shop', '--subnet', '10.9.0.0/24');
  const cases: [string[], RegExp][] = [
    [['add', 'shop', 'nobody'], /\n +`selvedge peers`/],
    [['add', 'none', 'cashier-1'], /\n +`selvedge app list`/],
    [['remove', 'shop', 'cashier-1'], /\n +`selvedge app show NETWORK`/],
  ];
  for (const [args, stderr] of cases) t.match(await app(...args), { status: 1, stderr }, args.join(' '));
  t.match(await selvedge('token', 'revoke', '000000000000', '--socket', socketPath), { status: 1, stderr: /\n +`selvedge token list`/ });
});

t.test('a command of the other daemon is told which one answers there', async (t) => {
  const { tower: made, enroll } = await tower(t);
  await enroll('cashier-1', 'harbor');
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const mesh: Mesh = {
    open: () => {
      throw new Error('nobody opens a flow here');
    },
    handle: () => undefined,
    status: () => [],
    close: async () => {},
  };
  const node = await controlServer(join(folder, 'selvedged.sock'), { mesh, timers: systemTimers, facts: () => ({ role: 'node', name: 'a' }) });
  t.teardown(() => node.close());
  for (const where of [
    ['--state', folder],
    ['--socket', join(folder, 'selvedged.sock')],
  ]) {
    for (const words of [
      ['app', 'list'],
      ['app', 'create', 'shop', '--subnet', '10.9.0.0/24'],
      ['token', 'list'],
    ])
      t.match(await selvedge(...words, ...where), { status: 1, stderr: /is the socket of a node; this is asked of a tower\n.*tower\.sock.*\[wrong_daemon\]/s });
  }
  const other = join(folder, 'tower.sock');
  const api = await adminApi(made, other, {
    register: (routes) => registerControl(routes, { mesh, timers: systemTimers, facts: () => ({ role: 'tower', cluster: 'alpha' }) }),
  });
  t.teardown(() => api.close());
  for (const words of [
    ['app', 'connect', 'shop', 'web'],
    ['app', 'disconnect', 'shop', 'web'],
    ['app', 'ping', 'shop', 'b'],
    ['app', 'rotate-key'],
  ])
    t.match(await selvedge(...words, '--socket', other), { status: 1, stderr: /is the socket of a tower; this is asked of a node.*\[wrong_daemon\]/s });
});

t.test('the API refuses what the command line would not send', async (t) => {
  const { ask } = await tower(t);
  const network = { name: 'shop', subnet4: '10.9.0.0/24' };
  for (const body of [{ ...network, name: 'Shop' }, { ...network, vni: 5 }, { ...network, mtu: '1280' }, { ...network, subnet4: 'x'.repeat(65) }, {}])
    await t.rejects(ask('POST', '/v1/app/networks', body), { code: 'request_invalid' }, JSON.stringify(body));
  await t.rejects(ask('GET', '/v1/app/networks/1shop'), { code: 'request_invalid', facts: { path: '/params/name' } });
  await t.rejects(ask('PUT', '/v1/app/networks/shop/members/A%2FB'), { code: 'request_invalid', facts: { path: '/params/node' } });
  t.match(await ask('GET', '/v1/openapi.json'), { paths: { '/v1/app/networks': {}, '/v1/app/networks/{name}/members/{node}': {} } });
});

t.test('each command has its help with an example, and without a tower ends with 3', async (t) => {
  for (const command of appCommand().commands) {
    let help = '';
    command.configureOutput({ writeOut: (part) => (help += part) }).outputHelp();
    t.match(help, new RegExp(`Examples?:\\n  selvedge app ${command.name()}`));
    t.match(help, /--json/);
  }
  t.match(await selvedgeApp(join(t.testdir(), 'none'), 'list'), { status: 3, stderr: /\[daemon_unreachable\]/ });
});
