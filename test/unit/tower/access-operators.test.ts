/** Operators over the real public port: a bundle redeemed once, a certificate that only they have, and an end that is one. */
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import type { FastifyInstance } from 'fastify';
import t, { type Test } from 'tap';
import { management } from '../../../src/api/access.ts';
import { limits } from '../../../src/base/limits.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { makeAuthority } from '../../fixtures/certs.ts';
import { streamLines } from '../../../src/node/stream-lines.ts';
import { apiWorld, askOn, csrOf, enrolledNode, openOn, redeemedOperator } from './api-world.ts';
import { DAY_MS, HOUR_MS, makeTower, shiftedClock } from './support.ts';

t.setTimeout(120_000);

const created = { name: 'ada', life_ms: HOUR_MS };

async function world(t: Test, clock = shiftedClock()) {
  const tower = await makeTower(t, { clock });
  return { tower, clock, ...(await apiWorld(t, tower, { clock, register: streamRoute })) };
}

/** An answer that goes on until its caller goes away. */
function streamRoute(scope: FastifyInstance): void {
  scope.get('/v1/test/stream', management, (request, reply) =>
    streamLines(request, reply, async (signal, emit) => {
      emit({ begun: true });
      await once(signal, 'abort');
      return { done: true };
    }),
  );
}

t.test('an operator is made with a bundle, redeems it for a certificate of a year, and manages with it; the audit log names who did what', async (t) => {
  const { tower, ask } = await world(t);
  const first = await redeemedOperator(tower, 'root-operator');
  const made = await ask({ method: 'POST', path: '/v1/operators', body: created, credentials: first });
  t.match(made, {
    status: 200,
    body: { operator: { name: 'ada', scopes: ['management', 'client'], fingerprint: null }, bundle: { cluster: 'alpha', format: 1 } },
  });
  const { bundle } = made.body as unknown as { bundle: { operator: string; secret: string; fingerprint: string } };
  t.equal(bundle.fingerprint, `sha256:${Buffer.from(tower.rootFingerprint).toString('hex')}`);
  const { privateKey } = generateKeyPair();
  const redeemed = await ask({
    method: 'POST',
    path: '/v1/operators/redeem',
    body: { operator: bundle.operator, secret: bundle.secret, csr: csrOf(privateKey) },
  });
  t.equal(redeemed.status, 200);
  const { chain } = redeemed.body as unknown as { chain: string[] };
  const credentials = { chain: chain.map((one) => new Uint8Array(Buffer.from(one, 'base64'))), key: privateKey };
  t.match(await ask({ path: '/v1/self', credentials }), { body: { actor: `operator:${bundle.operator}`, scopes: ['management', 'client'], session: null } });
  t.equal((await ask({ path: '/v1/nodes', credentials })).status, 200);
  const { body } = await ask({ path: `/v1/operators/${bundle.operator}`, credentials });
  t.ok(Math.abs(Number(body.not_after_ms) - (Date.now() + 365 * DAY_MS)) < 60_000, 'a year');
  await ask({ method: 'POST', path: '/v1/operators', body: { ...created, name: 'bob' }, credentials });
  const listed = await ask({ path: '/v1/operators?limit=2', credentials });
  t.match(listed.body, { items: [{}, {}], next: String });
  t.notMatch(JSON.stringify(listed.body), /svb_|hash/, 'no list repeats a secret');
  t.match(
    (await auditOf(tower)).map(({ actor, action }) => [actor, action]),
    [
      ['local', 'operator.create'],
      [`operator:${first.id}`, 'operator.redeem'],
      [`operator:${first.id}`, 'operator.create'],
      [`operator:${bundle.operator}`, 'operator.redeem'],
      [`operator:${bundle.operator}`, 'operator.create'],
    ],
  );
  t.notMatch(JSON.stringify(await auditOf(tower)), bundle.secret);
});

t.test('a bundle is redeemed once; the same request again, whose answer was lost, gets the same certificate', async (t) => {
  const { tower, ask } = await world(t);
  const { bundle } = await tower.access.operators.create({ ...created, scopes: ['client'] }, 'local');
  const { operator, secret } = bundle;
  const csr = csrOf(generateKeyPair().privateKey);
  const redeem = (more: object = {}) => ask({ method: 'POST', path: '/v1/operators/redeem', body: { operator, secret, csr, ...more } });
  const [one, two] = await Promise.all([redeem(), redeem()]);
  t.equal(one.status, 200);
  t.strictSame(one.body, two.body, 'both at once, one answer');
  t.strictSame((await redeem()).body, one.body);
  t.match(await redeem({ csr: csrOf(generateKeyPair().privateKey) }), { status: 403, body: { code: 'bundle_redeemed' } });
  t.equal((await auditOf(tower)).filter(({ action }) => action === 'operator.redeem').length, 1);
  const rivals = await tower.access.operators.another(operator, HOUR_MS, 'local');
  const asks = Array.from({ length: 20 }, () => redeem({ secret: rivals.bundle.secret, csr: csrOf(generateKeyPair().privateKey) }));
  const statuses = (await Promise.all(asks)).map(({ status }) => status);
  t.equal(statuses.filter((status) => status === 200).length, 1, 'of twenty keys at once, one');
});

t.test(
  'a bundle that expired, was guessed, is of another operator, was replaced or cancelled is refused, and none of these says more than it must',
  async (t) => {
    const { tower, clock, ask } = await world(t);
    const { operators } = tower.access;
    const { bundle } = await operators.create({ ...created, scopes: ['client'] }, 'local');
    const other = await operators.create({ ...created, name: 'eve', scopes: ['client'] }, 'local');
    const csr = csrOf(generateKeyPair().privateKey);
    const redeem = (operator: string, secret: string) => ask({ method: 'POST', path: '/v1/operators/redeem', body: { operator, secret, csr } });
    const guessed = await redeem(bundle.operator, `svb_${'A'.repeat(43)}`);
    t.match(guessed, { status: 403, body: { code: 'bundle_invalid' } });
    t.strictSame((await redeem('000000000000', bundle.secret)).body, guessed.body, 'unknown operator, same words');
    t.strictSame((await redeem(other.bundle.operator, bundle.secret)).body, guessed.body, 'another’s secret, same words');
    t.match(await redeem(bundle.operator, 'x'), { status: 400, body: { code: 'request_invalid' } });
    const again = await operators.another(bundle.operator, HOUR_MS, 'local');
    t.strictSame((await redeem(bundle.operator, bundle.secret)).body, guessed.body, 'replaced');
    await operators.revoke(other.bundle.operator, 'local');
    t.strictSame((await redeem(other.bundle.operator, other.bundle.secret)).body, guessed.body, 'cancelled with its operator');
    clock.offset_ms = HOUR_MS + 1;
    t.match(await redeem(bundle.operator, again.bundle.secret), { status: 403, body: { code: 'bundle_expired' } });
    const node = await enrolledNode(tower, 'one');
    const late = await operators.another(bundle.operator, HOUR_MS, 'local');
    await t.rejects(operators.redeem({ operator: bundle.operator, secret: late.bundle.secret, csr: csrOf(node.key) }), { code: 'csr_invalid' });
  },
);

t.test('revoking an operator ends certificate, sessions, streaming answers, idle connections and the waiting bundle in one change', async (t) => {
  const { tower, ask, connect } = await world(t);
  const admin = await redeemedOperator(tower, 'admin');
  const credentials = await redeemedOperator(tower, 'ada');
  const { bundle } = await tower.access.operators.another(credentials.id, HOUR_MS, 'local');
  const login = await ask({ method: 'POST', path: '/v1/sessions', body: {}, credentials });
  const bearer = String(login.body.token);
  t.equal((await ask({ path: '/v1/nodes', bearer })).status, 200);
  const [byCertificate, byToken, idle] = [await connect(credentials), await connect(), await connect(credentials)];
  const streams = [await openOn(byCertificate, { path: '/v1/test/stream' }), await openOn(byToken, { path: '/v1/test/stream', bearer })];
  await askOn(idle, { path: '/v1/self', headers: { connection: 'keep-alive' } });
  const bystander = await connect(admin);
  const other = await openOn(bystander, { path: '/v1/test/stream' });
  for (const stream of [...streams, other]) stream.on('error', () => undefined).resume();
  const ended = [byCertificate, byToken, idle].map((socket) => once(socket, 'close'));
  const before = (await auditOf(tower)).length;
  const asked = performance.now();
  t.match(await ask({ method: 'DELETE', path: `/v1/operators/${credentials.id}`, credentials: admin }), { status: 200, body: { fingerprint: null } });
  await Promise.all(ended);
  t.comment(`cut after ${(performance.now() - asked).toFixed(1)} ms`);
  t.notOk(bystander.destroyed, 'nobody else');
  t.match(await ask({ path: '/v1/self', credentials }), { status: 403, body: { code: 'certificate_revoked' } });
  t.match(await ask({ path: '/v1/self', bearer }), { status: 401, body: { code: 'session_invalid' } });
  t.match(await ask({ method: 'POST', path: '/v1/sessions', body: {}, credentials }), { status: 403, body: { code: 'certificate_revoked' } });
  const redeem = { operator: bundle.operator, secret: bundle.secret, csr: csrOf(generateKeyPair().privateKey) };
  t.match(await ask({ method: 'POST', path: '/v1/operators/redeem', body: redeem }), { status: 403, body: { code: 'bundle_invalid' } });
  const rows = (await auditOf(tower)).slice(before);
  t.match(rows, [{ actor: `operator:${admin.id}`, action: 'operator.revoke', subject: credentials.id }]);
  t.strictSame(JSON.parse(rows[0]?.detail ?? ''), { name: 'ada', fingerprint: JSON.parse(rows[0]?.detail ?? '').fingerprint, bundle: true, sessions: 1 });
  t.equal((await ask({ method: 'POST', path: '/v1/operators', body: created, credentials: admin })).status, 200, 'the name is free again');
  t.equal((await ask({ method: 'POST', path: '/v1/operators', body: created, credentials: admin })).body.code, 'operator_exists');
  t.equal((await ask({ method: 'POST', path: `/v1/operators/${credentials.id}/bundle`, body: {}, credentials: admin })).body.code, 'operator_revoked');
  bystander.destroy();
});

t.test('an operator renews its certificate by showing it; the old one ends when the new one is first shown, and a lost answer is given again', async (t) => {
  const { tower, clock, ask } = await world(t);
  const old = await redeemedOperator(tower, 'ada');
  const bearer = String((await ask({ method: 'POST', path: '/v1/sessions', body: {}, credentials: old })).body.token);
  clock.offset_ms = 340 * DAY_MS;
  const path = '/v1/operators/current/renew';
  const { privateKey } = generateKeyPair();
  const renewing = { method: 'POST', path, body: { csr: csrOf(privateKey) }, credentials: old };
  const first = await ask(renewing);
  t.equal(first.status, 200);
  const { chain } = first.body as unknown as { chain: string[] };
  t.strictSame(((await ask(renewing)).body as unknown as { chain: string[] }).chain, chain, 'the same request, the same answer');
  t.equal((await ask({ path: '/v1/self', credentials: old })).status, 200, 'the old one goes on meanwhile');
  const renewed = { chain: chain.map((one) => new Uint8Array(Buffer.from(one, 'base64'))), key: privateKey };
  t.match(await ask({ path: '/v1/self', credentials: renewed }), { status: 200, body: { actor: `operator:${old.id}` } });
  t.match(await ask({ path: '/v1/self', credentials: old }), { status: 403, body: { code: 'certificate_revoked' } });
  const { body } = await ask({ path: `/v1/operators/${old.id}`, credentials: renewed });
  t.ok(Math.abs(Number(body.not_after_ms) - (clock.wall() + 365 * DAY_MS)) < 60_000, 'another year');
  const actions = (await auditOf(tower)).filter(({ subject }) => subject === old.id).map(({ action, actor }) => [action, actor]);
  t.strictSame(actions.slice(-2), [
    ['operator.renew', `operator:${old.id}`],
    ['operator.leaf', `operator:${old.id}`],
  ]);
  t.match(await ask({ method: 'POST', path, body: renewing.body, bearer }), { status: 401 }, 'neither by a session, which has ended by now');
  const fresh = String((await ask({ method: 'POST', path: '/v1/sessions', body: {}, credentials: renewed })).body.token);
  t.match(await ask({ method: 'POST', path, body: renewing.body, bearer: fresh }), { status: 401, body: { code: 'unauthorized' } }, 'nor by one that is good');
});

t.test('an operator that was revoked, or whose certificate has ended, renews nothing, nor does a node, nor with the key of another', async (t) => {
  const { tower, clock, ask } = await world(t);
  const [ada, bob, eve] = [await redeemedOperator(tower, 'ada'), await redeemedOperator(tower, 'bob'), await redeemedOperator(tower, 'eve')];
  const renew = (credentials: typeof ada, key = generateKeyPair().privateKey) =>
    ask({ method: 'POST', path: '/v1/operators/current/renew', body: { csr: csrOf(key) }, credentials });
  t.match(await renew(bob, ada.key), { status: 400, body: { code: 'csr_invalid' } });
  t.match(await renew(await enrolledNode(tower, 'one')), { status: 401, body: { code: 'unauthorized' } });
  const { privateKey } = generateKeyPair();
  const { chain } = (await renew(ada, privateKey)).body as unknown as { chain: string[] };
  await tower.access.operators.revoke(ada.id, 'local');
  t.match(await renew(ada), { status: 403, body: { code: 'certificate_revoked' } });
  const renewed = { chain: chain.map((one) => new Uint8Array(Buffer.from(one, 'base64'))), key: privateKey };
  t.match(
    await ask({ path: '/v1/self', credentials: renewed }),
    { status: 403, body: { code: 'certificate_revoked' } },
    'what it was given and never showed ends too',
  );
  clock.offset_ms = 366 * DAY_MS;
  t.match(await renew(eve), { status: 403, body: { code: 'certificate_invalid' } });
});

t.test('another certificate, by another bundle, ends the one before and its sessions', async (t) => {
  const { tower, ask } = await world(t);
  const old = await redeemedOperator(tower, 'ada');
  const bearer = String((await ask({ method: 'POST', path: '/v1/sessions', body: {}, credentials: old })).body.token);
  const { bundle } = await tower.access.operators.another(old.id, HOUR_MS, 'local');
  t.equal((await ask({ path: '/v1/self', credentials: old })).status, 200, 'not before it is redeemed');
  await tower.access.operators.redeem({ operator: old.id, secret: bundle.secret, csr: csrOf(generateKeyPair().privateKey) });
  t.match(await ask({ path: '/v1/self', credentials: old }), { status: 403, body: { code: 'certificate_revoked' } });
  t.match(await ask({ path: '/v1/self', bearer }), { status: 401, body: { code: 'session_invalid' } });
});

t.test('a certificate that expired, is of another cluster or forged, and a node that was revoked, are nobody', async (t) => {
  const { tower, clock, ask } = await world(t);
  const operator = await redeemedOperator(tower, 'ada');
  const node = await enrolledNode(tower, 'one');
  const other = await makeTower(t, { cluster: 'beta' });
  const refusal = { status: 403, body: { code: /^(certificate_invalid|wrong_cluster)$/ } };
  t.match(await ask({ path: '/v1/self', credentials: await redeemedOperator(other, 'ada') }), refusal, 'another cluster’s operator');
  const same = await makeTower(t);
  t.match(await ask({ path: '/v1/self', credentials: await redeemedOperator(same, 'ada') }), refusal, 'another authority of the same name');
  const forger = await makeAuthority('alpha');
  const uris = [`spiffe://alpha/operator/${operator.id}`];
  const forged = await forger.issue({ uris, ekus: ['1.3.6.1.5.5.7.3.2'] });
  t.match(await ask({ path: '/v1/self', credentials: forged }), refusal, 'forged');
  const [, intermediate = new Uint8Array()] = operator.chain;
  const mixed = { chain: [forged.chain[0] ?? new Uint8Array(), intermediate], key: forged.key };
  t.match(await ask({ path: '/v1/self', credentials: mixed }), refusal, 'forged, beside the true intermediate');
  t.match(await ask({ path: '/v1/nodes', credentials: node }), { status: 403, body: { code: 'scope_denied' } }, 'a node is no operator');
  await tower.revokeNode(node.id);
  t.match(await ask({ path: '/v1/self', credentials: node }), { status: 403, body: { code: 'certificate_revoked' } });
  clock.offset_ms = 366 * DAY_MS;
  t.match(await ask({ path: '/v1/self', credentials: operator }), { status: 403, body: { code: 'certificate_invalid', message: /expired/ } });
});

t.test('nothing in a request’s head makes anybody somebody', async (t) => {
  const { tower, ask } = await world(t);
  const operator = await redeemedOperator(tower, 'ada');
  const node = await enrolledNode(tower, 'one');
  const der = Buffer.from(operator.chain[0] ?? new Uint8Array()).toString('base64');
  const pem = encodeURIComponent(`-----BEGIN CERTIFICATE-----\n${der}\n-----END CERTIFICATE-----\n`);
  const smuggled: Record<string, string>[] = [
    { 'x-client-cert': pem, 'x-ssl-client-cert': pem, 'ssl-client-cert': pem, 'x-ssl-client-verify': 'SUCCESS' },
    { 'client-cert': `:${der}:`, 'client-cert-chain': `:${der}:` },
    { 'x-forwarded-client-cert': `By=spiffe://alpha;URI=spiffe://alpha/operator/${operator.id};Cert="${pem}"` },
    { 'x-forwarded-for': '127.0.0.1', 'x-real-ip': '127.0.0.1', forwarded: 'for=127.0.0.1', 'x-forwarded-user': 'root', 'x-remote-user': 'root' },
    { cookie: `session=operator:${operator.id}`, 'x-actor': 'local', 'x-scopes': 'management', 'x-api-key': operator.id },
  ];
  for (const headers of smuggled) {
    t.match(await ask({ path: '/v1/self', headers }), { status: 401, body: { code: 'unauthorized' } }, Object.keys(headers).join(', '));
    t.match((await ask({ path: '/v1/self', headers, credentials: node })).body, { actor: `node:${node.id}`, scopes: ['client'] });
    t.match(await ask({ path: '/v1/nodes', headers, credentials: node }), { status: 403, body: { code: 'scope_denied' } });
  }
});

t.test('strangers have a rate for each address and one in all, and whoever shows what is wrong is a stranger', async (t) => {
  const tower = await makeTower(t);
  const few = await apiWorld(t, tower, { per_minute_max: 4 });
  const operator = await redeemedOperator(tower, 'ada');
  for (let index = 0; index < 4; index++) t.equal((await few.ask({ path: '/v1/self', bearer: `svs_${'A'.repeat(43)}` })).status, 401);
  t.match(await few.ask({ path: '/v1/self', bearer: `svs_${'B'.repeat(43)}` }), { status: 429, body: { code: 'rate_limited' } });
  t.match(await few.ask({ path: '/v1/health' }), { status: 429 });
  t.match(await few.ask({ path: '/v1/nothing-here' }), { status: 429 });
  t.equal((await few.ask({ path: '/v1/self', credentials: operator })).status, 200, 'who is known is not held up by them');
  const all = await apiWorld(t, tower, { per_minute_max: 100, open_per_minute_max: 2 });
  const from = async (localAddress: string) => await askOn(await all.connect(undefined, localAddress), { path: '/v1/health' });
  t.equal((await from('127.0.0.2')).status, 200);
  t.equal((await from('127.0.0.3')).status, 200);
  t.match(await from('127.0.0.4'), { status: 429, body: { code: 'rate_limited' } });
});

async function auditOf(tower: Tower) {
  return (await tower.audit(0, limits.operators_max)).filter(({ action }) => /^(operator|session)\./.test(action));
}

t.test('every request of a kept connection is judged by all the certificates that it has shown, and none of them counts as a stranger’s', async (t) => {
  const tower = await makeTower(t);
  const { connect } = await apiWorld(t, tower, { per_minute_max: 1 });
  for (const credentials of [await redeemedOperator(tower, 'ada'), await enrolledNode(tower, 'one')]) {
    const socket = await connect(credentials);
    const request = (more = '') => `GET /v1/self HTTP/1.1\r\nhost: tower\r\n${more}\r\n`;
    socket.write(request() + request() + request() + request('connection: close\r\n'));
    const answers = await text(socket);
    t.strictSame(
      [...answers.matchAll(/HTTP\/1\.1 (\d{3})/g)].map(([, status]) => status),
      ['200', '200', '200', '200'],
    );
  }
});

t.test('a node that asks without end is told to wait, over all its connections; others, and whoever manages, are not', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const { ask } = await apiWorld(t, tower, { client_per_minute_max: 3 });
  const [one, two, operator] = [await enrolledNode(tower, 'one'), await enrolledNode(tower, 'two'), await redeemedOperator(tower, 'ada')];
  const path = '/v1/client/peers?limit=1';
  for (let request = 0; request < 3; request++) t.equal((await ask({ path, credentials: one })).status, 200);
  t.match(await ask({ path, credentials: one }), { status: 429, body: { code: 'rate_limited', facts: { peer: `node:${one.id}` } } });
  t.equal((await ask({ path, credentials: two })).status, 200);
  for (let request = 0; request < 5; request++) t.equal((await ask({ path: '/v1/nodes', credentials: operator })).status, 200);
});
