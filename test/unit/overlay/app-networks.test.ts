/**
 * A host's app networks as a whole, against a small tunnel on a real socket and a tower in memory: membership, attachments, keys, restarts of the daemon and of
 * the tunnel. What the real tunnel does with it is shown in test/lab.
 */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { rejectsWith } from '../../compliance/store.ts';
import { none, oneHost, plain, withWeb } from './one-host.ts';

t.test('a node in no network runs no tunnel', async (t) => {
  const { starter, daemon, asked } = await oneHost(t);
  const apps = await daemon();
  await apps.follow(none);
  await apps.follow({ ...plain, networks: [] });
  t.equal(starter.started.length, 0);
  t.same(asked, []);
  t.equal(await apps.status(), null);
  await rejectsWith(t, apps.places.connect({ network: 'shop', namespace: '1' }), 'not_member');
  await rejectsWith(t, apps.rotateKey(), 'not_member');
});

t.test('a member publishes its key and gives the tunnel the desired state; no secret is logged or told the tower', async (t) => {
  const { starter, daemon, running, asked, log } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  const { state } = starter.last;
  t.match(state, { generation: 1, owner: 'edge/aaaaaaaaaaaa', wireguard: { keys: [{ listenPort: 51_820 }] }, networks: [{ name: 'shop', mtu: 1_370 }] });
  t.match(asked[0], { op: 'wireguard', keys: [/^.{43}=$/], listen: { host: null, port: 51_820 }, underlay: null });
  const [{ privateKey } = { privateKey: '' }] = state?.wireguard.keys ?? [];
  t.notOk(JSON.stringify([asked, log, await apps.status()]).includes(privateKey));
  t.match(await apps.status(), {
    networks: [{ name: 'shop', mtu: 1_370, members: 2, addresses: ['10.9.0.1', 'fd00::1'] }],
    peers: [{ name: 'b', networks: ['shop'], path: 'direct' }],
  });
});

t.test('a restart of the daemon changes nothing in the tunnel', async (t) => {
  const { starter, daemon, running } = await oneHost(t);
  const first = await daemon();
  await running(first);
  await first.close();
  const before = { ...starter.last.state, generation: 0 };
  const second = await daemon();
  await running(second);
  await starter.last.until(() => starter.last.applied.length === 2);
  t.same({ ...starter.last.state, generation: 0 }, before);
  t.equal(JSON.stringify({ ...starter.last.applied[1], generation: 0 }), JSON.stringify({ ...starter.last.applied[0], generation: 0 }), 'the same text');
  t.equal(starter.started.length, 1, 'the tunnel of before');
});

t.test('a tunnel that died is started again and given the keys again', async (t) => {
  const { starter, daemon, running } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  const before = starter.last.state;
  await starter.last.kill();
  while (starter.started.length < 2) await new Promise((resolve) => setImmediate(resolve));
  await starter.last.until(() => starter.last.state !== null);
  t.same({ ...starter.last.state, generation: 0 }, { ...before, generation: 0 });
});

t.test('a namespace is connected, remembered, and taken off again', async (t) => {
  const { starter, daemon, running, asked } = await oneHost(t);
  const first = await daemon();
  await running(first);
  const connected = await first.places.connect({ network: 'shop', namespace: String(process.pid), name: 'web' });
  t.same(connected, { network: 'shop', name: 'web', interface: 'shop0', mac: '02:00:00:00:03:02', address4: '10.9.0.3', address6: null });
  t.match(starter.last.state?.networks[0]?.attachments, [{ name: 'web', netns: `pid:${process.pid}`, addresses: ['10.9.0.3/24', 'fd00::3/64'] }]);
  await rejectsWith(t, first.places.connect({ network: 'shop', namespace: '/proc/self/ns/net', name: 'web' }), 'argument_invalid');
  await rejectsWith(t, first.places.connect({ network: 'shop', namespace: '/proc/self/ns/net', interface: 'svb-1' }), 'argument_invalid');
  await rejectsWith(t, first.places.connect({ network: 'shop', namespace: 'nowhere' }), 'namespace_missing');
  await first.close();

  const second = await daemon();
  await second.follow(withWeb);
  await starter.last.until(() => starter.last.applied.length === 3);
  t.match(starter.last.state?.networks[0]?.attachments, [{ name: 'web' }], 'a new daemon remembers');
  await second.places.disconnect('shop', 'web');
  await starter.last.until(() => starter.last.state?.networks[0]?.attachments.length === 0);
  t.same(
    asked.map(({ op }) => op).filter((op) => op !== 'wireguard'),
    ['attach', 'detach'],
  );
  await second.follow(plain);
  await rejectsWith(t, second.places.disconnect('shop', 'web'), 'not_found');
});

t.test('a place that the tower no longer knows is asked for again, with the membership', async (t) => {
  const { starter, daemon, running, asked } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  await apps.places.connect({ network: 'shop', namespace: String(process.pid), name: 'web' });
  const attaches = () => asked.filter(({ op }) => op === 'attach').length;
  await apps.follow(none);
  t.equal(attaches(), 1);
  await apps.follow(plain);
  while (starter.started.length < 2) await new Promise((resolve) => setImmediate(resolve));
  await starter.last.until(() => starter.last.state?.networks[0]?.attachments[0]?.name === 'web');
  t.equal(attaches(), 2);
});

t.test('a tunnel of another version that speaks our protocol is kept, and told of', async (t) => {
  const { starter, daemon, running } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  t.same((await apps.status())?.faults, []);
  await apps.close();
  starter.last.program = 'small 0.9';
  const later = await daemon();
  await running(later);
  await starter.last.until(() => starter.last.applied.length === 2);
  t.match((await later.status())?.faults, [{ code: 'tunnel_outdated', why: 'small 0.9 was running already; this daemon brings small 1', remedy: /SIGTERM/ }]);
  t.equal(starter.started.length, 1);
});

t.test('a connect that the tower or the tunnel refuses leaves nothing behind', async (t) => {
  const { starter, daemon, running, refuse, asked } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  refuse({ error: { code: 'limit_reached', message: 'full', facts: { limit: 'addresses of shop', max: 254 } } });
  await t.rejects(apps.places.connect({ network: 'shop', namespace: String(process.pid), name: 'web' }), {
    code: 'limit_reached',
    message: 'limit addresses of shop (254) reached',
  });
  refuse(null);
  starter.last.answers.set('apply', ({ generation }: { generation: number }) => ({
    result: { generation, changed: [], failures: [{ code: 'namespace_missing', what: 'attachment shop/web', why: 'it went away' }] },
  }));
  await rejectsWith(t, apps.places.connect({ network: 'shop', namespace: String(process.pid), name: 'web' }), 'namespace_missing');
  t.equal(asked.at(-1)?.op, 'detach');
  t.same((await apps.status())?.networks[0]?.attachments, []);
});

t.test('without the tower what is there stays, and a new place is refused at once', async (t) => {
  const { net, starter, daemon, running } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  const applied = starter.last.applied.length;
  net.isConnected = false;
  net.cut('flow_lost');
  await rejectsWith(t, apps.places.connect({ network: 'shop', namespace: String(process.pid), name: 'web' }), 'not_connected');
  const status = await apps.status();
  t.match(status, { tunnel: { is_up: true, is_current: true }, networks: [{ name: 'shop', attachments: [] }], peers: [{ name: 'b' }] });
  t.equal(starter.last.applied.length, applied);
});

t.test('a rotation has both keys, each with a port of its own, and the newest in front', async (t) => {
  const { starter, daemon, running, asked } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  await apps.rotateKey();
  await starter.last.until(() => starter.last.state?.wireguard.keys.length === 2);
  t.same(
    starter.last.state?.wireguard.keys.map(({ listenPort }) => listenPort),
    [51_821, 51_820],
  );
  while (asked.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.match(asked[1], { op: 'wireguard', listen: { port: 51_821 } });
  const [first, second] = asked.map(({ keys }) => keys as string[]);
  t.same(second?.slice(1), first, 'the older one behind it');
  await rejectsWith(t, apps.rotateKey(), 'argument_invalid');
});

t.test('the MTU of the underlay, once it is known, is told the tower and followed', async (t) => {
  const { starter, daemon, running, asked } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  starter.last.event('underlay', { node: 'bbbbbbbbbbbb', underlay: { interface: 'eth0', source: '192.0.2.1', mtu: 1_492, why: 'of eth0' } });
  await starter.last.until(() => starter.last.state?.networks[0]?.mtu === 1_362);
  while (asked.length < 2) await new Promise((resolve) => setImmediate(resolve));
  t.match(asked[1], { underlay: { mtu: 1_492, ipv4_only: false } });
  t.match((await apps.status())?.networks[0]?.mtu_why, 'underlay of 1492 at a, less 130 of headers');
  // A way that is gone for a moment changes nothing.
  starter.last.event('underlay', { node: 'bbbbbbbbbbbb', underlay: null });
  starter.last.event('underlay', { node: 'bbbbbbbbbbbb', underlay: { interface: 'eth0', source: null, mtu: 9_000, why: 'of eth0' } });
  await starter.last.until(() => starter.last.state?.networks[0]?.mtu === 1_370);
});

t.test('when the last membership is gone the tunnel is ended, a new one starts another, and what a daemon before left is ended too', async (t) => {
  const { starter, daemon, running } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  const first = starter.last;
  await apps.follow(none);
  t.equal(first.methods.at(-1), 'close');
  await apps.follow(plain);
  while (starter.started.length < 2) await new Promise((resolve) => setImmediate(resolve));
  await starter.last.until(() => starter.last.state !== null);
  await apps.close();
  const later = await daemon();
  await later.follow(none);
  t.equal(starter.last.methods.at(-1), 'close');
});

t.test('where rules deny that packets are carried, status says which, and what to do', async (t) => {
  const denial = new SelvedgeError('channel_class_denied', { class: 'vpn_packet', why: 'policy apart (priority 100) denies it' });
  const none = () => {};
  const carrier = {
    follow: none,
    routeTo: () => null,
    say: none,
    stateOf: () => null,
    denialOf: () => denial,
    droppedTo: () => 3,
    onChange: none,
    channelsAre: none,
    close: none,
  };
  const { daemon, running } = await oneHost(t, { carrier });
  const apps = await daemon();
  await running(apps);
  const status = await apps.status();
  t.match(status?.faults, [{ code: 'channel_class_denied', what: 'carrying packets to b', why: /policy apart/, remedy: /policy/ }]);
  t.match(status?.peers, [{ name: 'b', path: 'direct', why: /not carried: .*policy apart/ }]);
  t.match(apps.counters().peers, [{ node: 'bbbbbbbbbbbb', carryDropped: 3 }]);
});

t.test('counters are those that the tunnel told last', async (t) => {
  const { starter, daemon, running } = await oneHost(t);
  const apps = await daemon();
  t.same(apps.counters(), { isTunnelUp: false, networkCount: 0, networks: [], peers: [], paths: { direct: 0, carried: 0 } });
  await running(apps);
  starter.last.stats = {
    peers: [{ node: 'bbbbbbbbbbbb', path: 'direct', rxBytes: 5, txBytes: 6, dropped: 1, latestHandshake_ms: 40 }],
    networks: [{ name: 'shop', rxBytes: 7, txBytes: 8, refused: { not_member: 2 } }],
  };
  await apps.status();
  t.match(apps.counters(), {
    isTunnelUp: true,
    networkCount: 1,
    networks: [{ network: 'shop', sent: 8, received: 7 }],
    peers: [{ node: 'bbbbbbbbbbbb', name: 'b', sent: 6, received: 5, queueDropped: 1, carryDropped: 0, path: 'direct', handshake_ms: 40 }],
    paths: { direct: 1, carried: 0 },
  });
  t.equal(apps.counters().networks[0]?.refused.get('not_member'), 2);
});

t.test('an echo goes through the tunnel; names, places and addresses are told apart', async (t) => {
  const { starter, daemon, running } = await oneHost(t);
  const apps = await daemon();
  await running(apps);
  await starter.last.until(() => starter.last.methods.includes('apply'));
  t.equal(apps.addressOf('shop', 'b'), '10.9.0.2');
  t.equal(apps.addressOf('shop', 'bbbbbbbbbbbb'), '10.9.0.2');
  t.equal(apps.addressOf('shop', 'fd00::2'), 'fd00::2');
  t.throws(() => apps.addressOf('shop', 'b/web'), { code: 'not_found' });
  t.throws(() => apps.addressOf('bank', 'b'), { code: 'not_member' });
  const questions: object[] = [];
  starter.last.answers.set('ping', (params: object) => {
    questions.push(params);
    return questions.length === 1 ? { result: { address: '10.9.0.2', rtt_ms: 0.25 } } : { error: { code: 'timeout', message: '10.9.0.2 did not answer' } };
  });
  t.equal(await apps.echo('shop', '10.9.0.2', 56, 100), 0.25);
  t.equal(await apps.echo('shop', '10.9.0.2', 56, 100), null);
  t.same(questions[0], { network: 'shop', address: '10.9.0.2', count: 1, timeout_ms: 100, size: 56 });
});

t.test('a damaged list of attachments keeps the daemon from guessing', async (t) => {
  const { folder, daemon } = await oneHost(t);
  mkdirSync(join(folder, 'attachments.json'));
  await rejectsWith(t, daemon(), 'store_damaged');
});
