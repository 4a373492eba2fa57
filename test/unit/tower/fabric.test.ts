/** Snapshots over flows: a real tower, flows in memory, and a clock that the test steps. */
import { EventEmitter, once } from 'node:events';
import t, { type Test } from 'tap';
import { type ErrorCode, SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import type { AppPart } from '../../../src/enroll/app-wire.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import type { FlowHandle, Mesh } from '../../../src/peering/mesh.ts';
import { systemClock, type Timers } from '../../../src/transport/system.ts';
import { serveSnapshots } from '../../../src/tower/fabric.ts';
import { NodeFlow, snapshotNumber } from './node-flow.ts';
import { HOUR_MS, makeTower } from './support.ts';

const KEY = `${'A'.repeat(42)}E=`;

async function fabric(t: Test) {
  const tower = await makeTower(t);
  let accept: (flow: FlowHandle) => void = () => t.fail('nobody handles the service');
  const mesh: Mesh = {
    open: () => {
      throw new SelvedgeError('not_connected', { peer: 'x', why: 'not here' });
    },
    handle: (service, handler) => {
      t.equal(service, 'snapshot');
      accept = handler;
    },
    status: () => [],
    close: () => Promise.resolve(),
  };
  /** What waits for the next refresh, and what for its turn to be pushed; the clock stands still unless a test moves it. */
  const [due, held]: [(() => void)[], (() => void)[]] = [[], []];
  const clock = { at_ms: 1_000, now: () => clock.at_ms, wall: () => systemClock.wall() };
  const timers: Timers = {
    clock,
    after(delay_ms, action) {
      const list = delay_ms === limits.snapshot_refresh_ms ? due : held;
      if (list === held) t.ok(delay_ms > 0 && delay_ms <= limits.snapshot_push_interval_ms);
      list.push(action);
      return () => list.splice(list.indexOf(action), 1);
    },
  };
  const failures: string[] = [];
  const heard = new EventEmitter();
  const service = serveSnapshots(mesh, tower, timers, (error) => {
    failures.push(error.code);
    heard.emit('failure');
  });
  const failed = async (code: ErrorCode) => {
    while (!failures.includes(code)) await once(heard, 'failure');
  };
  t.teardown(() => service.close());
  const join = async (name: string, site = 'north') => {
    const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
    return (
      await tower.enroll(
        { proof: { kind: 'token', token }, csr: Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64'), name, site, listen: [] },
        '192.0.2.1',
      )
    ).node;
  };
  const connect = (flow: NodeFlow) => {
    accept(flow);
    return flow;
  };
  return { tower, service, failures, failed, join, connect, due, held, clock };
}

t.test('a node that has nothing gets its snapshot, and one that has it gets nothing until there is something newer', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const [one, other] = [await join('one'), await join('other')];
  const flow = connect(new NodeFlow(one));
  flow.ask({ have: 0, listen: [] });
  const first = await snapshotNumber(1, flow, tower);
  t.strictSame(
    first.peers.map((peer) => peer.name),
    ['other'],
  );

  const again = connect(new NodeFlow(one));
  again.ask({ have: first.version, listen: [] });
  await tower.setEndpoints(other, [{ host: '192.0.2.2', tcp: 443, udp: 443 }]);
  const second = await snapshotNumber(1, again, tower);
  t.ok(second.version > first.version);
  t.equal(second.peers[0]?.endpoints[0]?.host, '192.0.2.2');
  t.equal(flow.resetCode, 'replaced', 'the flow before it is over');
});

t.test('a change is pushed to the nodes of its site and to no other', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const north = connect(new NodeFlow(await join('n')));
  const south = connect(new NodeFlow(await join('s', 'south')));
  for (const flow of [north, south]) flow.ask({ have: 0, listen: [] });
  await snapshotNumber(1, north, tower);
  await snapshotNumber(1, south, tower);
  await join('n2');
  t.strictSame(
    (await snapshotNumber(2, north, tower)).peers.map((peer) => peer.name),
    ['n2'],
  );
  await join('s2', 'south');
  t.strictSame(
    (await snapshotNumber(2, south, tower)).peers.map((peer) => peer.name),
    ['s2'],
  );
  t.equal(north.got.length, 2);
});

t.test('where a node listens reaches its peers, and that it was seen is recorded', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const [one, two] = [await join('one'), await join('two')];
  const watcher = connect(new NodeFlow(two));
  watcher.ask({ have: 0, listen: [] });
  await snapshotNumber(1, watcher, tower);
  const flow = connect(new NodeFlow(one));
  flow.ask({ have: 0, listen: [{ host: '198.51.100.4', tcp: 8443, udp: null }] });
  const pushed = await snapshotNumber(2, watcher, tower);
  t.strictSame(pushed.peers[0]?.endpoints, [{ host: '198.51.100.4', tcp: 8443, udp: null }]);
  await snapshotNumber(1, flow, tower);
  t.type((await tower.nodes()).find((row) => row.id === one)?.seen_ms, 'number');
});

t.test('a change of an app network is pushed to its members, at whatever site, and to nobody else', async (t) => {
  const { tower, join, connect, clock } = await fabric(t);
  const [one, neighbour, far] = [await join('one'), await join('neighbour'), await join('far', 'south')];
  const flowOf = async (node: string) => {
    const flow = connect(new NodeFlow(node));
    flow.ask({ have: 0, listen: [] });
    t.equal((await snapshotNumber(1, flow, tower)).app, undefined);
    return flow;
  };
  const [member, bystander] = [await flowOf(one), await flowOf(neighbour)];
  let distant = await flowOf(far);
  /** The first snapshot from now on that says so. */
  const hears = async (flow: NodeFlow, isSaid: (app: AppPart | undefined) => boolean) => {
    for (let count = flow.got.length; ; count++) {
      clock.at_ms += limits.snapshot_push_interval_ms;
      const { app } = await snapshotNumber(count, flow, tower);
      if (isSaid(app)) return app;
    }
  };
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  await tower.app.add('shop', 'one', 'local');
  await tower.app.add('shop', far, 'local');
  await hears(distant, (app) => app?.hosts[0]?.node === one);
  await tower.app.wireguard(far, { keys: [KEY], listen: { host: '192.0.2.9', port: 51_820 }, underlay: { mtu: 1_500, ipv4_only: true } });
  t.match(await hears(member, (app) => app?.hosts[0]?.keys.length === 1), {
    vtep: '100.96.0.1',
    networks: [{ name: 'shop', vni: 1_001, endpoints: [{}, {}] }],
    hosts: [{ node: far, name: 'far', site: 'south', vtep: '100.96.0.2', keys: [KEY], endpoint: { host: '192.0.2.9', port: 51_820 } }],
  });
  await tower.setDisabled(far, true);
  await hears(member, (app) => app?.hosts.length === 0);
  await distant.closed;
  t.equal(distant.resetCode, 'peer_disabled');
  await tower.setDisabled(far, false);
  await hears(member, (app) => app?.hosts.length === 1);
  distant = connect(new NodeFlow(far));
  distant.ask({ have: 0, listen: [] });
  await distant.messageNumber(1);
  await tower.app.attach(one, 'shop', 'web');
  await hears(distant, (app) => app?.networks[0]?.endpoints.length === 3);
  await tower.app.remove('shop', 'far', 'local');
  await hears(member, (app) => app?.hosts.length === 0);
  await hears(distant, (app) => app === undefined);
  const heard = distant.got.length;
  await tower.app.detach(one, 'shop', 'web');
  await hears(member, (app) => app?.networks[0]?.endpoints.length === 1);
  await join('later');
  await join('farther', 'south');
  t.match((await snapshotNumber(2, bystander, tower)).peers, [{}, {}], 'the first that the bystander hears of after its own is of its site');
  t.match((await snapshotNumber(heard + 1, distant, tower)).peers, [{ name: 'farther' }], 'and who was removed hears no more of the network');
});

t.test('many changes while a snapshot cannot leave become one', async (t) => {
  const { tower, join, connect } = await fabric(t);
  const one = await join('one');
  const flow = connect(new NodeFlow(one));
  flow.isFull = true;
  flow.ask({ have: 0, listen: [] });
  await snapshotNumber(1, flow, tower);
  for (let index = 0; index < 5; index++) await join(`n${index}`);
  t.equal(flow.got.length, 1);
  flow.unblock();
  t.equal((await snapshotNumber(2, flow, tower)).peers.length, 5);
  t.equal(flow.got.length, 2);
});

t.test('changes without end are told at once for a while, then once an interval, and the last one always', async (t) => {
  const { tower, join, connect, held, clock } = await fabric(t);
  const [churner, member, third] = [await join('churner'), await join('member', 'south'), await join('third', 'south')];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  for (const node of [churner, member]) await tower.app.add('shop', node, 'local');
  const flow = connect(new NodeFlow(member));
  flow.ask({ have: 0, listen: [] });
  const burst = limits.snapshot_pushes_burst_max;
  for (let count = 1; count < burst; count++) {
    await snapshotNumber(count, flow, tower);
    await tower.app.attach(churner, 'shop', `place-${count}`);
  }
  await snapshotNumber(burst, flow, tower);
  for (let index = 0; index < 20; index++) await tower.app.attach(churner, 'shop', `more-${index}`);
  t.equal(held.length, 1);
  t.equal(flow.got.length, burst, 'no more now');
  clock.at_ms += limits.snapshot_push_interval_ms;
  held.shift()?.();
  const next = await snapshotNumber(burst + 1, flow, tower);
  t.equal(next.app?.networks[0]?.endpoints.length, 2 + burst - 1 + 20, 'all of them in one');
  await tower.app.attach(churner, 'shop', 'late');
  await tower.revokeNode(third);
  const told = await snapshotNumber(burst + 2, flow, tower);
  t.notOk(
    told.peers.some(({ id }) => id === third),
    'a revocation waits for no turn',
  );
  clock.at_ms += limits.snapshot_push_interval_ms;
  await tower.app.detach(churner, 'shop', 'place-1');
  const waits = () => new Promise((resolve) => setImmediate(resolve));
  while (held.length === 0) await waits();
  flow.ask(null);
  await flow.closed;
  t.equal(held.length, 0, 'who left waits for nothing');
  t.equal(flow.got.length, burst + 2);
});

t.test('a snapshot is sent anew before its time to live is over', async (t) => {
  const { tower, join, connect, due } = await fabric(t);
  const flow = connect(new NodeFlow(await join('one')));
  flow.ask({ have: 0, listen: [] });
  const first = await snapshotNumber(1, flow, tower);
  due.shift()?.();
  const second = await snapshotNumber(2, flow, tower);
  t.equal(second.version, first.version);
  t.ok(second.issued_ms >= first.issued_ms);
  t.equal(due.length, 1, 'and again after that');
  t.ok(limits.snapshot_refresh_ms < limits.snapshot_ttl_s * 1_000);
});

t.test('a node that breaks the rules loses its flow with the reason', async (t) => {
  const { tower, failed, join, connect } = await fabric(t);
  const one = await join('one');
  t.equal(connect(new NodeFlow(one, 'file_transfer')).resetCode, 'channel_class_denied');
  t.equal(connect(new NodeFlow(one, 'fabric_control', 'stream')).resetCode, 'flow_refused');
  t.equal(connect(new NodeFlow('tower')).resetCode, 'flow_refused');
  const wrong: [unknown, ErrorCode][] = [
    ['garbage', 'request_invalid'],
    [{ have: '1', listen: [] }, 'request_invalid'],
    [{ have: 0, listen: [], more: 1 }, 'request_invalid'],
    [{ have: 0, listen: Array.from({ length: 9 }, () => ({ host: 'h', tcp: 1, udp: null })) }, 'request_invalid'],
    [{ have: 0, listen: Array.from({ length: 4 }, () => ({ host: 'h'.repeat(250), tcp: 1, udp: null })) }, 'argument_invalid'],
  ];
  for (const [message, code] of wrong) {
    const flow = connect(new NodeFlow(one));
    flow.ask(message);
    await flow.closed;
    t.equal(flow.resetCode, code);
  }
  const stranger = connect(new NodeFlow('ffffffffffff'));
  stranger.ask({ have: 0, listen: [] });
  await stranger.closed;
  t.equal(stranger.resetCode, 'not_found');
  const busy = connect(new NodeFlow(await join('busy')));
  for (let index = 0; index <= limits.snapshot_requests_per_minute_max; index++) busy.ask({ have: 1_000_000, listen: [] });
  await busy.closed;
  t.equal(busy.resetCode, 'rate_limited');
  await tower.revokeNode(one);
  const revoked = connect(new NodeFlow(one));
  revoked.ask({ have: 0, listen: [] });
  await revoked.closed;
  t.equal(revoked.resetCode, 'certificate_revoked');
  await Promise.all([failed('request_invalid'), failed('certificate_revoked')]);
});

t.test('a node that ends its flow, and a service that closes, leave nothing behind', async (t) => {
  const { tower, service, failures, join, connect, due } = await fabric(t);
  const one = await join('one');
  const ended = connect(new NodeFlow(one));
  ended.ask({ have: 0, listen: [] });
  await snapshotNumber(1, ended, tower);
  ended.ask(null);
  t.equal(await ended.closed, null);
  const open = connect(new NodeFlow(one));
  open.ask({ have: 0, listen: [] });
  await snapshotNumber(1, open, tower);
  service.close();
  t.equal(open.resetCode, 'shutting_down');
  t.equal(due.length, 0);
  t.equal(connect(new NodeFlow(one)).resetCode, 'shutting_down');
  t.strictSame(failures, []);
});
