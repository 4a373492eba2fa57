/**
 * Ten ways in which others let strangers in, in 2026, each tried against the running code: the tower's public port, live sessions of both transports, the
 * verification of tokens, and a node's reading of snapshots.
 */
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import t, { type Test } from 'tap';
import { TOWER_ID } from '../../src/base/ids.ts';
import { limits } from '../../src/base/limits.ts';
import { openSnapshot } from '../../src/enroll/snapshot.ts';
import { createAuthority, openAuthority } from '../../src/identity/authority.ts';
import { JwtIssuer, type JwtIssuerOptions } from '../../src/identity/jwt.ts';
import { localSigner } from '../../src/identity/signer.ts';
import { SealedStore } from '../../src/identity/sealed-store.ts';
import { signDocument } from '../../src/identity/signed-document.ts';
import { Host } from '../../src/peering/host.ts';
import { openRoutes } from '../../src/tower/access/open-routes.ts';
import { systemRandom } from '../../src/transport/system.ts';
import { AUDIENCE, HandClock, makeIssuer, rawToken } from '../fixtures/jwt.ts';
import { type ChainCase, chainCases, roots, victimCredentials } from '../unit/identity/chains/index.ts';
import { CLUSTER } from '../unit/identity/forge.ts';
import { apiWorld, enrolledNode } from '../unit/tower/api-world.ts';
import { makeTower, unseal } from '../unit/tower/support.ts';
import { Presenter } from './chain-presenter.ts';

t.setTimeout(120_000);

/** Shows a real host, over both transports, every chain of the table whose name fits. */
async function shown(t: Test, fits: RegExp): Promise<{ one: ChainCase; outcomes: string[] }[]> {
  const host = await Host.start({
    self: { cluster: CLUSTER, site: 's1', node: 'bbbbbbbbbbbb' },
    credentials: () => victimCredentials,
    roots: () => roots,
    recordedFingerprint: () => 'any',
    versions: () => ({ directory: 1, trust: 1 }),
    nameOf: (node) => node,
    listen: { host: '127.0.0.1', tcpPort: 0, udpPort: 0 },
    onHttp: null,
    isGoverned: false,
    log: () => undefined,
    onChange: () => undefined,
  });
  t.teardown(() => host.close());
  const presenter = await Presenter.start(t);
  const ports = { quic: host.listener?.udp?.port ?? 0, tcp: host.listener?.tcp.port ?? 0 };
  const results: { one: ChainCase; outcomes: string[] }[] = [];
  for (const one of chainCases.filter(({ name }) => fits.test(name))) {
    const credentials = { chain: one.chain, key: new Uint8Array(one.keys.privateKey.export({ format: 'der', type: 'pkcs8' })) };
    const outcomes = [await presenter.dial('quic', ports.quic, credentials), await presenter.dial('tcp', ports.tcp, credentials)];
    results.push({ one, outcomes });
  }
  return results;
}

t.test('1: no other certificate of the chain satisfies a check that is meant for the leaf', async (t) => {
  // Names, usages, purposes and "no CA" that only the issuer, or a certificate shown beside the path, has.
  const tried = await shown(
    t,
    /an intermediate that has its URI|leaf without (names|key usage|purposes)|leaf that is a CA$|at the end$|leaf twice|wanted one behind it/,
  );
  t.ok(tried.length >= 8, `${tried.length} chains`);
  for (const { one, outcomes } of tried) t.same(outcomes, ['certificate_invalid', 'certificate_invalid'], one.name);
});

t.test('2: nobody’s identity is read from another certificate than the one whose key was proved', async (t) => {
  const tower = await makeTower(t);
  const { ask } = await apiWorld(t, tower);
  const mallory = await enrolledNode(tower, 'mallory');
  const victim = await enrolledNode(tower, 'victim');
  const [own, intermediate] = mallory.chain;
  const [theirs] = victim.chain;
  if (!own || !intermediate || !theirs) throw new Error('no chain');
  for (const chain of [
    [own, intermediate, theirs],
    [own, theirs, intermediate],
    [own, theirs],
  ]) {
    const answer = await ask({ path: '/v1/openapi.json', credentials: { chain, key: mallory.key } });
    t.match(answer, { status: 403, body: { code: 'certificate_invalid' } }, 'a request that brings the certificate of another along');
  }
  await t.rejects(ask({ path: '/v1/openapi.json', credentials: { chain: victim.chain, key: mallory.key } }), 'and one without the key never arrives');
});

const clock = new HandClock();

async function issuerOf(options: Partial<JwtIssuerOptions> = {}) {
  const issuer = await makeIssuer(clock);
  const judge = new JwtIssuer({ issuer: issuer.issuer, algorithms: ['ES256'], keys: { inline: { keys: [issuer.jwk] } }, clock, ...options });
  return { issuer, refuses: (t: Test, token: string, what: string) => t.rejects(judge.verify(token, { audience: AUDIENCE }), { code: /^jwt_/ }, what), judge };
}

t.test('3: the type that a header claims skips no check', async (t) => {
  const { issuer, refuses, judge } = await issuerOf();
  for (const header of [
    { typ: 'logout+jwt' },
    { typ: 'secevent+jwt' },
    { typ: 'JOSE' },
    { typ: 7 },
    { typ: '' },
    { cty: 'JWT' },
    { crit: ['exp'], exp: 1 },
    { b64: false, crit: ['b64'] },
    { zip: 'DEF' },
  ])
    await refuses(t, await issuer.sign({}, header).catch(() => rawToken({ alg: 'ES256', kid: 'k1', ...header }, {})), JSON.stringify(header));
  for (const typ of ['JWT', 'jwt', 'at+jwt']) await refuses(t, await issuer.sign({ aud: 'other' }, { typ }), `${typ} for another audience`);
  for (const alg of ['none', 'None', 'HS256', 'ES256K'])
    await refuses(t, rawToken({ alg, typ: 'JWT', kid: 'k1' }, { iss: issuer.issuer, sub: 'x', aud: AUDIENCE }), alg);
  t.equal((await judge.verify(await issuer.sign(), { audience: AUDIENCE })).subject, 'someone');
  // Of a request too: the schema holds whatever its body claims to be.
  const { connect, ask } = await apiWorld(t, await makeTower(t));
  for (const type of [
    'text/plain',
    'application/xml',
    'multipart/form-data; boundary=x',
    'application/json; charset=utf-16',
    'application/x-www-form-urlencoded',
    '',
  ]) {
    const socket = await connect();
    socket.write(`POST /v1/enroll HTTP/1.1\r\nhost: t\r\n${type ? `content-type: ${type}\r\n` : ''}content-length: 2\r\n\r\n{}`);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    t.match(answer.toString(), /^HTTP\/1\.1 400 [\s\S]*request_invalid/, type);
  }
  t.match(await ask({ method: 'POST', path: '/v1/enroll', body: {} }), { status: 400 });
});

t.test('4: a body is not buffered for somebody who has not shown who asks', async (t) => {
  const { connect, routes } = await apiWorld(t, await makeTower(t));
  const piece = Buffer.alloc(64 * 1024, 0x20);
  const wanted = routes.filter(({ method, url }) => method !== 'GET' && method !== 'HEAD' && !openRoutes.has(`${method} ${url}`));
  t.ok(wanted.length >= 5);
  for (const { method, url } of wanted) {
    const socket = await connect();
    socket.on('error', () => undefined);
    socket.write(`${method} ${url.replace(/:\w+/g, 'x')} HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ncontent-length: ${1024 ** 3}\r\n\r\n`);
    // Answered by the head alone; nothing of the body was sent.
    const [answer] = (await once(socket, 'data')) as [Buffer];
    t.match(answer.toString(), /^HTTP\/1\.1 401 /, `${method} ${url}`);
    socket.destroy();
  }
  const socket = await connect();
  socket.on('error', () => undefined);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.write('POST /v1/enroll HTTP/1.1\r\nhost: t\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n');
  let sent = 0;
  while (!socket.destroyed && sent < 1024 ** 3) {
    sent += piece.length;
    if (!socket.write(`10000\r\n${piece.toString()}\r\n`)) await Promise.race([once(socket, 'drain').catch(() => {}), closed]);
  }
  t.ok(sent < 64 * limits.api_body_bytes_max, `an open route took no more than its bound before it ended: ${sent} octets were sent`);
});

t.test('5: no identity is taken from what a router might have written', async (t) => {
  const { ask } = await apiWorld(t, await makeTower(t), { per_minute_max: 1_000 });
  const names = [
    'x-forwarded-client-cert',
    'x-ssl-client-cert',
    'x-client-cert',
    'ssl-client-cert',
    'x-amzn-mtls-clientcert',
    'x-forwarded-user',
    'x-remote-user',
    'x-real-ip',
    'forwarded',
    'x-forwarded-for',
    'x-actor',
    'x-node',
    'x-scopes',
  ];
  const values = [
    'local',
    'admin',
    'management',
    TOWER_ID,
    '127.0.0.1',
    'By=spiffe://alpha/site/tower/node/tower;URI=spiffe://alpha/site/tower/node/tower',
    'for=127.0.0.1;proto=https',
  ];
  for (const name of names)
    for (const value of values) t.match(await ask({ path: '/v1/nodes', headers: { [name]: value } }), { status: 401 }, `${name}: ${value}`);
  const few = await apiWorld(t, await makeTower(t), { per_minute_max: 3 });
  const seen: number[] = [];
  for (let index = 0; index < 6; index++)
    seen.push(
      (await few.ask({ method: 'POST', path: '/v1/enroll', body: {}, headers: { 'x-forwarded-for': `192.0.2.${index}`, forwarded: `for=192.0.2.${index}` } }))
        .status,
    );
  t.ok(seen.includes(429), `the rate is the connection's, not the header's: ${seen}`);
});

t.test('6: audience and issuer are never skipped', async (t) => {
  const { issuer, refuses, judge } = await issuerOf();
  const wrong = {
    'no audience': { aud: undefined },
    'an empty audience': { aud: '' },
    'no audience in a list': { aud: [] },
    'another audience': { aud: 'other' },
    'a part of it': { aud: AUDIENCE.slice(0, -1) },
    'it in capitals': { aud: AUDIENCE.toUpperCase() },
    'a nil audience': { aud: null },
    'no issuer': { iss: undefined },
    'a nil issuer': { iss: null },
    'another issuer': { iss: 'https://issuer.example.org' },
    'a list of issuers': { iss: [issuer.issuer] },
  };
  for (const [what, claims] of Object.entries(wrong)) await refuses(t, await issuer.sign(claims), what);
  await t.rejects(judge.verify(await issuer.sign(), { audience: '' }), { code: 'argument_invalid' }, 'and no caller can leave it out');
  t.throws(() => new JwtIssuer({ issuer: '', algorithms: ['ES256'], keys: { inline: { keys: [issuer.jwk] } }, clock }), { code: 'argument_invalid' });
});

t.test('7: no list is given to somebody whose scope it is not', async (t) => {
  const tower = await makeTower(t);
  const { ask, routes } = await apiWorld(t, tower);
  const node = await enrolledNode(tower, 'one');
  const lists = routes.filter(({ method, url, scope }) => method === 'GET' && !url.includes(':') && scope === 'management');
  t.ok(lists.length >= 3, `${lists.length} lists`);
  for (const { url } of lists) {
    t.match(await ask({ path: url }), { status: 401 }, `${url}, to nobody`);
    t.match(await ask({ path: url, credentials: node }), { status: 403, body: { code: 'scope_denied' } }, `${url}, to a node`);
    for (const query of ['?scope=management', '?tenant=', '?limit=1&after=', '?site=north'])
      t.match(await ask({ path: url + query, credentials: node }), { status: 403 }, url + query);
  }
  await tower.revokeNode(node.id);
  t.match(
    await ask({ path: '/v1/openapi.json', credentials: node }),
    { status: 403, body: { code: 'certificate_revoked' } },
    'nothing at all to a revoked one',
  );
});

t.test('8: no address of a key set reaches inside, whoever names it', async (t) => {
  const asked: string[] = [];
  const inside = createServer((socket) => {
    asked.push('asked');
    socket.destroy();
  }).listen(0, '127.0.0.1');
  t.teardown(() => inside.close());
  await once(inside, 'listening');
  const { port } = inside.address() as AddressInfo;
  const { issuer, refuses } = await issuerOf();
  const address = `https://127.0.0.1:${port}/keys`;
  for (const header of [{ jku: address }, { x5u: address }, { jwk: issuer.jwk }, { x5c: ['AAAA'] }, { kid: '../../etc/passwd' }, { kid: address }])
    await refuses(t, await issuer.sign({}, header).catch(() => rawToken({ alg: 'ES256', ...header }, {})), JSON.stringify(Object.keys(header)));
  for (const url of [
    address,
    `https://localhost:${port}/`,
    `https://[::1]:${port}/`,
    `https://[::ffff:127.0.0.1]:${port}/`,
    'https://169.254.169.254/latest/meta-data',
    'http://127.0.0.1/',
    'file:///etc/passwd',
    `https://127.1:${port}/`,
    `https://2130706433:${port}/`,
    `https://0x7f.1:${port}/`,
  ]) {
    const host = URL.canParse(url) ? new URL(url).host : '';
    const judge = new JwtIssuer({ issuer: issuer.issuer, algorithms: ['ES256'], keys: { url, rules: { hosts: [host] } }, clock });
    await t.rejects(judge.verify(await issuer.sign(), { audience: AUDIENCE }), { code: 'jwt_keys_unavailable' }, `${url}, even where its host is allowed`);
  }
  t.same(asked, [], 'nobody was asked');
});

t.test('9: a time that is nil, or no time, is no time', async (t) => {
  const { issuer, refuses } = await issuerOf();
  for (const name of ['exp', 'iat', 'nbf'])
    for (const value of [undefined, null, 0, -1, '', '0', false, [], {}, 1e300])
      await refuses(t, await issuer.sign({ [name]: value }), `${name} ${JSON.stringify(value)}`);
  const names = /ends at an empty time|ends at a time (without|in the wrong)|ends at a time of letters|leaf 4(\.\d)? (left out|emptied)/;
  for (const { one, outcomes } of await shown(t, names))
    t.ok(
      outcomes.every((code) => code !== 'accepted'),
      `${one.name}: ${outcomes}`,
    );
  const { ask } = await apiWorld(t, await makeTower(t));
  t.match(await ask({ method: 'POST', path: '/v1/enroll', body: null }), { status: 400 });
});

t.test('10: a snapshot that is not signed, or not rightly, is no snapshot', async (t) => {
  const tower = await makeTower(t);
  const node = await enrolledNode(tower, 'one');
  const other = await enrolledNode(tower, 'two');
  const { envelope } = await tower.snapshot(node.id);
  const reader = { roots: tower.roots, cluster: tower.cluster, node: node.id, now_ms: Date.now() };
  t.equal(openSnapshot(envelope, reader).node.id, node.id);
  const payload = Buffer.from(envelope.payload, 'base64');
  const authority = openAuthority(await SealedStore.open(`${tower.state}/sealed.bin`, unseal));
  t.teardown(() => authority.signer.close());
  const rival = await createAuthority({ cluster: tower.cluster, now_ms: Date.now(), random: systemRandom });
  const byNode = await signDocument('snapshot', payload, { signer: localSigner(node.key), intermediate: node.chain[0] ?? new Uint8Array() });
  const byRival = await signDocument('snapshot', payload, rival);
  const ofAnotherKind = await signDocument('trust-bundle', payload, authority);
  const wrong: Record<string, unknown> = {
    'no signature': { payload: envelope.payload, chain: envelope.chain },
    'an empty signature': { ...envelope, signature: '' },
    'a nil signature': { ...envelope, signature: null },
    'no chain': { ...envelope, chain: [] },
    'the payload alone': JSON.parse(JSON.stringify({ payload: envelope.payload })),
    'another payload': { ...envelope, payload: gzipSync(Buffer.from('{}')).toString('base64') },
    'signed by a node': byNode,
    'signed by a node, shown as the tower’s': { ...byNode, chain: envelope.chain },
    'signed by an authority of that name': byRival,
    'signed by it, shown with the true intermediate': { ...byRival, chain: envelope.chain },
    'the true signature with its intermediate': { ...envelope, chain: byRival.chain },
    'signed as another kind of document': ofAnotherKind,
    'two chains': { ...envelope, chain: [...envelope.chain, ...envelope.chain] },
  };
  for (const [what, document] of Object.entries(wrong)) t.throws(() => openSnapshot(document as typeof envelope, reader), { code: 'document_invalid' }, what);
  t.throws(() => openSnapshot(envelope, { ...reader, node: other.id }), { code: 'wrong_node' }, 'the snapshot of another node');
  t.throws(() => openSnapshot(envelope, { ...reader, roots: [rival.root] }), { code: 'document_invalid' }, 'of a root that is not trusted');
  await rival.signer.close();
});
