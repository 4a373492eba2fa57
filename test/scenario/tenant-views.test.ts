/** Spec 15: tenant views hide topology. Two tenants share a site and its relay; what each can find out of the platform and of the other, over the real public port. */
import t, { type Test } from 'tap';
import { type Ask, apiWorld, enrolledNode, redeemedOperator } from '../unit/tower/api-world.ts';
import { makeTower } from '../unit/tower/support.ts';
import { JwtIssuer } from '../../src/identity/jwt.ts';
import { openSnapshot } from '../../src/enroll/snapshot.ts';
import { checkEnvelope, type Snapshot } from '../../src/enroll/wire.ts';
import { Logins } from '../../src/tower/access/logins.ts';
import type { Tower } from '../../src/tower/tower.ts';
import { systemClock } from '../../src/transport/system.ts';
import { trafficClassNames } from '../../src/channel/classes.ts';
import { Judge } from '../../src/policy/judge.ts';
import { makeIssuer } from '../fixtures/jwt.ts';
import { alpha, beta, dial, isEstablished, lastError, overEach, startHost, viewWith } from './hosts.ts';

t.setTimeout(120_000);

const AUDIENCE = 'selvedge:edge';

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
  const world = await apiWorld(t, tower, { logins });
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
  t.notMatch(JSON.stringify([peers, services]), /10\.9\.8|127\.0\.0\.1|north|harbor|site|fridge|relay|roses|florist/, 'no address, no site, nobody else');
});

t.test('a tenant’s session gets nothing of the platform’s view', async (t) => {
  const { ask, baker, routes } = await platform(t);
  const platformRoutes = routes.filter(({ method, scope, url }) => method === 'GET' && scope === 'management' && !url.includes(':'));
  t.ok(platformRoutes.length > 8);
  for (const { url } of platformRoutes) t.match(await ask({ path: url, bearer: baker }), { status: 403, body: { code: 'scope_denied' } }, url);
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
