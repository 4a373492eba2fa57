/** What a daemon sees of itself, asked over its local socket as the CLI asks it. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { callControl, streamControl } from '../../../src/node/control-client.ts';
import { controlServer } from '../../../src/node/control-server.ts';
import { Metrics } from '../../../src/observe/metrics.ts';
import { Observatory } from '../../../src/observe/observatory.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { Hosts } from '../peering/hosts.ts';

async function setUp(t: Test) {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  const socketPath = join(folder, 's');
  const hosts = new Hosts();
  const seen = new Observatory({ wall: () => hosts.timers.clock.wall() });
  hosts.watch(seen);
  const mesh = hosts.a;
  const versions = () => ({ directory: 1, trust: 1 });
  const sources = { channels: () => mesh.status(), drain: () => mesh.drainStatus, versions, wall: () => 0, certificateEnds_ms: () => 0 };
  const observed = { events: seen.events, metrics: new Metrics(seen, sources), show: (node: string) => mesh.show(node) };
  const server = await controlServer(socketPath, { mesh, timers: systemTimers, facts: () => ({ role: 'node' }), observed });
  t.teardown(async () => {
    await server.close();
    await hosts.close();
    rmSync(folder, { recursive: true });
  });
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  const follow = (body: object, signal?: AbortSignal) =>
    streamControl({ socketPath, method: 'POST', path: '/v1/events', body: { ...body }, ...(signal && { signal }) });
  return { socketPath, hosts, seen, follow };
}

t.test('all of one channel is told, with its last failures, by name and by id', async (t) => {
  const { socketPath, seen, hosts } = await setUp(t);
  const flow = hosts.a.open('beta', 'clipboard', 'stream', 'echo');
  seen.listen(() => {})('dial failed', { peer: 'beta', code: 'network_unreachable', reason: 'test' });
  for (const name of ['beta', 'bbbbbbbbbbbb']) {
    const shown = await callControl({ socketPath, method: 'GET', path: `/v1/channels/${name}` });
    t.match(shown, {
      name: 'beta',
      state: 'established',
      since_ms: Number,
      channel: /^[0-9a-f]{32}$/,
      flows: [{ class: 'clipboard', service: 'echo', opened_by: 'self' }],
      flows_open: 1,
      versions: { directory: 1, trust: 1, routes: 0 },
      certificate: { serial: '1' },
      backoff: null,
      failures: [{ msg: 'dial failed', code: 'network_unreachable' }],
    });
  }
  flow.reset('flow_refused', 'over');
  await t.rejects(callControl({ socketPath, method: 'GET', path: '/v1/channels/nobody' }), { code: 'not_found' });
  t.match(await callControl({ socketPath, method: 'GET', path: '/v1/metrics' }), { text: /selvedge_channels/, metrics: [{ name: 'selvedge_channels' }] });
});

t.test('events are told from a number on, and followed as they happen', async (t) => {
  const { seen, follow } = await setUp(t);
  const told = [];
  for await (const event of follow({ since: 3 })) told.push(event);
  t.same(
    told.map(({ sequence }) => sequence),
    [...seen.events.since(3).events.map(({ sequence }) => sequence), undefined],
  );
  t.match(told.at(-1), { done: true, missed: 0, last: seen.events.last });
  const end = new AbortController();
  const heard: unknown[] = [];
  const following = (async () => {
    for await (const { msg } of follow({ since: seen.events.last - 1, follow: true }, end.signal)) {
      heard.push(msg);
      if (heard.length === 1) seen.listen(() => {})('drained', { forced: 0 });
      else end.abort(new Error('enough'));
    }
  })();
  await t.rejects(following, { message: 'enough' });
  t.equal(heard[1], 'drained');
});

t.test('a reader that does not keep up is let go with limit_reached, and counted', async (t) => {
  const { seen, follow } = await setUp(t);
  const lines = follow({ since: seen.events.last - 1, follow: true });
  await lines.next();
  const reason = 'x'.repeat(limits.event_field_chars_max);
  // In one turn of the loop, so that nothing of it can have been read.
  for (let bytes = 0; bytes < 2 * limits.control_backlog_bytes_max; bytes += reason.length) seen.events.add(0, 'dial failed', { reason });
  t.same([seen.events.letGo, seen.events.following], [1, 0]);
  await t.rejects(
    (async () => {
      for await (const _ of lines);
    })(),
    { code: 'limit_reached' },
  );
});
