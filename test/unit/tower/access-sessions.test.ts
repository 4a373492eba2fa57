/** Sessions, service tokens and logins by JWT, over the real public port. */
import { once } from 'node:events';
import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { management } from '../../../src/api/access.ts';
import { limits } from '../../../src/base/limits.ts';
import { streamLines } from '../../../src/node/stream-lines.ts';
import { JwtIssuer } from '../../../src/identity/jwt.ts';
import { Logins } from '../../../src/tower/access/logins.ts';
import { ServiceTokens } from '../../../src/tower/access/service-tokens.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { AUDIENCE, makeIssuer, rawToken } from '../../fixtures/jwt.ts';
import { apiWorld, type ApiWorld, enrolledNode, openOn, redeemedOperator } from './api-world.ts';
import { HOUR_MS, makeTower, shiftedClock } from './support.ts';

t.setTimeout(120_000);

async function world(t: Test, more: Parameters<typeof apiWorld>[2] = {}) {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  return { tower, clock, ...(await apiWorld(t, tower, { clock, ...more })) };
}

const login = async (ask: ApiWorld['ask'], given: object = {}, body: object = {}) => {
  const answer = await ask({ method: 'POST', path: '/v1/sessions', body, ...given });
  return { answer, bearer: String(answer.body.token), id: String((answer.body.session as { id?: string } | undefined)?.id) };
};

t.test('a session is what its beginner may do, or less, never more', async (t) => {
  const { tower, ask } = await world(t);
  const credentials = await redeemedOperator(tower, 'ada');
  const node = await enrolledNode(tower, 'one');
  const all = await login(ask, { credentials });
  t.match(all.answer, {
    status: 200,
    body: { token: /^svs_[A-Za-z0-9_-]{43}$/, session: { actor: `operator:${credentials.id}`, scopes: ['management', 'client'] } },
  });
  t.equal((await ask({ path: '/v1/nodes', bearer: all.bearer })).status, 200);
  const less = await login(ask, { credentials }, { scopes: ['client'] });
  t.match(await ask({ path: '/v1/nodes', bearer: less.bearer }), { status: 403, body: { code: 'scope_denied' } });
  t.match((await ask({ path: '/v1/self', bearer: less.bearer })).body, { scopes: ['client'], session: less.id });
  t.match((await login(ask, { credentials: node }, { scopes: ['management'] })).answer, { status: 403, body: { code: 'scope_denied' } });
  const reader = await redeemedOperator(tower, 'reader', ['client']);
  t.match((await login(ask, { credentials: reader }, { scopes: ['client', 'management'] })).answer, { status: 403, body: { code: 'scope_denied' } });
  t.match((await login(ask, {})).answer, { status: 401, body: { code: 'unauthorized' } }, 'nothing shown');
  t.match((await login(ask, { bearer: all.bearer })).answer, { status: 401, body: { code: 'unauthorized' } }, 'a session begins no other');
});

t.test('every route of scope management refuses a session of scope client, and the lists of others with it', async (t) => {
  const { tower, routes, ask } = await world(t);
  const credentials = await redeemedOperator(tower, 'ada');
  const { bearer } = await login(ask, { credentials }, { scopes: ['client'] });
  for (const { method, url } of routes.filter(({ scope }) => scope === 'management')) {
    const path = url.replace(/:\w+/g, '000000000000');
    t.match(await ask({ method, path, bearer, ...(method !== 'GET' && { body: {} }) }), { status: 403, body: { code: 'scope_denied' } }, `${method} ${url}`);
  }
  const manager = await login(ask, { credentials }, { scopes: ['management'] });
  for (const { method, url } of routes.filter(({ scope }) => scope === 'client'))
    t.match(await ask({ method, path: url, bearer: manager.bearer }), { status: 403, body: { code: 'scope_denied' } }, `${method} ${url}`);
});

t.test('a client is told the peers of its own site and app networks, and nobody else', async (t) => {
  const { tower, ask } = await world(t);
  const one = await enrolledNode(tower, 'one', 'north');
  const two = await enrolledNode(tower, 'two', 'north');
  const three = await enrolledNode(tower, 'three', 'south');
  const operator = await redeemedOperator(tower, 'ada');
  const names = async (given: object) => ((await ask({ path: '/v1/client/peers', ...given })).body.items as { name: string }[]).map(({ name }) => name);
  t.strictSame(await names({ credentials: one }), ['two']);
  t.strictSame(await names({ credentials: three }), []);
  const { bearer } = await login(ask, { credentials: two });
  t.strictSame(await names({ bearer }), ['one'], 'a node’s session knows what the node knows');
  t.strictSame(await names({ credentials: operator }), [], 'who is no node has no peers');
  await tower.revokeNode(one.id);
  t.strictSame(await names({ bearer }), [], 'a revoked node is nobody’s peer');
});

t.test('a session ends by logging out, by its time, by being revoked, and with its node; its token is worth nothing then', async (t) => {
  const { tower, clock, ask } = await world(t);
  const credentials = await redeemedOperator(tower, 'ada');
  const gone = { status: 401, body: { code: 'session_invalid' } };
  const one = await login(ask, { credentials });
  t.match(await ask({ method: 'DELETE', path: '/v1/sessions/current', bearer: one.bearer }), { status: 200, body: { id: one.id } });
  const after = await ask({ path: '/v1/self', bearer: one.bearer });
  t.match(after, gone, 'logged out');
  const two = await login(ask, { credentials });
  t.match((await ask({ path: '/v1/sessions', credentials })).body, { items: [{ id: two.id }], next: null });
  t.match(await ask({ method: 'DELETE', path: `/v1/sessions/${two.id}`, credentials }), { status: 200 });
  t.match(await ask({ path: '/v1/self', bearer: two.bearer }), gone, 'revoked');
  t.match(await ask({ method: 'DELETE', path: `/v1/sessions/${two.id}`, credentials }), { status: 404, body: { code: 'not_found' } });
  t.match(await ask({ method: 'DELETE', path: '/v1/sessions/current', credentials }), gone, 'a certificate is no session');
  const node = await enrolledNode(tower, 'one');
  const three = await login(ask, { credentials: node });
  await tower.revokeNode(node.id);
  t.match(await ask({ path: '/v1/self', bearer: three.bearer }), gone, 'its node was revoked');
  const four = await login(ask, { credentials }, { life_ms: HOUR_MS });
  const never = await ask({ path: '/v1/self', bearer: `svs_${'A'.repeat(43)}` });
  clock.offset_ms = HOUR_MS;
  const expired = await ask({ path: '/v1/self', bearer: four.bearer });
  t.match(expired, gone, 'expired');
  t.strictSame(expired.body, never.body, 'what never was reads as what is over');
  t.strictSame(after.body, never.body);
});

t.test('what is under way for a session ends with it, and what goes on for somebody else does not', async (t) => {
  const { tower, ask, connect } = await world(t, {
    register: (scope) =>
      void scope.get('/v1/test/stream', management, (request, reply) =>
        streamLines(request, reply, async (signal, emit) => {
          emit({ begun: true });
          await once(signal, 'abort');
          return { done: true };
        }),
      ),
  });
  const credentials = await redeemedOperator(tower, 'ada');
  const [one, two] = [await login(ask, { credentials }), await login(ask, { credentials })];
  const [first, second] = [await connect(), await connect()];
  for (const [socket, { bearer }] of [
    [first, one],
    [second, two],
  ] as const)
    (await openOn(socket, { path: '/v1/test/stream', bearer })).on('error', () => undefined).resume();
  const ended = once(first, 'close');
  await ask({ method: 'DELETE', path: `/v1/sessions/${one.id}`, credentials });
  await ended;
  t.notOk(second.destroyed);
  const logout = once(second, 'close');
  await ask({ method: 'DELETE', path: '/v1/sessions/current', bearer: two.bearer });
  await logout;
  const { live } = tower.access;
  t.ok(live.size <= 2, 'nothing is held for those that are gone');
});

t.test('who begins more sessions than one may have ends its own oldest', async (t) => {
  const { tower, ask } = await world(t);
  const credentials = await redeemedOperator(tower, 'ada');
  const other = await redeemedOperator(tower, 'bob');
  const bobs = await login(ask, { credentials: other });
  const socket = await ask({ path: '/v1/self', credentials });
  t.equal(socket.status, 200);
  const tokens: string[] = [];
  for (let index = 0; index <= limits.api_sessions_per_actor_max; index++) tokens.push((await login(ask, { credentials })).bearer);
  t.equal((await ask({ path: '/v1/self', bearer: tokens[0] ?? '' })).status, 401);
  t.equal((await ask({ path: '/v1/self', bearer: tokens[1] ?? '' })).status, 200);
  t.equal((await ask({ path: '/v1/self', bearer: bobs.bearer })).status, 200);
});

t.test('only hashes of tokens and bundles are on disk', async (t) => {
  const { tower, ask } = await world(t);
  const credentials = await redeemedOperator(tower, 'ada');
  const { bearer } = await login(ask, { credentials });
  const { bundle } = await tower.access.operators.another(credentials.id, HOUR_MS, 'local');
  for (const name of ['tower.db', 'tower.db-wal']) {
    const bytes = readFileSync(join(tower.state, name));
    for (const secret of [bearer, bearer.slice(4), bundle.secret, bundle.secret.slice(4)]) t.equal(bytes.indexOf(secret), -1, name);
  }
});

t.test('a service has its scopes by its token, and no longer than its line is in the file', async (t) => {
  const path = join(freshDirectory(t), 'services');
  const [one, two] = [`svk_${'a'.repeat(43)}`, `svk_${'b'.repeat(64)}`];
  writeFileSync(path, `# what each is for\nconsole management,client ${one}\nprobe client ${two}\n`, { mode: 0o600 });
  const { ask } = await world(t, { services: await ServiceTokens.open(path) });
  t.match((await ask({ path: '/v1/self', bearer: one })).body, { actor: 'service:console', scopes: ['management', 'client'] });
  t.equal((await ask({ path: '/v1/nodes', bearer: one })).status, 200);
  t.match(await ask({ path: '/v1/nodes', bearer: two }), { status: 403, body: { code: 'scope_denied' } });
  for (const wrong of [`svk_${'c'.repeat(43)}`, one.slice(0, -1), `${one}a`, one.toUpperCase(), one.slice(4), `svk_${'d'.repeat(200)}`, 'Basic'])
    t.match(await ask({ path: '/v1/self', bearer: wrong }), { status: 401, body: { code: 'session_invalid' } });
  writeFileSync(path, `probe client ${two}\n`);
  t.match(await ask({ path: '/v1/self', bearer: one }), { status: 401 }, 'removed');
  t.equal((await ask({ path: '/v1/self', bearer: two })).status, 200);
  chmodSync(path, 0o644);
  t.match(await ask({ path: '/v1/self', bearer: two }), { status: 500, body: { code: 'service_tokens_invalid' } }, 'a file that others may read serves nobody');
  rmSync(path);
  t.equal((await ask({ path: '/v1/self', bearer: two })).status, 500);
});

t.test('a file of service tokens that is not what it should be is refused by line, without a word of a token', async (t) => {
  const path = join(freshDirectory(t), 'services');
  const token = `svk_${'s'.repeat(43)}`;
  const many = Array.from({ length: limits.service_tokens_max + 1 }, (_, index) => `s${index} client ${token}`).join('\n');
  for (const text of [
    `Bad client ${token}`,
    `a root ${token}`,
    `a client svk_short`,
    `a client ${token} more`,
    `a client ${token}\na client ${token}`,
    `a ${token}`,
    many,
  ]) {
    writeFileSync(path, text, { mode: 0o600 });
    const error = await ServiceTokens.open(path).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    t.match(error, { code: 'service_tokens_invalid' }, text.slice(0, 20));
    t.notMatch(JSON.stringify(error), token);
  }
  await rejectsWith(t, ServiceTokens.open(join(path, 'no')), 'service_tokens_invalid');
});

t.test('a JWT of a configured issuer begins a session, by its subject, for its audience, and no longer than it is valid itself', async (t) => {
  const clock = shiftedClock();
  const issuer = await makeIssuer(clock);
  const other = await makeIssuer(clock, { issuer: 'https://other.example' });
  const verifier = new JwtIssuer({ issuer: issuer.issuer, algorithms: ['ES256'], keys: { inline: { keys: [issuer.jwk] } }, clock });
  const logins = new Logins([
    { name: 'staff', verifier, audience: AUDIENCE, scopes: ['client'], subjects: ['someone'] },
    { name: 'robots', verifier, audience: 'selvedge:robots', scopes: ['management'] },
  ]);
  const tower = await makeTower(t, { clock });
  const { ask } = await apiWorld(t, tower, { clock, logins });
  const withJwt = async (jwt: string, body: object = {}) => await login(ask, {}, { jwt, ...body });
  const good = await withJwt(await issuer.sign(), { life_ms: 12 * HOUR_MS });
  t.match(good.answer, { status: 200, body: { session: { actor: 'jwt:staff:someone', scopes: ['client'] } } });
  const { expires_ms } = good.answer.body.session as { expires_ms: number };
  t.ok(expires_ms <= clock.wall() + 600_000, 'ten minutes, as the JWT, not twelve hours');
  t.match((await ask({ path: '/v1/self', bearer: good.bearer })).body, { actor: 'jwt:staff:someone' });
  t.strictSame((await ask({ path: '/v1/client/peers', bearer: good.bearer })).body, { items: [], next: null }, 'no list of others');
  t.match((await withJwt(await issuer.sign({ aud: 'selvedge:robots', sub: 'r2' }))).answer, {
    body: { session: { actor: 'jwt:robots:r2', scopes: ['management'] } },
  });
  const refused: Record<string, string> = {
    'another audience': await issuer.sign({ aud: 'other' }),
    'no audience': await issuer.sign({ aud: undefined }),
    'a subject that is not listed': await issuer.sign({ sub: 'somebody' }),
    'an issuer that is not configured': await other.sign(),
    'another issuer’s key': await other.sign({ iss: issuer.issuer }, { kid: issuer.kid }),
    expired: await issuer.sign({ iat: 1, nbf: 1, exp: 600 }),
    unsigned: rawToken({ alg: 'none' }, { iss: issuer.issuer, sub: 'someone', aud: AUDIENCE, exp: 9_999_999_999 }),
    'no JWT': 'x.y.z',
  };
  for (const [name, jwt] of Object.entries(refused)) {
    const { answer } = await withJwt(jwt);
    t.ok(answer.status === 401 || answer.status === 403, `${name}: ${answer.status} ${answer.body.code}`);
    t.match(answer.body.code, /^(unauthorized|jwt_invalid|jwt_expired)$/, name);
  }
  t.match((await withJwt(await issuer.sign(), { scopes: ['management'] })).answer, { status: 403, body: { code: 'scope_denied' } });
  const without = await apiWorld(t, tower, { clock });
  t.match(
    await without.ask({ path: '/v1/self', bearer: good.bearer }),
    { status: 401, body: { code: 'session_invalid' } },
    'its issuer is not configured any more',
  );
  t.match((await login(without.ask, {}, { jwt: await issuer.sign() })).answer, { status: 401, body: { code: 'unauthorized' } });
});

t.test('tokens are compared in constant time by construction: hashes of one length, every entry, the primitive of node:crypto', (t) => {
  const source = readFileSync(new URL('../../../src/tower/access/service-tokens.ts', import.meta.url), 'utf8');
  const find = source.slice(source.indexOf('async find('), source.indexOf('async #refresh('));
  t.match(find, /timingSafeEqual\(entry\.hash, hash\)/);
  t.notMatch(find, /\bbreak\b|\.find\(|\.some\(|===\s*(text|token)/, 'no early end, no comparing of text');
  t.end();
});
