/** App networks as an operator makes them, and as a member's snapshot tells them. */
import t from 'tap';
import { checkSnapshot, type EnrollAnswer } from '../../../src/enroll/wire.ts';
import { openSnapshot } from '../../../src/enroll/snapshot.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { openTower } from '../../../src/tower/init.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { rejectsWith } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, random, unseal } from './support.ts';

const KEYS = ['A', 'B', 'C', 'D'].map((letter) => `${letter.repeat(42)}E=`);

async function enrolled(tower: Tower, name: string, site: string, host = '192.0.2.1'): Promise<EnrollAnswer> {
  const { text: token } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
  return await tower.enroll({ proof: { kind: 'token', token }, csr, name, site, listen: [{ host, tcp: 443, udp: 443 }] }, '192.0.2.1');
}

async function appOf(tower: Tower, node: string) {
  const { envelope } = await tower.snapshot(node);
  const snapshot = openSnapshot(envelope, { roots: tower.roots, cluster: tower.cluster, node, now_ms: systemClock.wall() });
  return checkSnapshot(snapshot).app;
}

t.test('a request for a network that makes no sense is refused, and says what does', async (t) => {
  const tower = await makeTower(t);
  const good = { name: 'shop', subnet4: '10.9.0.0/24' };
  for (const [bad, why] of [
    [{ ...good, name: 'Shop' }, /lower-case/],
    [{ ...good, name: 's'.repeat(33) }, /at most 32/],
    [{ name: 'shop' }, /IPv4 subnet, an IPv6 subnet, or both/],
    [{ ...good, subnet4: '10.9.0.1/24' }, /do you mean 10\.9\.0\.0\/24/],
    [{ ...good, subnet6: '10.9.0.0/24' }, /IPv4, not IPv6/],
    [{ ...good, mtu: 575 }, /from 576/],
    [{ ...good, mtu: 1_400.5 }, /whole number/],
    [{ ...good, subnet6: 'fd00::/64', mtu: 1_279 }, /from 1280 .*as IPv6 needs/],
  ] as const)
    await t.rejects(tower.app.create(bad, 'local'), { code: 'argument_invalid', message: why });
  await tower.app.create({ ...good, subnet6: 'FD00:0::/64', mtu: 1_280, learning: true }, 'local');
  t.match(await tower.app.list({ after: null, limit: 100 }), [
    { name: 'shop', subnet4: '10.9.0.0/24', subnet6: 'fd00::/64', mtu: 1_280, learning: true, members: 0 },
  ]);
  await rejectsWith(t, tower.app.create({ name: 'other', subnet4: '10.0.0.0/8' }, 'local'), 'subnet_overlaps');
});

t.test('members of two sites know each other’s WireGuard and addresses; who is in no network is told of none', async (t) => {
  const tower = await makeTower(t);
  const [one, two, three] = [
    await enrolled(tower, 'one', 'north', '192.0.2.1'),
    await enrolled(tower, 'two', 'south', '2001:db8::2'),
    await enrolled(tower, 'three', 'south', 'three.example'),
  ];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24', subnet6: 'fd00::/64' }, 'local');
  await tower.app.create({ name: 'office', subnet4: '10.10.0.0/24' }, 'local');
  for (const name of ['one', 'two', 'three']) await tower.app.add('shop', name, 'local');
  await tower.app.add('office', two.node, 'local');
  t.equal(await appOf(tower, (await enrolled(tower, 'four', 'north')).node), undefined);
  const underlay = { mtu: 1_500, ipv4_only: false };
  await tower.app.wireguard(two.node, { keys: [KEYS[1] ?? '', KEYS[0] ?? ''], listen: { host: null, port: 51_820 }, underlay });
  await tower.app.wireguard(three.node, { keys: [KEYS[2] ?? ''], listen: { host: null, port: 51_820 }, underlay: null });
  await tower.app.attach(two.node, 'shop', 'web');
  const app = await appOf(tower, one.node);
  t.equal(app?.vtep, '100.96.0.1');
  t.strictSame(
    app?.networks.map((network) => network.name),
    ['shop'],
    'and nothing of the other network of a member',
  );
  t.strictSame(
    app?.networks[0]?.endpoints.map(({ node, attachment, address4, address6 }) => [node, attachment, address4, address6]).toSorted(),
    [
      [one.node, '', '10.9.0.2', 'fd00::2'],
      [three.node, '', '10.9.0.4', 'fd00::4'],
      [two.node, '', '10.9.0.3', 'fd00::3'],
      [two.node, 'web', '10.9.0.5', 'fd00::5'],
    ].toSorted(),
  );
  const hostOf = (node: string) => app?.hosts.find((host) => host.node === node);
  t.strictSame(hostOf(two.node), {
    node: two.node,
    name: 'two',
    site: 'south',
    vtep: '100.96.0.2',
    keys: [KEYS[1], KEYS[0]],
    endpoint: { host: '2001:db8::2', port: 51_820 },
    underlay,
  });
  t.match(hostOf(three.node), { keys: [KEYS[2]], endpoint: null }, 'a host that advertises a name only is reached through channels');
  t.equal(app?.hosts.length, 2);
  await tower.setEndpoints(two.node, [{ host: '198.51.100.2', tcp: 443, udp: null }]);
  t.match(
    (await appOf(tower, one.node))?.hosts.find((host) => host.node === two.node),
    { endpoint: { host: '198.51.100.2' } },
  );
  await tower.revokeNode(two.node);
  const after = await appOf(tower, one.node);
  t.notMatch(JSON.stringify(after), two.node, 'a revoked member is gone at once');
  t.match(
    (await tower.app.show('shop')).hosts.find((host) => host.node === two.node),
    { isLive: false },
  );
});

t.test('a node cannot have the others told of an address that their hosts refuse', async (t) => {
  const tower = await makeTower(t);
  const [one, two] = [(await enrolled(tower, 'one', 'north')).node, (await enrolled(tower, 'two', 'north', '224.0.0.1')).node];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  for (const node of [one, two]) await tower.app.add('shop', node, 'local');
  const listen = (host: string | null) => tower.app.wireguard(two, { keys: [KEYS[1] ?? ''], listen: { host, port: 51_820 }, underlay: null });
  for (const host of ['0.0.0.0', '::', '224.0.0.1', 'ff02::1', '255.255.255.255', '::ffff:192.0.2.2', 'fe80::1%eth0', 'two.example'])
    await rejectsWith(t, listen(host), 'argument_invalid');
  await listen(null);
  t.match((await appOf(tower, one))?.hosts, [{ node: two, endpoint: null }], 'nor by what it advertises for its channels');
  await listen('198.51.100.2');
  t.match((await appOf(tower, one))?.hosts, [{ node: two, endpoint: { host: '198.51.100.2', port: 51_820 } }]);
});

t.test('a change is told of once it is stored, to the members and nobody else', async (t) => {
  const tower = await makeTower(t);
  const [one, two] = [(await enrolled(tower, 'one', 'north')).node, (await enrolled(tower, 'two', 'south')).node];
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  const told: [string | null, string[]][] = [];
  tower.onChange(({ site, nodes }) => told.push([site, nodes.toSorted()]));
  const both = [one, two].toSorted();
  await tower.app.add('shop', 'one', 'local');
  await tower.app.add('shop', 'one', 'local');
  await tower.app.add('shop', two, 'local');
  await tower.app.attach(one, 'shop', 'web');
  await tower.app.detach(one, 'shop', 'web');
  await tower.app.wireguard(one, { keys: [KEYS[0] ?? ''], listen: null, underlay: null });
  await tower.setEndpoints(two, [{ host: '198.51.100.2', tcp: 443, udp: null }]);
  await tower.app.remove('shop', 'two', 'local');
  await tower.app.delete('shop', 'local');
  t.strictSame(told, [
    [null, [one]],
    [null, both],
    [null, both],
    [null, both],
    [null, both],
    ['south', both],
    [null, both],
    [null, [one]],
  ]);
});

t.test('a node is found by its name and by its id, and by neither of anybody else', async (t) => {
  const tower = await makeTower(t);
  const one = await enrolled(tower, 'one', 'north');
  // A name that is the id of another.
  const tricky = await enrolled(tower, one.node, 'north');
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  t.equal((await tower.app.add('shop', one.node, 'local')).node, one.node, 'an id goes before a name');
  t.equal((await tower.app.add('shop', tricky.node, 'local')).node, tricky.node);
  await rejectsWith(t, tower.app.add('shop', 'nobody', 'local'), 'not_found');
  await rejectsWith(t, tower.app.attach('one', 'shop', 'web'), 'not_found');
});

t.test('a tower that starts again gives the same answer as before', async (t) => {
  const tower = await makeTower(t);
  const one = await enrolled(tower, 'one', 'north');
  await tower.app.create({ name: 'shop', subnet4: '10.9.0.0/24' }, 'local');
  await tower.app.add('shop', 'one', 'local');
  const web = await tower.app.attach(one.node, 'shop', 'web');
  const before = await appOf(tower, one.node);
  const { version } = await tower.snapshot(one.node);
  await tower.close();
  const again = await openTower({ state: tower.state, unseal, clock: systemClock, random });
  t.teardown(() => again.close());
  t.strictSame(await appOf(again, one.node), before);
  t.strictSame(await again.app.attach(one.node, 'shop', 'web'), web);
  t.equal((await again.snapshot(one.node)).version, version);
});
