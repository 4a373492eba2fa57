/**
 * The limits of what one node may be told, with as many rows as they allow: written into the database directly, since making them one by one would take
 * minutes. What is tested is the next change, as it always is made.
 */
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import t, { type Test } from 'tap';
import { limits } from '../../src/base/limits.ts';
import { openSqliteStore } from '../../src/tower/store/sqlite.ts';
import { BY, clusterNamed, freshDirectory, NOW_MS } from './store.ts';

t.setTimeout(120_000);

const idOf = (index: number) => index.toString(16).padStart(12, '0');
const networkOf = (index: number) => `n${index}`;

/** A store of `nodes` nodes and `networks` networks, with these endpoints: pairs of a network and a node, and the attachment. */
async function storeOf(t: Test, nodes: number, networks: number, endpoints: Iterable<readonly [number, number, string]>) {
  const path = join(freshDirectory(t), 'tower.db');
  const empty = await openSqliteStore({ path });
  await empty.setCluster(clusterNamed('alpha'), NOW_MS);
  for (let index = 0; index < networks; index++)
    await empty.app.create({ name: networkOf(index), subnet4: `10.${index >> 8}.${index & 255}.0/24`, subnet6: null, mtu: null, learning: false }, BY);
  await empty.close();
  const database = new DatabaseSync(path);
  database.exec('begin');
  const node = database.prepare(
    "insert into nodes (id, name, site, fingerprint, leaf, csr_hash, spki_hash, endpoints, disabled, created_ms, seen_ms) values (?, ?, 'north', 'ff', 'AAAA', 'ff', ?, '[]', 0, 0, null)",
  );
  for (let index = 0; index < nodes; index++) node.run(idOf(index), `node-${index}`, idOf(index));
  const endpoint = database.prepare('insert into app_endpoints (network, node_id, attachment, mac, address4, created_ms) values (?, ?, ?, ?, ?, 0)');
  const members = new Set<number>();
  let count = 0;
  for (const [network, member, attachment] of endpoints) {
    members.add(member);
    endpoint.run(networkOf(network), idOf(member), attachment, `mac ${count}`, `address ${count++}`);
  }
  const host = database.prepare("insert into app_hosts values (?, ?, '[]', 'null', 'null')");
  for (const member of members) host.run(idOf(member), `vtep ${member}`);
  database.exec('commit');
  database.close();
  const store = await openSqliteStore({ path });
  t.teardown(() => store.close());
  return store;
}

t.test('no node is told of more hosts than its snapshot holds, and one that knows them already joins freely', async (t) => {
  const max = limits.app_hosts_per_node_max;
  // Network 0 has all but one of the hosts that a node may be told of, beside itself; network 1 has two strangers.
  const store = await storeOf(t, max + 3, 3, [...Array.from({ length: max }, (_, index) => [0, index, ''] as const), [1, max + 1, ''], [1, max + 2, '']]);
  await store.app.addMember(networkOf(0), idOf(max), BY);
  t.equal((await store.app.sharers(idOf(0))).length - 1, max);
  await t.rejects(store.app.addMember(networkOf(0), idOf(max + 1), BY), { code: 'limit_reached', message: new RegExp(idOf(max + 1)) });
  await t.rejects(store.app.addMember(networkOf(1), idOf(0), BY), { code: 'limit_reached', message: new RegExp(idOf(0)) });
  await store.app.addMember(networkOf(2), idOf(0), BY);
  await store.app.addMember(networkOf(2), idOf(1), BY);
  await t.rejects(store.app.addMember(networkOf(2), idOf(max + 1), BY), { code: 'limit_reached', message: /share an app network with node 000000000000/ });
  await store.verifyAudit();
});

t.test('no node is told of more endpoints than its snapshot holds, whoever adds them', async (t) => {
  const max = limits.app_endpoints_per_node_max;
  const perNetwork = Math.ceil(max / 4);
  // Node 0 is in all four networks, which node 1, 2, … fill up to one below the limit.
  const store = await storeOf(t, 30, 5, fill());
  function* fill(): Generator<readonly [number, number, string]> {
    let left = max - 1;
    for (let network = 0; network < 4; network++) {
      yield [network, 0, ''];
      for (let index = 1; index < Math.min(perNetwork, left); index++) {
        const member = 1 + Math.floor(index / 200);
        yield [network, member, index === 1 || index % 200 === 0 ? '' : `c${index}`];
      }
      left -= Math.min(perNetwork, left);
    }
  }
  const told = async (node: string) => (await store.app.view(node))?.networks.reduce((sum, network) => sum + network.endpoints.length, 0);
  t.equal(await told(idOf(0)), max - 1);
  await store.app.attach(networkOf(0), idOf(1), 'last', NOW_MS);
  t.equal(await told(idOf(0)), max);
  const refusal = { code: 'limit_reached', message: /endpoints that node 0000000000/, facts: { max } };
  await t.rejects(store.app.attach(networkOf(1), idOf(2), 'more', NOW_MS), refusal);
  await t.rejects(store.app.addMember(networkOf(1), idOf(29), BY), refusal);
  await t.rejects(
    store.app.addMember(networkOf(4), idOf(0), BY).then(() => store.app.addMember(networkOf(4), idOf(28), BY)),
    refusal,
  );
  await store.app.detach(networkOf(0), idOf(1), 'last', NOW_MS);
  await store.app.attach(networkOf(1), idOf(2), 'more', NOW_MS);
  await store.verifyAudit();
});

t.test('a network has a limit of endpoints, and a node one of networks', async (t) => {
  const max = limits.app_network_endpoints_max;
  const full = await storeOf(
    t,
    40,
    1,
    Array.from({ length: max }, (_, index) => [0, Math.floor(index / 200), index % 200 === 0 ? '' : `c${index}`] as const),
  );
  await t.rejects(full.app.attach(networkOf(0), idOf(0), 'more', NOW_MS), { code: 'limit_reached', message: /endpoints of app network n0/ });
  await t.rejects(full.app.addMember(networkOf(0), idOf(39), BY), { code: 'limit_reached', message: /endpoints of app network n0/ });

  const networks = limits.app_networks_per_node_max;
  const many = await storeOf(
    t,
    1,
    networks + 1,
    Array.from({ length: networks }, (_, index) => [index, 0, ''] as const),
  );
  await t.rejects(many.app.addMember(networkOf(networks), idOf(0), BY), { code: 'limit_reached', message: /app networks of node 000000000000/ });
  t.equal((await many.app.view(idOf(0)))?.networks.length, networks);
});
