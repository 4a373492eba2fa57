/** The part of the suite that every `Store` passes which is about app networks. */
import type { Test } from 'tap';
import type { ErrorCode, SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import type { NewAppNetwork, WireguardFacts } from '../../src/tower/store/app-store.ts';
import type { NodeRow, Store } from '../../src/tower/store/store.ts';
import { BY, claimOf, clusterNamed, NOW_MS, nodeNamed, rejectsWith, type StoreMaker, tokenNamed, versionFor } from './store.ts';

const shop: NewAppNetwork = { name: 'shop', subnet4: '10.9.0.0/24', subnet6: 'fd00::/64', mtu: null, learning: false };
const small = (name: string, subnet4: string): NewAppNetwork => ({ ...shop, name, subnet4, subnet6: null });
const KEYS = ['A', 'B', 'C'].map((letter) => `${letter.repeat(42)}A=`);
const factsOf = (...keys: string[]): WireguardFacts => ({ keys, listen: { host: null, port: 51_820 }, underlay: { mtu: 1_500, ipv4_only: true } });

/** A cluster, and nodes whose sites are the first letters of their names. */
async function storeWith(t: Test, maker: StoreMaker, names: readonly string[], more: { vtepRange?: string } = {}) {
  const store = await maker.make(t);
  await store.setCluster({ ...clusterNamed('alpha'), ...more }, NOW_MS);
  return { store, nodes: await enrollAll(store, names) };
}

async function enrollAll(store: Store, names: readonly string[]): Promise<NodeRow[]> {
  const token = tokenNamed('aa', { usesMax: names.length });
  await store.proofs.createGrant(token, BY);
  const made: NodeRow[] = [];
  for (const name of names) made.push(await store.proofs.enroll(claimOf(token), nodeNamed(name, { site: name.slice(0, 1) }), NOW_MS));
  return made;
}

const codesOf = (results: readonly PromiseSettledResult<unknown>[]) =>
  new Set(results.filter((result) => result.status === 'rejected').map((result) => (result.reason as SelvedgeError).code));

export function appStoreCompliance(t: Test, maker: StoreMaker): void {
  t.test('a network is made, listed, shown and deleted, and is there after a restart', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1']);
    t.strictSame(await store.app.networks({ after: null, limit: 1_000 }), []);
    const made = await store.app.create(shop, BY);
    t.strictSame(made, { ...shop, vni: 1_001, created_ms: NOW_MS });
    t.equal((await store.app.create(small('office', '10.10.0.0/24'), BY)).vni, 1_002);
    await store.app.addMember('shop', nodes[0]?.id ?? '', BY);
    await store.close();
    const again = await maker.reopen(t, store);
    t.match(await again.app.networks({ after: null, limit: 1_000 }), [
      { name: 'office', members: 0, attachments: 0 },
      { name: 'shop', vni: 1_001, members: 1, attachments: 0 },
    ]);
    const { network, endpoints, hosts } = await again.app.network('shop');
    t.strictSame(network, made);
    t.match(endpoints, [{ network: 'shop', node: nodes[0]?.id, attachment: '', address4: '10.9.0.2', address6: 'fd00::2', mac: /^02(:[0-9a-f]{2}){5}$/ }]);
    t.match(hosts, [{ node: nodes[0]?.id, vtep: '100.96.0.1', keys: [], listen: null, underlay: null, isLive: true }]);
    t.strictSame(await again.app.delete('shop', BY), { row: made, told: [nodes[0]?.id] });
    t.equal(await again.app.view(nodes[0]?.id ?? ''), null);
    await rejectsWith(t, again.app.network('shop'), 'not_found');
    t.equal((await again.app.create(shop, BY)).vni, 1_003, 'the VNI of a deleted network rests');
    await again.verifyAudit();
  });

  t.test('each reason to refuse has its code, and leaves everything as it was', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1', 'n2']);
    const [one, two] = [nodes[0]?.id ?? '', nodes[1]?.id ?? ''];
    await store.app.create(shop, BY);
    await store.app.addMember('shop', one, BY);
    await store.app.setWireguard(one, factsOf(KEYS[0] ?? ''), NOW_MS);
    await store.setLeaf(two, null, NOW_MS);
    const version = await store.version();
    const { app } = store;
    const cases: [string, () => Promise<unknown>, ErrorCode][] = [
      ['the name again', () => app.create(small('shop', '10.10.0.0/24'), BY), 'app_network_exists'],
      ['a subnet inside', () => app.create(small('a', '10.9.0.128/25'), BY), 'subnet_overlaps'],
      ['a subnet around', () => app.create(small('a', '10.8.0.0/14'), BY), 'subnet_overlaps'],
      ['the same IPv6', () => app.create({ ...shop, name: 'a', subnet4: '10.10.0.0/24' }, BY), 'subnet_overlaps'],
      ['in the VTEPs', () => app.create(small('a', '100.100.0.0/16'), BY), 'subnet_overlaps'],
      ['no such network to add to', () => app.addMember('none', one, BY), 'not_found'],
      ['no such node to add', () => app.addMember('shop', 'ffffffffffff', BY), 'not_found'],
      ['a revoked node', () => app.addMember('shop', two, BY), 'certificate_revoked'],
      ['no member to remove', () => app.removeMember('shop', two, BY), 'not_found'],
      ['no such network to delete', () => app.delete('none', BY), 'not_found'],
      ['attaching as no member', () => app.attach('shop', two, 'web', NOW_MS), 'policy_denied'],
      ['attaching to no network', () => app.attach('none', one, 'web', NOW_MS), 'policy_denied'],
      ['detaching as no member', () => app.detach('shop', two, 'web', NOW_MS), 'policy_denied'],
      ['the key of another', () => app.setWireguard(two, factsOf(KEYS[1] ?? '', KEYS[0] ?? ''), NOW_MS), 'policy_denied'],
      ['a stranger', () => app.setWireguard('ffffffffffff', factsOf(), NOW_MS), 'not_found'],
    ];
    for (const [what, act, code] of cases) {
      t.comment(what);
      await rejectsWith(t, act(), code);
    }
    t.equal(await store.version(), version);
    t.equal((await app.network('shop')).endpoints.length, 1);
    await app.setWireguard(two, factsOf(KEYS[1] ?? ''), NOW_MS);
    await store.verifyAudit();
  });

  t.test('a member, an attachment and WireGuard said again are no change; each change has one audit row', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1', 's1']);
    const [one, two] = [nodes[0]?.id ?? '', nodes[1]?.id ?? ''];
    const before = (await store.audit(0, 100)).length;
    const { app } = store;
    await app.create(shop, BY);
    const first = await app.addMember('shop', one, BY);
    t.strictSame(first.told, [one]);
    t.strictSame(await app.addMember('shop', one, { ...BY, at_ms: NOW_MS + 1 }), { row: first.row, told: [] });
    t.strictSame((await app.addMember('shop', two, BY)).told.toSorted(), [one, two].toSorted());
    const web = await app.attach('shop', one, 'web', NOW_MS);
    t.strictSame(web.told.toSorted(), [one, two].toSorted());
    t.strictSame(await app.attach('shop', one, 'web', NOW_MS + 1), { row: web.row, told: [] });
    t.strictSame((await app.setWireguard(one, factsOf(KEYS[0] ?? ''), NOW_MS)).told.toSorted(), [one, two].toSorted());
    t.strictSame((await app.setWireguard(one, factsOf(KEYS[0] ?? ''), NOW_MS)).told, []);
    t.strictSame((await app.setWireguard(one, factsOf(KEYS[2] ?? '', KEYS[0] ?? ''), NOW_MS)).row.keys, [KEYS[2], KEYS[0]]);
    t.strictSame((await app.detach('shop', one, 'web', NOW_MS)).row, web.row);
    t.strictSame(await app.detach('shop', one, 'web', NOW_MS), { row: null, told: [] });
    t.strictSame((await app.removeMember('shop', one, BY)).told.toSorted(), [one, two].toSorted());
    const rows = (await store.audit(before, 100)).map((row) => [row.actor, row.action, row.subject]);
    t.strictSame(rows, [
      ['admin', 'app.create', 'shop'],
      ['admin', 'app.add', 'shop'],
      ['admin', 'app.add', 'shop'],
      [`node:${one}`, 'app.attach', 'shop'],
      [`node:${one}`, 'app.wireguard', one],
      [`node:${one}`, 'app.wireguard', one],
      [`node:${one}`, 'app.detach', 'shop'],
      ['admin', 'app.remove', 'shop'],
    ]);
    await store.verifyAudit();
  });

  t.test('a change moves the version of the members, at whatever site, and of nobody else', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1', 'n2', 's1', 'w1']);
    const [one, neighbour, far, stranger] = nodes as [NodeRow, NodeRow, NodeRow, NodeRow];
    const { app } = store;
    await app.create(shop, BY);
    await app.create(small('office', '10.10.0.0/24'), BY);
    await app.addMember('office', stranger.id, BY);
    const versions = async () => await Promise.all([one, neighbour, far, stranger].map((node) => versionFor(store, node)));
    const moved = async (act: () => Promise<unknown>) => {
      const before = await versions();
      await act();
      const after = await versions();
      t.ok(after.every((version, index) => version >= (before[index] ?? 0)));
      return after.map((version, index) => version > (before[index] ?? 0));
    };
    t.strictSame(await moved(() => app.create(small('third', '10.11.0.0/24'), BY)), [false, false, false, false], 'create');
    t.strictSame(await moved(() => app.addMember('shop', one.id, BY)), [true, false, false, false], 'add');
    t.strictSame(await moved(() => app.addMember('shop', far.id, BY)), [true, false, true, false], 'add another');
    t.strictSame(await moved(() => app.attach('shop', one.id, 'web', NOW_MS)), [true, false, true, false], 'attach');
    t.strictSame(await moved(() => app.detach('shop', one.id, 'web', NOW_MS)), [true, false, true, false], 'detach');
    t.strictSame(await moved(() => app.setWireguard(far.id, factsOf(KEYS[0] ?? ''), NOW_MS)), [true, false, true, false], 'wireguard');
    t.strictSame(await moved(() => app.setWireguard(neighbour.id, factsOf(KEYS[1] ?? ''), NOW_MS)), [false, false, false, false], 'wireguard of no member');
    const moving = () => store.setEndpoints(far.id, [{ host: '198.51.100.9', tcp: 443, udp: 443 }], NOW_MS);
    t.strictSame(await moved(moving), [true, false, true, false], 'a host moves');
    t.strictSame(await moved(() => store.setNode(far.id, { disabled: true }, null, { actor: 'admin', at_ms: NOW_MS })), [true, false, true, false], 'disabled');
    t.strictSame(await moved(() => store.setNode(far.id, { disabled: false }, null, { actor: 'admin', at_ms: NOW_MS })), [true, false, true, false], 'enabled');
    t.strictSame(await moved(() => store.setLeaf(far.id, null, NOW_MS)), [true, false, true, false], 'revoked');
    t.strictSame(await moved(() => app.removeMember('shop', far.id, BY)), [true, false, true, false], 'remove');
    t.strictSame(await moved(() => app.attach('shop', one.id, 'db', NOW_MS)), [true, false, false, false], 'who was removed is told no more');
    t.strictSame(await moved(() => app.delete('shop', BY)), [true, false, false, false], 'delete');
    t.strictSame(await moved(() => app.create(shop, BY)), [false, false, false, false], 'the name again');
  });

  t.test('a node sees its networks and those who share them, and nothing of the others', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1', 's1', 'w1']);
    const [a, b, c] = nodes.map((node) => node.id) as [string, string, string];
    const { app } = store;
    for (const network of [shop, small('office', '10.10.0.0/24'), small('third', '10.11.0.0/24')]) await app.create(network, BY);
    for (const [network, node] of [
      ['shop', a],
      ['shop', b],
      ['office', b],
      ['office', c],
      ['third', c],
    ] as const)
      await app.addMember(network, node, BY);
    await app.attach('shop', b, 'web', NOW_MS);
    const seen = async (node: string) => {
      const view = await app.view(node);
      return view === null
        ? null
        : [
            view.networks.map((network) => network.name),
            view.hosts.map((host) => host.node).toSorted(),
            view.networks.flatMap(({ name, endpoints }) => endpoints.map(({ node, attachment }) => `${name} ${node} ${attachment}`.trim())),
          ];
    };
    const rows = (...texts: string[]) => texts.toSorted();
    t.strictSame(await seen(a), [['shop'], [a, b].toSorted(), rows(`shop ${a}`, `shop ${b}`, `shop ${b} web`)]);
    t.strictSame(await seen(c), [['office', 'third'], [b, c].toSorted(), rows(`office ${b}`, `office ${c}`, `third ${c}`)]);
    t.strictSame((await app.sharers(b)).toSorted(), [a, b, c].toSorted());
    await store.setNode(b, { disabled: true }, null, { actor: 'admin', at_ms: NOW_MS });
    t.strictSame(await seen(a), [['shop'], [a], [`shop ${a}`]], 'who is disabled is in nobody’s view');
    t.match(
      (await app.network('shop')).hosts.find((host) => host.node === b),
      { isLive: false, vtep: /^100\.96/ },
      'and stays in the operator’s',
    );
    await store.setNode(b, { disabled: false }, null, { actor: 'admin', at_ms: NOW_MS });
    await app.removeMember('shop', b, BY);
    t.strictSame(await seen(a), [['shop'], [a], [`shop ${a}`]]);
    t.strictSame(await seen(b), [['office'], [b, c].toSorted(), rows(`office ${b}`, `office ${c}`)]);
    t.strictSame(await app.sharers('ffffffffffff'), []);
  });

  t.test('200 parallel attaches, of several members, give 200 distinct addresses and MACs', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1', 'n2', 's1', 's2']);
    await store.app.create(shop, BY);
    for (const { id } of nodes) await store.app.addMember('shop', id, BY);
    const tries = Array.from({ length: 200 }, (_, index) => store.app.attach('shop', nodes[index % 4]?.id ?? '', `c${index}`, NOW_MS));
    await Promise.all(tries);
    const { endpoints } = await store.app.network('shop');
    t.equal(endpoints.length, 204);
    for (const field of ['mac', 'address4', 'address6'] as const) t.equal(new Set(endpoints.map((endpoint) => endpoint[field])).size, 204, field);
    t.notOk(endpoints.some(({ address4 }) => ['10.9.0.0', '10.9.0.1', '10.9.0.255'].includes(address4 ?? '')));
    await store.verifyAudit();
  });

  t.test('a full pool is refused by name, and what is released is given out again, last of all', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1'], { vtepRange: '100.64.0.0/30' });
    const id = nodes[0]?.id ?? '';
    const { app } = store;
    await app.create(small('tiny', '10.9.0.0/29'), BY);
    await app.addMember('tiny', id, BY);
    const results = await Promise.allSettled(['a', 'b', 'c', 'd', 'e', 'f'].map((name) => app.attach('tiny', id, name, NOW_MS)));
    t.equal(results.filter((result) => result.status === 'fulfilled').length, 4, 'five addresses, one of them the member’s own');
    t.strictSame(codesOf(results), new Set(['address_pool_full']));
    await t.rejects(app.attach('tiny', id, 'e', NOW_MS), { message: /10\.9\.0\.0\/29 of app network tiny/ });
    await app.detach('tiny', id, 'c', NOW_MS);
    await app.detach('tiny', id, 'a', NOW_MS);
    t.equal((await app.attach('tiny', id, 'g', NOW_MS)).row.address4, '10.9.0.3', 'the walk has come round to the first free one');
    t.equal((await app.attach('tiny', id, 'h', NOW_MS)).row.address4, '10.9.0.5');
    await app.detach('tiny', id, 'g', NOW_MS);
    await app.detach('tiny', id, 'h', NOW_MS);
    t.equal((await app.attach('tiny', id, 'i', NOW_MS)).row.address4, '10.9.0.3', 'not the one that was given last');
  });

  t.test('a host keeps its VTEP while it is in any network, and VTEPs run out by name', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1', 'n2', 'n3'], { vtepRange: '100.64.0.0/30' });
    const [a, b, c] = nodes.map((node) => node.id) as [string, string, string];
    const { app } = store;
    await app.create(shop, BY);
    await app.create(small('office', '10.10.0.0/24'), BY);
    await app.setWireguard(a, factsOf(KEYS[0] ?? ''), NOW_MS);
    const vtepOf = async (node: string) => (await app.view(node))?.hosts.find((host) => host.node === node)?.vtep;
    await app.addMember('shop', a, BY);
    await app.addMember('office', a, BY);
    await app.addMember('shop', b, BY);
    t.strictSame([await vtepOf(a), await vtepOf(b)], ['100.64.0.1', '100.64.0.2']);
    await rejectsWith(t, app.addMember('shop', c, BY), 'address_pool_full');
    t.equal((await app.network('shop')).endpoints.length, 2, 'and no address was given to it');
    await app.removeMember('shop', a, BY);
    t.equal(await vtepOf(a), '100.64.0.1');
    await rejectsWith(t, app.addMember('shop', c, BY), 'address_pool_full');
    await app.removeMember('office', a, BY);
    await app.addMember('shop', c, BY);
    t.equal(await vtepOf(c), '100.64.0.1');
    await app.delete('shop', BY);
    await app.addMember('office', a, BY);
    t.match(await app.view(a), { hosts: [{ vtep: /^100\.64\.0\.[12]$/, keys: [KEYS[0]] }] }, 'what it said of its WireGuard is still known');
    await store.verifyAudit();
  });

  t.test('a member has a limit of attachments, and they go with it', async (t) => {
    const { store, nodes } = await storeWith(t, maker, ['n1']);
    const id = nodes[0]?.id ?? '';
    const { app } = store;
    await app.create(small('large', '10.9.0.0/16'), BY);
    await app.addMember('large', id, BY);
    const count = limits.app_attachments_per_member_max + 5;
    const results = await Promise.allSettled(Array.from({ length: count }, (_, index) => app.attach('large', id, `c${index}`, NOW_MS)));
    t.strictSame(codesOf(results), new Set(['limit_reached']));
    t.match(await app.networks({ after: null, limit: 1_000 }), [{ members: 1, attachments: limits.app_attachments_per_member_max }]);
    await app.removeMember('large', id, BY);
    t.match(await app.networks({ after: null, limit: 1_000 }), [{ members: 0, attachments: 0 }]);
  });
}
