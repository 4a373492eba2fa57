/** Hosts that may enroll without a token, of all kinds, as one family of routes: pages, revisions, and no lost update. */
import t from 'tap';
import { apiWorld, type Ask, redeemedOperator } from './api-world.ts';
import { makeTower } from './support.ts';

t.setTimeout(60_000);

t.test('hosts of every kind are added, listed in pages, read, revoked and removed by one family of routes', async (t) => {
  const tower = await makeTower(t);
  const world = await apiWorld(t, tower);
  const credentials = await redeemedOperator(tower, 'ada');
  const ask = (given: Omit<Ask, 'credentials'>) => world.ask({ ...given, credentials });
  const add = (body: object) => ask({ method: 'POST', path: '/v1/hosts', body });
  const aws = await add({ kind: 'aws', facts: { account: '123456789012', role: 'edge' }, uses: 3 });
  const host = await add({ kind: 'host-id', id: 'SN-0042', name: 'till-42' });
  t.match(aws, { status: 200, body: { kind: 'aws', facts: { account: '123456789012', role: 'edge' }, uses_max: 3, revoked_ms: null } });
  t.match(host, { status: 200, body: { kind: 'host-id', id: 'sn-0042', name: 'till-42', facts: {} } });
  t.equal((await add({ kind: 'google', facts: { project: 'edge' } })).status, 200);
  for (const wrong of [
    { kind: 'host-id' },
    { kind: 'aws' },
    { kind: 'azure', id: 'sn-0043' },
    { kind: 'token', id: 'sn-0043' },
    { kind: 'host-id', id: 'sn-0043', uses: 2 },
  ])
    t.match(await add(wrong), { status: 400, body: { code: 'request_invalid' } }, JSON.stringify(wrong));

  const kinds: string[] = [];
  for (let after: string | null = ''; after !== null; ) {
    const query: string = after === '' ? '' : `&after=${encodeURIComponent(after)}`;
    const { items, next } = (await ask({ path: `/v1/hosts?limit=1${query}` })).body as unknown as { items: { kind: string }[]; next: string | null };
    kinds.push(...items.map(({ kind }) => kind));
    after = next;
  }
  t.strictSame(kinds, ['aws', 'google', 'host-id']);
  t.match((await ask({ path: '/v1/hosts?kind=google' })).body, { items: [{ kind: 'google' }], next: null });

  const path = `/v1/hosts/aws/${String(aws.body.id)}`;
  const etag = String((await ask({ path })).headers.etag);
  t.equal(etag, aws.headers.etag);
  t.match(await ask({ method: 'POST', path: `${path}/revoke` }), { status: 400, body: { code: 'request_invalid' } }, 'a change says for which revision it is');
  t.match(await ask({ method: 'POST', path: `${path}/revoke`, headers: { 'if-match': '"1"' } }), { status: 412, body: { code: 'changed_meanwhile' } });
  const revoked = await ask({ method: 'POST', path: `${path}/revoke`, headers: { 'if-match': etag } });
  t.match(revoked, { status: 200, body: { revoked_ms: Number } });
  t.match(await ask({ method: 'DELETE', path, headers: { 'if-match': etag } }), { status: 412 }, 'it was revoked since');
  t.match(await ask({ method: 'DELETE', path, headers: { 'if-match': String(revoked.headers.etag) } }), { status: 200 });
  t.match(await ask({ path }), { status: 404 });
  t.match(await ask({ method: 'DELETE', path: '/v1/hosts/host-id/SN-0042', headers: { 'if-match': '*' } }), { status: 200, body: { id: 'sn-0042' } });
  for (const old of ['/v1/platform-hosts', '/v1/hosts/sn-0042']) t.match(await ask({ path: old }), { status: 404 }, old);
  t.match(
    (await tower.audit(0, 100)).filter(({ action }) => /^(aws|host-id)\./.test(action)),
    Array(4).fill({ actor: `operator:${credentials.id}` }),
  );
});
