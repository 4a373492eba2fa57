/** The part of the store's suite about tenants, sites, roles, policies, routes and services: one behaviour for every kind. */
import type { Test } from 'tap';
import { limits } from '../../src/base/limits.ts';
import { completeSpec, type KindName, kindNames, kinds } from '../../src/tower/resources/kinds.ts';
import type { By } from '../../src/tower/resources/resource-store.ts';
import type { NodeRow, Store } from '../../src/tower/store/store.ts';
import { BY, claimOf, NOW_MS, nodeNamed, rejectsWith, type StoreMaker, tokenNamed, versionFor } from './store.ts';

const by: By = { actor: 'operator:ada', at_ms: NOW_MS };
const target = { host: '127.0.0.1', port: 8080 };

/** A document of each kind that names nothing. */
const said: { readonly [Name in KindName]: object } = {
  tenant: { description: 'the port authority' },
  site: { proofs: ['token', 'x509'] },
  role: { classes: ['input', 'render'] },
  policy: { effect: 'deny', priority: 7 },
  route: { classes: ['health'] },
  service: { protocol: 'udp', target },
};
const specOf = (kind: KindName, more: object = {}) => completeSpec(kinds[kind], { ...said[kind], ...more }) as never;

export function resourceStoreCompliance(t: Test, maker: StoreMaker): void {
  for (const kind of kindNames) {
    t.test(`a ${kind} is made, read, changed and deleted, each with its version and its audit row`, async (t) => {
      const store = await maker.make(t);
      const resources = store.resources[kind];
      t.equal(await resources.get('one'), null);
      const { row } = await resources.create('one', specOf(kind), by);
      t.strictSame(row, { name: 'one', spec: specOf(kind), revision: 1, created_ms: NOW_MS, changed_ms: NOW_MS });
      t.strictSame(await resources.get('one'), row);
      const changed = await resources.change('one', specOf(kind, { description: 'other' }), row.revision, { ...by, at_ms: NOW_MS + 1 });
      t.match(changed.row, { revision: 2, created_ms: NOW_MS, changed_ms: NOW_MS + 1, spec: { description: 'other' } });
      const again = await maker.reopen(t, await closed(store));
      t.strictSame(await again.resources[kind].get('one'), changed.row, 'also after it was opened anew');
      t.strictSame((await again.resources[kind].delete('one', 2, by)).row, changed.row);
      t.equal(await again.resources[kind].get('one'), null);
      const rows = await again.audit(0, 10);
      t.strictSame(
        rows.map((one) => [one.version, one.actor, one.action, one.subject]),
        ['create', 'change', 'delete'].map((verb, index) => [index + 1, 'operator:ada', `${kind}.${verb}`, 'one']),
      );
      await again.verifyAudit();
    });

    t.test(`a ${kind} is not lost to a change of somebody else, nor made twice, nor changed where nothing differs`, async (t) => {
      const store = await maker.make(t);
      const resources = store.resources[kind];
      await rejectsWith(t, resources.change('one', specOf(kind), null, by), 'not_found');
      await rejectsWith(t, resources.delete('one', null, by), 'not_found');
      await resources.create('one', specOf(kind), by);
      await rejectsWith(t, resources.create('one', specOf(kind), by), 'resource_exists');
      await resources.change('one', specOf(kind, { description: 'first' }), 1, by);
      await rejectsWith(t, resources.change('one', specOf(kind, { description: 'second' }), 1, by), 'changed_meanwhile');
      await rejectsWith(t, resources.delete('one', 1, by), 'changed_meanwhile');
      t.match(await resources.get('one'), { revision: 2, spec: { description: 'first' } });
      await resources.change('one', specOf(kind, { description: 'first' }), 2, by);
      t.equal(await store.version(), 2, 'the same again is no change');
      const both = await Promise.allSettled(['a', 'b'].map((description) => resources.change('one', specOf(kind, { description }), 2, by)));
      t.equal(both.filter((one) => one.status === 'fulfilled').length, 1, 'of two at once, one');
      await resources.change('one', specOf(kind, { description: 'whatever' }), null, by);
      await resources.delete('one', null, by);
      await store.verifyAudit();
    });

    t.test(`pages of ${kinds[kind].plural} hold each once, in order, however they are cut`, async (t) => {
      const store = await maker.make(t);
      const resources = store.resources[kind];
      const names = Array.from({ length: 23 }, (_, index) => `n-${index.toString().padStart(2, '0')}`);
      for (const name of names.toReversed()) await resources.create(name, specOf(kind), by);
      for (const limit of [1, 7, 23, 50]) {
        const found: string[] = [];
        for (let after: string | null = null; ; ) {
          const page: readonly { readonly name: string }[] = await resources.page({ after, limit });
          t.ok(page.length <= limit);
          found.push(...page.map((row) => row.name));
          if (page.length < limit) break;
          after = page.at(-1)?.name ?? null;
        }
        t.strictSame(found, names);
      }
      t.strictSame(await resources.page({ after: 'zz', limit: 5 }), []);
    });
  }

  t.test('what something else names is not deleted, and nothing names what is not there', async (t) => {
    const store = await maker.make(t);
    const { tenant, site, role, policy, service } = store.resources;
    await rejectsWith(t, site.create('harbor', specOf('site', { tenant: 'port' }), by), 'not_found');
    t.equal(await store.version(), 0, 'and nothing of it stays');
    await tenant.create('port', specOf('tenant'), by);
    await site.create('harbor', specOf('site', { tenant: 'port' }), by);
    await role.create('till', specOf('role', { peers: ['till'] }), by);
    await service.create('print', specOf('service', { hosts: { sites: ['harbor'] } }), by);
    await rejectsWith(t, policy.create('p', specOf('policy', { from: { roles: ['none'] } }), by), 'not_found');
    await rejectsWith(t, policy.create('p', specOf('policy', { to: { nodes: ['000000000000'] } }), by), 'not_found');
    await policy.create('p', specOf('policy', { from: { roles: ['till'] }, to: { sites: ['harbor'] }, services: ['print'] }), by);
    for (const [store, name] of [
      [tenant, 'port'],
      [site, 'harbor'],
      [role, 'till'],
      [service, 'print'],
    ] as const) {
      await rejectsWith(t, store.delete(name, null, by), 'resource_in_use');
    }
    await policy.delete('p', null, by);
    await role.delete('till', null, by);
    await service.delete('print', null, by);
    await site.delete('harbor', null, by);
    await tenant.delete('port', null, by);
  });

  t.test('a site comes with its first node, which has the site’s tenant, and stays while it has nodes', async (t) => {
    const store = await maker.make(t);
    await store.resources.tenant.create('port', specOf('tenant'), by);
    await store.resources.site.create('south', specOf('site', { tenant: 'port' }), by);
    const [north, south] = [await enrolled(store, 'one', 'north'), await enrolled(store, 'two', 'south')];
    t.match(await store.resources.site.get('north'), { name: 'north', spec: { tenant: null, proofs: ['token'], unseal: 'own' } });
    t.strictSame([north.tenant, south.tenant], [null, 'port']);
    await rejectsWith(t, store.resources.site.delete('north', null, by), 'resource_in_use');
    await rejectsWith(t, store.resources.tenant.delete('port', null, by), 'resource_in_use');
  });

  t.test('a node’s roles, tenant and state are changed like a resource', async (t) => {
    const store = await maker.make(t);
    const node = await enrolled(store, 'one', 'north');
    await rejectsWith(t, store.setNode(node.id, { roles: ['till'] }, null, by), 'not_found');
    await store.resources.role.create('till', specOf('role'), by);
    const changed = await store.setNode(node.id, { roles: ['till'] }, node.revision, by);
    t.match(changed, { roles: ['till'], tenant: null, disabled: false });
    t.ok(changed.revision > node.revision);
    await rejectsWith(t, store.setNode(node.id, { roles: [] }, node.revision, by), 'changed_meanwhile');
    await rejectsWith(t, store.resources.role.delete('till', null, by), 'resource_in_use');
    t.strictSame(await store.node(node.id), changed);
    t.strictSame(await store.setNode(node.id, { roles: ['till'], disabled: false }, null, by), changed, 'the same again is no change');
    await store.setNode(node.id, { roles: [], disabled: true }, changed.revision, by);
    await store.resources.role.delete('till', null, by);
    await store.verifyAudit();
  });

  t.test('pages of nodes and tokens hold each once, of one site or of all', async (t) => {
    const store = await maker.make(t);
    for (let index = 0; index < 9; index++) await enrolled(store, `n${index}`, index % 3 === 0 ? 'north' : 'south');
    const all = await store.nodePage({ after: null, limit: 100 });
    t.strictSame(all, await store.nodes());
    const first = await store.nodePage({ after: null, limit: 4 });
    const rest = await store.nodePage({ after: first.at(-1)?.id ?? null, limit: 100 });
    t.strictSame([...first, ...rest], all);
    t.strictSame(await store.nodePage({ after: null, limit: 100, site: 'north' }), await store.nodes({ site: 'north' }));
    t.equal((await store.proofs.grantPage('token', { after: null, limit: 5 })).length, 5);
    t.strictSame(await store.counts(), { nodes: 9, tokens: 9 });
  });

  t.test('a change of a rule reaches the nodes that it selects, before and after, and nobody else', async (t) => {
    const store = await maker.make(t);
    const { role, tenant, policy } = store.resources;
    const [a, b, c] = [await enrolled(store, 'a', 'north'), await enrolled(store, 'b', 'south'), await enrolled(store, 'c', 'west')];
    await role.create('till', specOf('role'), by);
    await tenant.create('port', specOf('tenant'), by);
    await store.setNode(b.id, { roles: ['till'], tenant: 'port' }, null, by);
    const versions = async () => await Promise.all([a, b, c].map((node) => versionFor(store, node)));
    const moved = async (change: () => Promise<{ told: { everybody: boolean; nodes: readonly string[] } }>) => {
      const before = await versions();
      const { told } = await change();
      const after = await versions();
      const names = ['a', 'b', 'c'].filter((_, index) => (after[index] ?? 0) > (before[index] ?? 0));
      if (!told.everybody)
        t.strictSame(
          [a, b, c].filter((node) => told.nodes.includes(node.id)).map((node) => node.name),
          names,
        );
      return told.everybody ? 'everybody' : names.join(' ');
    };
    const from = (selector: object, to: object = { nodes: [] }) => specOf('policy', { from: selector, to });
    t.equal(await moved(() => policy.create('p', from({ nodes: [a.id] }), by)), 'a');
    t.equal(await moved(() => policy.change('p', from({ roles: ['till'] }), null, by)), 'a b');
    t.equal(await moved(() => policy.change('p', from({ sites: ['west'] }, { tenants: ['port'] }), null, by)), 'b c');
    t.equal(await moved(() => policy.change('p', from({}), null, by)), 'everybody');
    t.equal(await moved(() => policy.change('p', from({ nodes: [c.id], sites: ['north'] }), null, by)), 'everybody');
    t.equal(await moved(() => policy.delete('p', null, by)), 'c');
    t.equal(await moved(() => role.change('till', specOf('role', { classes: ['health'] }), null, by)), 'b');
    t.equal(await moved(() => store.resources.site.change('west', specOf('site'), null, by)), '');
  });

  t.test('a node hears of the sites in which a policy or route lets it talk to somebody, and of their nodes', async (t) => {
    const store = await maker.make(t);
    const { policy, route } = store.resources;
    const [a, b, c] = [await enrolled(store, 'a', 'north'), await enrolled(store, 'b', 'south'), await enrolled(store, 'c', 'west')];
    const heard = async (node: NodeRow) => {
      const { sites } = await store.seenBy(node);
      const { nodes } = await store.view(node);
      return `${sites === 'all' ? 'all' : [...sites].sort().join(' ')}: ${nodes.map(({ name }) => name).sort()}`;
    };
    t.equal(await heard(a), 'north: a');
    await policy.create('p', specOf('policy', { effect: 'allow', from: { sites: ['north'] }, to: { sites: ['south'] } }), by);
    t.equal(await heard(a), 'north south: a,b');
    t.equal(await heard(b), 'north south: a,b', 'either end');
    t.equal(await heard(c), 'west: c');
    const before = await versionFor(store, a);
    await store.setLeaf(b.id, null, NOW_MS);
    t.ok((await versionFor(store, a)) > before, 'what happens there, it hears of');
    await policy.change('p', specOf('policy', { effect: 'deny', from: { sites: ['north'] }, to: { sites: ['south'] } }), null, by);
    t.equal(await heard(a), 'north: a');
    await route.create('r', specOf('route', { from: { nodes: [a.id] }, via: [c.id] }), by);
    t.equal(await heard(a), 'north west: a,c');
    t.equal(await heard(c), 'north west: a,c');
    await policy.change('p', specOf('policy', { effect: 'allow', to: { roles: [] } }), null, by);
    t.equal(await heard(c), 'all: a,b,c');
  });

  t.test('each change of a rule, and of what rules select a node by, moves the epoch of the nodes that it concerns', async (t) => {
    const store = await maker.make(t);
    const { role, policy } = store.resources;
    const [a, b] = [await enrolled(store, 'a', 'north'), await enrolled(store, 'b', 'south')];
    const epochs = async () => {
      const { epochOf } = await store.view(a);
      return [epochOf((await store.node(a.id)) ?? a), epochOf(b)];
    };
    t.strictSame(await epochs(), [0, 0]);
    await policy.create('p', specOf('policy', { from: { nodes: [a.id] }, to: { nodes: [] } }), by);
    const first = await store.version();
    t.strictSame(await epochs(), [first, 0]);
    await store.setEndpoints(a.id, [{ host: '192.0.2.1', tcp: 1, udp: null }], NOW_MS);
    t.strictSame(await epochs(), [first, 0], 'an address is no rule');
    await role.create('till', specOf('role'), by);
    await store.setNode(a.id, { roles: ['till'] }, null, by);
    t.strictSame(await epochs(), [await store.version(), 0]);
    await role.change('till', specOf('role', { classes: ['health'] }), null, by);
    t.strictSame(await epochs(), [await store.version(), 0]);
    await store.setNode(a.id, { roles: [] }, null, by);
    t.strictSame(await epochs(), [await store.version(), 0], 'it never goes back');
    await policy.change('p', specOf('policy'), null, by);
    t.strictSame(await epochs(), [await store.version(), await store.version()]);
  });

  t.test('there are no more of a kind than its limit', async (t) => {
    const store = await maker.make(t);
    for (let index = 0; index < limits.roles_max; index++) await store.resources.role.create(`r-${index}`, specOf('role'), by);
    await rejectsWith(t, store.resources.role.create('one-more', specOf('role'), by), 'limit_reached');
  });
}

async function closed(store: Store): Promise<Store> {
  await store.close();
  return store;
}

async function enrolled(store: Store, name: string, site: string) {
  const token = tokenNamed(`t-${name}`);
  await store.proofs.createGrant(token, BY);
  return await store.proofs.enroll(claimOf(token), nodeNamed(name, { site }), NOW_MS);
}
