/** What a daemon sees of itself: the ring of events, who follows it, what is counted, and by which labels alone. */
import { request } from 'node:http';
import t from 'tap';
import { errorCodes } from '../../../src/base/errors.ts';
import { trafficClassNames } from '../../../src/channel/classes.ts';
import { channelStates } from '../../../src/channel/states.ts';
import { serveMetrics } from '../../../src/observe/endpoint.ts';
import { EventRing } from '../../../src/observe/event-ring.ts';
import { metricNames, metricTable } from '../../../src/observe/metric-table.ts';
import { Metrics } from '../../../src/observe/metrics.ts';
import { Observatory } from '../../../src/observe/observatory.ts';
import { eventKinds, failureStages } from '../../../src/observe/vocabulary.ts';
import { converse, echo, Hosts } from '../peering/hosts.ts';

function watched() {
  const hosts = new Hosts();
  const seen = new Observatory({ wall: () => hosts.timers.clock.wall() });
  hosts.watch(seen);
  const metrics = new Metrics(seen, {
    channels: () => hosts.a.status(),
    drain: () => hosts.a.drainStatus,
    versions: () => ({ directory: 7, trust: 2, routes: 3 }),
    wall: () => hosts.timers.clock.wall(),
    certificateEnds_ms: () => hosts.timers.clock.wall() + 86_400_000,
  });
  return { hosts, seen, metrics };
}

/** A metric's value with these labels; undefined: there is none. */
async function metricOf(metrics: Metrics, name: string, wanted: Record<string, string> = {}): Promise<number | undefined> {
  const found = (await metrics.json()).find((metric) => metric.name === name);
  return found?.values.find(({ labels }) => Object.entries(wanted).every(([label, value]) => labels[label] === value))?.value;
}

async function conversed(hosts: Hosts, bytes: number): Promise<void> {
  let isOver = false;
  hosts.b.handle('echo', (flow) => void echo(flow).catch(() => {}));
  void converse(hosts.a.open('beta', 'clipboard', 'stream', 'echo'), bytes).then(() => {
    isOver = true;
  });
  await hosts.until(() => isOver);
}

t.test('each change of a channel is an event, with its state and why it ended', async (t) => {
  const { hosts, seen } = watched();
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  const states = () => seen.events.since(0).events.filter(({ msg }) => msg === 'channel state');
  t.same(
    states().map(({ state }) => state),
    ['connecting', 'handshaking', 'authenticating', 'authorizing', 'established'],
  );
  t.match(states().at(-1), { kind: 'channel', peer: 'beta', side: 'dialer', before: 'authorizing' });
  hosts.revoked.add('bbbbbbbbbbbb');
  hosts.a.revalidate();
  t.match(states().at(-1), { state: 'failed', before: 'revalidating', code: 'certificate_revoked', remedy: /enroll/ });
  t.equal(seen.revocations.get(['channel']), 1);
  t.equal(seen.revalidations.get(['failed']), 1);
  t.same(await hosts.close(), []);
});

t.test('octets by class are counted over channels that have ended, and never go back', async (t) => {
  const { hosts, seen, metrics } = watched();
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  await conversed(hosts, 10_000);
  const sent = () => metricOf(metrics, 'selvedge_class_bytes_total', { class: 'clipboard', direction: 'sent' });
  t.equal(await sent(), 10_000);
  await hosts.restartB();
  const isAnother = () => seen.events.since(0).events.some(({ state }) => state === 'failed') && hosts.a.status()[0]?.suspect === false;
  await hosts.until(() => isAnother() && hosts.state === 'established');
  await hosts.run(200);
  await conversed(hosts, 5_000);
  t.equal(await sent(), 15_000);
  t.equal(await metricOf(metrics, 'selvedge_channels', { state: 'established', side: 'dialer' }), 1);
  t.equal(await metricOf(metrics, 'selvedge_directory_version'), 7);
  t.equal(await metricOf(metrics, 'selvedge_certificate_expires_seconds'), 86_400);
  t.ok((await metricOf(metrics, 'selvedge_heartbeat_rtt_seconds', { peer: 'node', stat: 'median' })) ?? 0);
  t.equal(await metricOf(metrics, 'selvedge_snapshot_age_seconds'), undefined, 'it has no snapshot');
  t.same(await hosts.close(), []);
});

t.test('frames that newer ones took the place of are counted, also over channels that have ended', async (t) => {
  const { hosts, metrics } = watched();
  hosts.b.handle('screen', () => {});
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  const dropped = () => metricOf(metrics, 'selvedge_stale_frames_dropped_total');
  t.equal(await dropped(), 0);
  const flow = hosts.a.open('beta', 'render', 'latest', 'screen');
  // All at once, before any has begun to leave: the last alone does.
  for (let frame = 0; frame < 10; frame++) flow.send(new Uint8Array(300_000).fill(frame));
  await hosts.run(500);
  const count = await dropped();
  t.equal(count, 9);
  await hosts.restartB();
  await hosts.until(() => hosts.state === 'established');
  t.equal(await dropped(), count);
  t.same(await hosts.close(), []);
});

t.test('every label has a value of a closed set, whatever peers are called and whatever they cause', async (t) => {
  const { hosts, seen, metrics } = watched();
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  const log = seen.listen(() => {});
  for (let index = 0; index < 5_000; index++) {
    log('dial failed', { peer: `peer-${index}`, code: index % 2 ? 'network_unreachable' : `code-${index}`, reason: 'x' });
    log(`message ${index}`, { code: 'timeout', [`field${index}`]: index });
  }
  const sets: Record<string, readonly string[]> = {
    state: channelStates,
    side: ['dialer', 'acceptor'],
    transport: ['quic', 'tcp', 'memory', 'none'],
    class: trafficClassNames,
    direction: ['sent', 'received'],
    mode: ['new', 'resume', 'migrate'],
    stage: failureStages,
    code: errorCodes,
    peer: ['tower', 'node'],
    stat: ['min', 'median', 'max'],
    action: ['node', 'channel'],
    outcome: ['passed', 'failed'],
    kind: eventKinds,
  };
  const all = await metrics.json();
  for (const { name, values } of all) {
    for (const { labels } of values)
      for (const [label, value] of Object.entries(labels)) t.ok(sets[label]?.includes(String(value)), `${name} ${label}=${value}`);
  }
  t.equal(await metricOf(metrics, 'selvedge_failures_total', { stage: 'dial', code: 'network_unreachable' }), 2_500);
  t.equal(await metricOf(metrics, 'selvedge_failures_total', { stage: 'other', code: 'timeout' }), 5_000);
  t.notMatch(await metrics.text(), /beta|peer-|code-|field/);
  t.same(
    all.map(({ name }) => name),
    metricNames.filter((name) => !/^selvedge_(snapshot|app|tunnel)_/.test(name)),
  );
  for (const name of metricNames) t.equal(name.endsWith('_total'), metricTable[name].type === 'counter', name);
  t.same(await hosts.close(), []);
});

t.test('the ring keeps the newest, and says how many a late reader has missed', async (t) => {
  const ring = new EventRing(4);
  for (let at = 1; at <= 10; at++) ring.add(at, 'dial failed', { peer: 'b', code: 'network_unreachable', reason: `r${at}`, unheard_of: 1 });
  const { events, missed } = ring.since(2);
  t.same(
    events.map(({ sequence }) => sequence),
    [7, 8, 9, 10],
  );
  t.equal(missed, 4);
  t.same(ring.since(10), { events: [], missed: 0 });
  t.equal(ring.since(1_000).events.length, 4, 'a number of before a restart');
  t.match(events[0], { kind: 'session', remedy: /netcheck/ });
  t.notOk('unheard_of' in (events[0] ?? {}));
  t.same(
    ring.failuresOf('b', 2).map(({ sequence }) => sequence),
    [10, 9],
  );
  t.equal(ring.add(11, 'dial failed', { reason: 'x'.repeat(10_000) }).reason?.toString().length, 512);
});

t.test('a follower that does not take an event is let go, and counted', async (t) => {
  const ring = new EventRing(4);
  const taken: number[] = [];
  const end = ring.follow(({ sequence }) => taken.push(sequence) > 0);
  ring.follow(({ sequence }) => sequence < 2);
  for (let at = 0; at < 3; at++) ring.add(at, 'drained', {});
  t.same(taken, [1, 2, 3]);
  t.same([ring.following, ring.letGo], [1, 1]);
  end();
  ring.add(4, 'drained', {});
  t.same([taken.length, ring.following, ring.letGo], [3, 0, 1]);
});

t.test('the endpoint answers on loopback alone, and to nobody who came by another name', async (t) => {
  const { hosts, metrics } = watched();
  await t.rejects(serveMetrics(metrics, { address: '0.0.0.0', port: 0 }), { code: 'argument_invalid' });
  await t.rejects(serveMetrics(metrics, { address: '192.0.2.1', port: 0 }), { code: 'argument_invalid' });
  await t.rejects(serveMetrics(metrics, { address: 'localhost.example', port: 0 }), { code: 'argument_invalid' });
  const endpoint = await serveMetrics(metrics, { address: '127.0.0.1', port: 0 });
  await t.rejects(serveMetrics(metrics, { address: '127.0.0.1', port: endpoint.port }), { code: 'port_in_use' });
  const answer = await get(endpoint.port, '127.0.0.1');
  t.equal(answer.status, 200);
  t.match(answer.text, /^# TYPE selvedge_channels gauge$/m);
  t.equal((await get(endpoint.port, 'evil.example')).status, 400);
  await endpoint.close();
  t.same(await hosts.close(), []);
});

function get(port: number, host: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    request({ host: '127.0.0.1', port, path: '/metrics', agent: false, headers: { host } }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() }));
    })
      .on('error', reject)
      .end();
  });
}
