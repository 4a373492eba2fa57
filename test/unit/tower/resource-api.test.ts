/** The routes of the simple resources over a real socket: pages, ETags, refusals with their place. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { kindNames, kinds } from '../../../src/tower/resources/kinds.ts';
import { adminApi } from '../../../src/tower/api.ts';
import { freshDirectory } from '../../compliance/store.ts';
import { asker } from './ask.ts';
import { HOUR_MS, makeTower } from './support.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { checkEnvelope } from '../../../src/enroll/wire.ts';
import { openSnapshot } from '../../../src/enroll/snapshot.ts';
import type { Tower } from '../../../src/tower/tower.ts';

async function serveLocal(t: Test) {
  const tower = await makeTower(t);
  const path = join(freshDirectory(t), 'tower.sock');
  const api = await adminApi(tower, path);
  t.teardown(() => api.close());
  return { tower, ask: asker(path) };
}

/** What must be said of each kind, since it has no default. */
const needed: Partial<Record<string, object>> = { service: { target: { host: '127.0.0.1', port: 80 } } };

t.test('every kind of resource has the same five routes, and they are in the OpenAPI page', async (t) => {
  const { ask } = await serveLocal(t);
  const page = (await ask('GET', '/v1/openapi.json')).body;
  for (const kind of kindNames) {
    const path = `/v1/${kinds[kind].plural}`;
    t.match(page, { paths: { [path]: { get: {}, post: {} }, [`${path}/{name}`]: { get: {}, put: {}, delete: {} } } });
    const made = await ask('POST', path, { name: 'one', ...needed[kind] });
    t.match(made, { status: 200, body: { name: 'one', description: '', ...kinds[kind].defaults } });
    t.equal(made.headers.etag, `"${made.body.revision}"`);
    const read = await ask('GET', `${path}/one`);
    t.strictSame(read.body, made.body);
    t.equal(read.headers.etag, made.headers.etag);
    t.match(await ask('POST', path, { name: 'one', ...needed[kind] }), { status: 409, body: { code: 'resource_exists' } });
    t.match(await ask('GET', `${path}/other`), { status: 404, body: { code: 'not_found', facts: { what: kind } } });
    const change = { description: 'changed', ...needed[kind] };
    t.match(await ask('PUT', `${path}/one`, change), { status: 400, body: { code: 'request_invalid', facts: { path: '/headers/if-match' } } });
    t.match(await ask('PUT', `${path}/one`, change, { 'if-match': '1' }), { status: 400 });
    const changed = await ask('PUT', `${path}/one`, change, { 'if-match': String(made.headers.etag) });
    t.match(changed, { status: 200, body: { description: 'changed' } });
    t.match(await ask('PUT', `${path}/one`, change, { 'if-match': String(made.headers.etag) }), { status: 412, body: { code: 'changed_meanwhile' } });
    t.match(await ask('DELETE', `${path}/one`, undefined, { 'if-match': String(made.headers.etag) }), { status: 412 });
    t.match(await ask('DELETE', `${path}/one`), { status: 400 });
    t.match(await ask('DELETE', `${path}/one`, undefined, { 'if-match': '*' }), { status: 200, body: { name: 'one' } });
    t.equal((await ask('GET', `${path}/one`)).status, 404);
  }
});

t.test('a list is told in pages, and a page that cannot be is refused', async (t) => {
  const { ask } = await serveLocal(t);
  for (const name of ['c', 'a', 'b', 'd', 'e']) await ask('POST', '/v1/tenants', { name });
  const first = (await ask('GET', '/v1/tenants?limit=2')).body;
  t.match(first, { items: [{ name: 'a' }, { name: 'b' }], next: 'b' });
  t.match((await ask('GET', '/v1/tenants?limit=2&after=b')).body, { items: [{ name: 'c' }, { name: 'd' }], next: 'd' });
  t.match((await ask('GET', '/v1/tenants?limit=2&after=d')).body, { items: [{ name: 'e' }], next: null });
  t.match((await ask('GET', '/v1/tenants?limit=5')).body, { next: null });
  for (const query of ['limit=0', 'limit=501', 'limit=x', 'limit=1e2', 'limit=9999', 'after=', 'after=a%00', 'other=1', 'limit=1&limit=2'])
    t.match(await ask('GET', `/v1/tenants?${query}`), { status: 400, body: { code: 'request_invalid' } }, query);
});

t.test('a document that does not fit is refused with its place, and so is one that names what is not there', async (t) => {
  const { ask } = await serveLocal(t);
  const cases: [string, object, string][] = [
    ['/v1/tenants', {}, '/body'],
    ['/v1/tenants', { name: 'Über' }, '/body/name'],
    ['/v1/tenants', { name: 'a', description: 'x'.repeat(257) }, '/body/description'],
    ['/v1/tenants', { name: 'a', revision: 1 }, '/body'],
    ['/v1/sites', { name: 'a', proofs: ['token', 'token'] }, '/body/proofs'],
    ['/v1/sites', { name: 'a', proofs: ['password'] }, '/body/proofs/0'],
    ['/v1/policies', { name: 'a', priority: -1 }, '/body/priority'],
    ['/v1/policies', { name: 'a', priority: '1' }, '/body/priority'],
    ['/v1/policies', { name: 'a', classes: [] }, '/body/classes'],
    ['/v1/policies', { name: 'a', from: { nodes: ['cashier'] } }, '/body/from/nodes/0'],
    ['/v1/policies', { name: 'a', from: { everyone: true } }, '/body/from'],
    ['/v1/services', { name: 'a' }, '/body'],
    ['/v1/services', { name: 'a', target: { host: 'a b', port: 1 } }, '/body/target/host'],
  ];
  for (const [path, body, place] of cases) {
    const answer = await ask('POST', path, body);
    t.match(answer, { status: 400, body: { code: 'request_invalid' } }, JSON.stringify(body));
    t.equal(answer.body.facts?.path, place, JSON.stringify(body));
  }
  t.match(await ask('POST', '/v1/sites', { name: 'a', tenant: 'none' }), { status: 404, body: { code: 'not_found', facts: { what: 'tenant', name: 'none' } } });
  await ask('POST', '/v1/tenants', { name: 'port' });
  await ask('POST', '/v1/sites', { name: 'a', tenant: 'port' });
  const refused = await ask('DELETE', '/v1/tenants/port', undefined, { 'if-match': '*' });
  t.match(refused, { status: 409, body: { code: 'resource_in_use', facts: { by: 'site a' } } });
});

async function enrolled(tower: Tower, name: string, site = 'harbor'): Promise<string> {
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
  return (await tower.enroll({ proof: { kind: 'token', token: text }, csr, name, site, listen: [] }, '192.0.2.1')).node;
}

t.test('nodes are listed in pages, of a site or all, found by name or id, changed without loss, and revoked', async (t) => {
  const { tower, ask } = await serveLocal(t);
  const ids = [];
  for (const name of ['a', 'b', 'c']) ids.push(await enrolled(tower, name, name === 'c' ? 'airport' : 'harbor'));
  const first = (await ask('GET', '/v1/nodes?limit=2')).body as unknown as { items: { id: string }[]; next: string };
  const rest = (await ask('GET', `/v1/nodes?limit=2&after=${first.next}`)).body as unknown as { items: { id: string }[]; next: null };
  t.strictSame(
    [...first.items, ...rest.items].map((one) => one.id),
    [...ids].sort(),
  );
  t.match((await ask('GET', '/v1/nodes?site=airport')).body, { items: [{ name: 'c' }], next: null });
  const read = await ask('GET', '/v1/nodes/a');
  t.strictSame((await ask('GET', `/v1/nodes/${ids[0]}`)).body, read.body);
  const etag = { 'if-match': String(read.headers.etag) };
  t.match(await ask('PATCH', '/v1/nodes/a', { roles: ['till'] }, etag), { status: 404, body: { facts: { what: 'role' } } });
  await ask('POST', '/v1/roles', { name: 'till' });
  t.match(await ask('PATCH', '/v1/nodes/a', { roles: ['till'] }), { status: 400, body: { facts: { path: '/headers/if-match' } } });
  t.match(await ask('PATCH', '/v1/nodes/a', { roles: ['till'], disabled: true }, etag), { status: 200, body: { roles: ['till'], disabled: true } });
  t.match(await ask('PATCH', '/v1/nodes/a', { disabled: false }, etag), { status: 412, body: { code: 'changed_meanwhile' } });
  t.match(await ask('PATCH', '/v1/nodes/a', { disabled: false }, { 'if-match': '*' }), { status: 200, body: { roles: ['till'], disabled: false } });
  t.match(await ask('PATCH', '/v1/nodes/a', { fingerprint: 'x' }, { 'if-match': '*' }), { status: 400 });
  t.match(await ask('DELETE', '/v1/nodes/b'), { status: 200, body: { name: 'b', fingerprint: null } });
  t.match(await ask('GET', '/v1/nodes/nobody'), { status: 404, body: { code: 'not_found', facts: { what: 'node' } } });
  t.match((await ask('GET', '/v1/status')).body, { nodes: 3, tokens: 3 });
});

t.test('a change of a rule is told to whom it concerns, and is in its snapshot', async (t) => {
  const { tower, ask } = await serveLocal(t);
  const [a, b, c] = [await enrolled(tower, 'a'), await enrolled(tower, 'b'), await enrolled(tower, 'c', 'airport')];
  const told: string[] = [];
  tower.onChange(({ everybody, nodes }) => told.push(everybody ? 'everybody' : [...nodes].sort().join(' ')));
  const read = async (node: string) => {
    const { envelope } = await tower.snapshot(node);
    return openSnapshot(checkEnvelope(envelope), { roots: tower.roots, cluster: 'alpha', node, now_ms: Date.now() });
  };
  t.notOk('rules' in (await read(a)), 'a cluster without rules has snapshots as before');
  await ask('POST', '/v1/tenants', { name: 'shop' });
  await ask('POST', '/v1/roles', { name: 'till' });
  await ask('PATCH', '/v1/nodes/a', { roles: ['till'], tenant: 'shop' }, { 'if-match': '*' });
  told.length = 0;
  await ask('POST', '/v1/policies', { name: 'p', from: { roles: ['till'] }, to: { nodes: [b, c] }, classes: ['input'] });
  t.strictSame(told, [[a, b, c].sort().join(' ')]);
  t.match(await read(a), {
    node: { roles: ['till'], tenant: 'shop' },
    rules: { roles: [{ name: 'till' }], policies: [{ name: 'p', from: { roles: ['till'] }, to: { nodes: [b, c] }, classes: ['input'] }] },
  });
  t.strictSame((await read(a)).peers.map(({ site }) => site).sort(), ['airport', 'harbor'], 'a policy lets it talk to a node elsewhere');
  t.match(await read(b), { peers: [{ id: a, roles: ['till'], tenant: 'shop' }], rules: { policies: [{ name: 'p' }] } });
  t.match(await read(c), { peers: [{ id: a, epoch: Number }], rules: { policies: [{ name: 'p', to: { nodes: [c] } }] } });
  const { version } = await tower.snapshot(a);
  await ask('DELETE', '/v1/policies/p', undefined, { 'if-match': '*' });
  t.ok((await tower.snapshot(a)).version > version);
  t.strictSame((await read(a)).rules?.policies, []);
  t.strictSame((await read(c)).peers, []);
});
