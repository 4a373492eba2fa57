/** A node's routes about app networks, and the commands over them, against a small tunnel. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { callControl, type Json, streamControl } from '../../../src/node/control-client.ts';
import { controlServer } from '../../../src/node/control-server.ts';
import type { Mesh } from '../../../src/peering/mesh.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { none, oneHost } from '../overlay/one-host.ts';

const program = fileURLToPath(new URL('../../../daemon/selvedge.ts', import.meta.url));

async function setUp(t: Test, more: Record<string, number | boolean> = {}) {
  const one = await oneHost(t);
  const apps = await one.daemon();
  const mesh: Mesh = {
    open: () => {
      throw new Error('nobody opens a flow here');
    },
    handle: () => undefined,
    status: () => [],
    close: async () => {},
  };
  const socketPath = join(one.folder, 's');
  const server = await controlServer(socketPath, { mesh, timers: systemTimers, apps, facts: () => ({ role: 'node', name: 'a', ...more }) });
  t.teardown(() => server.close());
  const post = (path: string, body: Json) => callControl({ socketPath, method: 'POST', path, body });
  /** Answers of the tunnel to echoes, one after the other. */
  const answer = (...rtts: (number | null)[]) =>
    one.starter.last.answers.set('ping', () => {
      const rtt_ms = rtts.shift() ?? null;
      return rtt_ms === null ? { error: { code: 'timeout', message: 'no answer' } } : { result: { address: '10.9.0.2', rtt_ms } };
    });
  return { ...one, apps, socketPath, post, answer };
}

async function selvedge(socketPath: string, ...args: string[]): Promise<{ code: number | null; out: string; problems: string }> {
  const child = spawn(process.execPath, [program, ...args, '--socket', socketPath], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, problems] = await Promise.all([text(child.stdout), text(child.stderr), once(child, 'close')]);
  return { code: child.exitCode, out, problems };
}

t.test('a node in no network says so', async (t) => {
  const { apps, socketPath, post } = await setUp(t);
  await apps.follow(none);
  t.same(await callControl({ socketPath, method: 'GET', path: '/v1/app' }), { app: null });
  await t.rejects(post('/v1/app/connect', { network: 'shop', namespace: '1' }), { code: 'not_member' });
  t.match(await selvedge(socketPath, 'app', 'ping', 'shop', 'b'), { code: 1, problems: /not a member of app network shop[\s\S]*\[not_member\]/ });
});

t.test('status says that a snapshot has expired, and nothing of one that has not', async (t) => {
  for (const snapshot_is_expired of [true, false]) {
    const { apps, socketPath } = await setUp(t, { snapshot_expires_ms: Date.UTC(2026, 0, 2), snapshot_is_expired });
    await apps.follow(none);
    const { out } = await selvedge(socketPath, 'status');
    t.match(out, /^role node {2}name a\n/);
    t.equal(out.includes('snapshot expired at Fri, 02 Jan 2026 00:00:00 GMT: channels go on'), snapshot_is_expired);
    t.match(JSON.parse((await selvedge(socketPath, 'status', '--json')).out), { self: { snapshot_is_expired } });
  }
});

t.test('requests are checked before anything is done', async (t) => {
  const { apps, running, post, asked } = await setUp(t);
  await running(apps);
  const before = asked.filter(({ op }) => op !== 'wireguard').length;
  for (const body of [
    {},
    { network: 'Shop', namespace: 'x' },
    { network: 'shop' },
    { network: 'shop', namespace: 'x', name: '../x' },
    { network: 'shop', namespace: 'x', more: 1 },
  ]) {
    await t.rejects(post('/v1/app/connect', body), { code: 'request_invalid' });
  }
  await t.rejects(post('/v1/app/ping', { network: 'shop', target: 'b', count: 0 }), { code: 'request_invalid' });
  await t.rejects(post('/v1/app/disconnect', { network: 'shop', name: 'web' }), { code: 'not_found' });
  t.equal(asked.filter(({ op }) => op !== 'wireguard').length, before);
});

t.test('echoes come line by line; one that is lost is counted, and fails the command', async (t) => {
  const { apps, running, socketPath, answer } = await setUp(t);
  await running(apps);
  await settled(apps);
  answer(1.5, null, 0.5);
  const lines: Json[] = [];
  const body = { network: 'shop', target: 'b', count: 3, interval_ms: 1 };
  for await (const line of streamControl({ socketPath, method: 'POST', path: '/v1/app/ping', body })) lines.push(line);
  t.match(lines, [
    { sequence: 0, rtt_ms: 1.5, address: '10.9.0.2' },
    { sequence: 1, rtt_ms: null },
    { sequence: 2, rtt_ms: 0.5 },
    { done: true, sent: 3, received: 2, min_ms: 0.5, max_ms: 1.5 },
  ]);
  answer(1, 2);
  const good = await selvedge(socketPath, 'app', 'ping', 'shop', 'b', '--count', '2', '--interval', '1', '--json');
  t.match([good.code, JSON.parse(good.out)], [0, { network: 'shop', target: 'b', sent: 2, received: 2, samples_ms: [1, 2] }]);
  answer(1);
  t.match(await selvedge(socketPath, 'app', 'ping', 'shop', 'b', '--count', '2', '--interval', '1'), { code: 1, out: /no answer[\s\S]*1 of 2 answered/ });
});

t.test('connect, status, rotate-key and disconnect, as a user types them', async (t) => {
  const { apps, running, socketPath, starter } = await setUp(t);
  await running(apps);
  await settled(apps);
  t.match(await selvedge(socketPath, 'app', 'connect', 'shop', String(process.pid), '--name', 'web'), { code: 0, out: 'web is on shop: shop0 has 10.9.0.3\n' });
  starter.last.stats = {
    peers: [
      {
        node: 'bbbbbbbbbbbb',
        path: 'direct',
        why: '',
        endpoint: { host: '192.0.2.2', port: 51_820 },
        latestHandshake_ms: 5_000,
        directHeard_ms: 10,
        rxBytes: 1_500,
        txBytes: 0,
      },
    ],
    networks: [{ name: 'shop', rxBytes: 10, txBytes: 20, refused: { forged_source: 3, malformed: 0 } }],
  };
  const { out } = await selvedge(socketPath, 'status');
  t.match(out, /tunnel small 1 \(process 200\), WireGuard in user space/);
  t.match(out, /shop +1001 +10\.9\.0\.1 fd00::1 10\.9\.0\.3 fd00::3 \(web\) +2 +10 B +20 B +forged_source 3 +1370 \(underlay of 1500 at a, less 130/);
  t.match(out, /b \(bbbbbbbbbbbb\) +shop +direct \(.+\) +192\.0\.2\.2:51820 +5 s ago +1\.5 kB +0 B/);
  t.match(JSON.parse((await selvedge(socketPath, 'status', '--json')).out), { app: { networks: [{ name: 'shop' }], faults: [] } });
  t.match(await selvedge(socketPath, 'app', 'rotate-key'), { code: 0, out: /new key/ });
  t.match(await selvedge(socketPath, 'app', 'rotate-key'), { code: 2, problems: /the last rotation is not over/ });
  t.match(await selvedge(socketPath, 'app', 'disconnect', 'shop', 'web'), { code: 0, out: 'web is no more on shop\n' });
});

/** The engine is known once the first state was applied. */
async function settled(apps: Awaited<ReturnType<typeof setUp>>['apps']): Promise<void> {
  while ((await apps.status())?.tunnel.is_current !== true) await new Promise((resolve) => setImmediate(resolve));
}
