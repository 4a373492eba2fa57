/** Spec 15: tenant views hide topology. Two tenants share a site and its relay; what each can find out of the platform and of the other, over the real public port. */
import t, { type Test } from 'tap';
import { type Ask, apiWorld, enrolledNode, redeemedOperator } from '../unit/tower/api-world.ts';
import { makeTower } from '../unit/tower/support.ts';
import { JwtIssuer } from '../../src/identity/jwt.ts';
import { openSnapshot } from '../../src/enroll/snapshot.ts';
import { checkEnvelope, type Snapshot } from '../../src/enroll/wire.ts';
import { registerControl } from '../../src/node/control-routes.ts';
import { registerExplain } from '../../src/node/policy-route.ts';
import { Logins } from '../../src/tower/access/logins.ts';
import { registerHealth } from '../../src/tower/health-api.ts';
import { TowerPolicy } from '../../src/tower/tower-policy.ts';
import type { Tower } from '../../src/tower/tower.ts';
import { systemClock, systemTimers } from '../../src/transport/system.ts';
import { trafficClassNames } from '../../src/channel/classes.ts';
import { Judge } from '../../src/policy/judge.ts';
import { makeAuthority } from '../fixtures/certs.ts';
import { makeIssuer } from '../fixtures/jwt.ts';
import { alpha, beta, dial, isEstablished, lastError, overEach, startHost, viewWith } from './hosts.ts';

t.setTimeout(120_000);

const AUDIENCE = 'selvedge:edge';
/** Addresses, sites, and whoever is not the bakery's. */
const TOPOLOGY = /10\.9\.8|127\.0\.0\.1|north|harbor|site|fridge|relay|roses|florist/;

/** A bakery with an oven and a till, a florist with a fridge, and a relay of the platform, all at one site. */
async function platform(t: Test) {
  const tower = await makeTower(t);
  for (const name of ['bakery', 'florist']) await tower.resources.create('tenant', name, {}, 'local');
  const [oven, till, fridge, relay] = [
    await enrolledNode(tower, 'oven'),
    await enrolledNode(tower, 'till'),
    await enrolledNode(tower, 'fridge'),
    await enrolledNode(tower, 'relay'),
  ];
  for (const { id } of [oven, till]) await tower.setNode(id, { tenant: 'bakery' }, null, 'local');
  await tower.setNode(fridge.id, { tenant: 'florist' }, null, 'local');
  for (const [index, { id }] of [oven, till, fridge, relay].entries()) await tower.setEndpoints(id, [{ host: `10.9.8.${index + 1}`, tcp: 443, udp: 443 }]);
  const target = { host: '127.0.0.1', port: 631 };
  await tower.resources.create('service', 'orders', { tenant: 'bakery', target, hosts: { nodes: [oven.id] } }, 'local');
  await tower.resources.create('service', 'roses', { tenant: 'florist', target, hosts: { nodes: [fridge.id] } }, 'local');
  const issuer = await makeIssuer(systemClock);
  const verifier = new JwtIssuer({ issuer: issuer.issuer, algorithms: ['ES256'], keys: { inline: { keys: [issuer.jwk] } }, clock: systemClock });
  const logins = new Logins([{ name: 'bakery', verifier, audience: AUDIENCE, scopes: ['client'], tenant: 'bakery' }]);
  const policy = await TowerPolicy.open(tower);
  const { mesh } = (await startHost(t, { self: alpha, authority: await makeAuthority('test'), transport: 'memory' })).host;
  const world = await apiWorld(t, tower, {
    logins,
    // What a running tower has beside the routes of its store.
    register: (routes) => {
      registerHealth(routes, tower, { of: () => null });
      registerExplain(routes, (from, to, asked) => policy.explain(from, to, asked));
      registerControl(routes, { mesh, timers: systemTimers, facts: () => ({ role: 'tower' }) });
    },
  });
  const { body } = await world.ask({ method: 'POST', path: '/v1/sessions', body: { jwt: await issuer.sign({ aud: AUDIENCE }) } });
  return { tower, oven, till, fridge, relay, baker: String(body.token), ...world };
}

const namesIn = (body: unknown): string[] => (body as { items: { name: string }[] }).items.map(({ name }) => name).sort();

t.test('a tenant’s session sees the nodes and services of the tenant, by name alone', async (t) => {
  const { ask, baker, oven } = await platform(t);
  const peers = (await ask({ path: '/v1/client/peers', bearer: baker })).body;
  t.strictSame(namesIn(peers), ['oven', 'till']);
  t.match(peers, { items: [{ id: String }, {}] });
  t.ok(JSON.stringify(peers).includes(oven.id));
  const services = (await ask({ path: '/v1/client/services', bearer: baker })).body;
  t.strictSame(namesIn(services), ['orders']);
  t.notMatch(JSON.stringify([peers, services]), TOPOLOGY, 'no address, no site, nobody else');
});

t.test('a tenant’s session gets nothing of the platform’s view', async (t) => {
  const { ask, baker, routes } = await platform(t);
  const platformRoutes = routes.filter(({ method, scope, url }) => method === 'GET' && scope === 'management' && !url.includes(':'));
  t.ok(platformRoutes.length > 8);
  for (const { url } of platformRoutes) t.match(await ask({ path: url, bearer: baker }), { status: 403, body: { code: 'scope_denied' } }, url);
});

t.test(
  'a tenant’s session learns nothing by asking about one node or another: of its own, of another tenant’s, and of one that has never been it hears the same',
  async (t) => {
    const { ask, baker, oven, fridge, routes } = await platform(t);
    const guarded = routes.filter(({ method, scope }) => scope === 'management' && method !== 'HEAD');
    const asked = guarded.map(({ method, url }) => `${method} ${url}`);
    for (const one of ['GET /v1/status', 'GET /v1/channels', 'GET /v1/peers', 'GET /v1/nodes/:node/health', 'GET /v1/policy/explain', 'GET /v1/audit'])
      t.ok(asked.includes(one), one);
    for (const { method, url } of guarded) {
      const answers = await Promise.all(
        [oven.id, fridge.id, 'fridge', '0c0000000003'].map((node) => {
          const path = url.replace(/:\w+/g, node) + (url.endsWith('/explain') ? `?from=${oven.id}&to=${node}&class=input` : '');
          return ask({ method, path, bearer: baker });
        }),
      );
      for (const { status, body } of answers) t.strictSame({ status, body }, { status: 403, body: answers[0]?.body }, `${method} ${url}`);
      t.equal(answers[0]?.body.code, 'scope_denied');
      t.notMatch(JSON.stringify(answers[0]?.body), TOPOLOGY);
    }
  },
);

t.test('health is for everybody and says no more to a tenant than to nobody; what any known caller may ask says nothing of the platform', async (t) => {
  const { ask, baker, routes } = await platform(t);
  t.strictSame((await ask({ path: '/v1/health', bearer: baker })).body, { ok: true, cluster: 'alpha' });
  t.strictSame((await ask({ path: '/v1/health' })).body, { ok: true, cluster: 'alpha' });
  const open = routes.filter(({ method, scope, url }) => method === 'GET' && scope === 'any' && !url.endsWith('openapi.json'));
  t.ok(open.some(({ url }) => url === '/v1/version'));
  for (const { url } of open) {
    const { status, body } = await ask({ path: url.replace(/:\w+/g, '0c0000000003'), bearer: baker });
    t.ok([200, 404].includes(status), `${url}: ${status}`);
    t.notMatch(JSON.stringify(body), TOPOLOGY, url);
  }
});

t.test('a node is told of its tenant’s nodes and the platform’s own, not of another tenant’s at the same site; nor can it ask for one', async (t) => {
  const { tower, ask, oven, fridge } = await platform(t);
  const ovens = await snapshotOf(tower, oven.id);
  t.strictSame(ovens.peers.map(({ name }) => name).sort(), ['relay', 'till']);
  t.notMatch(JSON.stringify(ovens), new RegExp(`fridge|florist|roses|${fridge.id}|10\\.9\\.8\\.3`));
  t.strictSame(namesIn((await ask({ path: '/v1/client/peers', credentials: oven })).body), ['relay', 'till']);
  t.strictSame(
    (await snapshotOf(tower, fridge.id)).peers.map(({ name }) => name),
    ['relay'],
  );
});

t.test('a policy of the operator lets two tenants know of each other, and taking it away hides them again', async (t) => {
  const { tower, till, fridge } = await platform(t);
  await tower.resources.create('policy', 'flowers', { from: { nodes: [till.id] }, to: { nodes: [fridge.id] }, classes: ['input'] }, 'local');
  t.ok((await snapshotOf(tower, till.id)).peers.some(({ id }) => id === fridge.id));
  t.ok((await snapshotOf(tower, fridge.id)).peers.some(({ id }) => id === till.id));
  await tower.resources.delete('policy', 'flowers', null, 'local');
  t.notOk((await snapshotOf(tower, till.id)).peers.some(({ id }) => id === fridge.id));
});

t.test('the platform owner sees everything, and that is in the audit log, once for each part in a while', async (t) => {
  const { tower, ask, api: _api, oven } = await platform(t);
  const owner = await redeemedOperator(tower, 'ada');
  const as: Pick<Ask, 'credentials'> = { credentials: owner };
  for (let index = 0; index < 3; index++) {
    const { body } = await ask({ path: '/v1/nodes', ...as });
    t.strictSame(namesIn(body), ['fridge', 'oven', 'relay', 'till']);
    t.match(JSON.stringify(body), /10\.9\.8\.3/);
  }
  await ask({ path: `/v1/nodes/${oven.id}`, ...as });
  await ask({ path: '/v1/sites', ...as });
  await ask({ path: '/v1/policies', ...as });
  const rows = (await tower.audit(0, 500)).filter(({ action }) => action === 'view.read');
  t.strictSame(
    rows.map(({ actor, subject }) => [actor.split(':')[0], subject]),
    [
      ['operator', 'nodes'],
      ['operator', 'sites'],
    ],
  );
});

t.test('a login of a tenant that may do more than a tenant is refused when the tower starts', (t) => {
  const verifier = { issuer: 'i', verify: async () => ({ subject: 's', expires_ms: 0 }) };
  t.throws(() => new Logins([{ name: 'x', verifier, audience: 'a', scopes: ['client', 'management'], tenant: 'bakery' }]), { code: 'argument_invalid' });
  t.end();
});

overEach(t, 'a node of another tenant that dials hears the same as one that is not there at all', async (t, transport, authority) => {
  const stranger = { ...alpha, node: '0c0000000003' };
  // Of neither was the node told: the one is a florist's, the other has never been.
  const policy = new Judge(trafficClassNames, { ...viewWith(beta, []), peer: () => null });
  const b = await startHost(t, { self: beta, authority, transport, policy });
  const heard = await Promise.all(
    [alpha, stranger].map(async (self) => {
      const node = await startHost(t, { self, authority, transport });
      dial(node, b, beta);
      await node.until((status) => lastError(status) === 'policy_denied');
      return node.host.mesh.status()[0]?.last_error?.message;
    }),
  );
  t.equal(heard[0], heard[1]);
  t.notOk(isEstablished(b.host.mesh.status()));
});

async function snapshotOf(tower: Tower, node: string): Promise<Snapshot> {
  const { envelope } = await tower.snapshot(node);
  return openSnapshot(checkEnvelope(envelope), { roots: tower.roots, cluster: tower.cluster, node, now_ms: Date.now() });
}
