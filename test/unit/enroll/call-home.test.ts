/** Call-home over real HTTPS on loopback, against a real tower. */
import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { callHome, type CallHomeRequest } from '../../../src/enroll/call-home.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { NodeState } from '../../../src/enroll/state.ts';
import { issueChain, openAuthority } from '../../../src/identity/authority.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { SealedStore } from '../../../src/identity/sealed-store.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { listen } from '../../../src/transport/listener.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import { publicApi } from '../../../src/tower/api.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { DAY_MS, endpoints, HOUR_MS, makeTower, random, type Served, serve, serveTls, shiftedClock, unseal } from '../tower/support.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(120_000);

const nodeEndpoints = [{ host: '192.0.2.7', tcp: 443, udp: 443 }];

async function joinRequest(
  t: Test,
  tower: Tower,
  served: Served,
  { token: given, ...more }: Partial<CallHomeRequest> & { token?: string } = {},
): Promise<CallHomeRequest & { token: string }> {
  const token = given ?? (await tower.createToken({ uses: 1, life_ms: HOUR_MS })).text;
  return {
    state: join(freshDirectory(t), more.name ?? 'a'),
    unseal,
    tower: { host: served.host, port: served.port },
    fingerprint: tower.rootFingerprint,
    name: 'a',
    site: 'north',
    listen: nodeEndpoints,
    timers: systemTimers,
    random,
    attempts_max: 1,
    proof: tokenMaker(token),
    cluster: tokenMaker(token).cluster,
    ...more,
    token,
  };
}

t.test('a node that calls home has a verified certificate for its own key, the trust bundle and its snapshot, all on disk', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const request = await joinRequest(t, tower, served);
  const node = await callHome(request);
  t.match(node.identity, { cluster: 'alpha', site: 'north', name: 'a', tower: { host: '127.0.0.1', tcp: served.port } });
  const seen = verifyPeer({
    chain: node.credentials.chain,
    roots: tower.roots,
    cluster: 'alpha',
    now_ms: systemClock.wall(),
    usage: 'client',
    expectedNode: node.identity.node,
    recordedFingerprint: tower.recordedFingerprint,
  });
  t.equal(seen.identity.site, 'north');
  t.match(node.snapshot, { cluster: 'alpha', node: { id: node.identity.node, name: 'a', site: 'north' }, tower: { endpoints }, peers: [] });

  const loaded = await NodeState.load(request.state, unseal, systemClock.wall());
  t.strictSame(loaded.identity, node.identity);
  t.strictSame(loaded.credentials, node.credentials);
  t.strictSame(loaded.snapshot, node.snapshot);
  t.strictSame(loaded.trust, node.trust);
  t.strictSame(readdirSync(request.state).sort(), ['boot.json', 'identity.json', 'inbox', 'sealed.bin', 'snapshot.json']);
  t.equal(statSync(request.state).mode & 0o777, 0o700);
  for (const name of ['boot.json', 'identity.json', 'sealed.bin', 'snapshot.json']) t.equal(statSync(join(request.state, name)).mode & 0o777, 0o600, name);
  const secret = Buffer.from(node.credentials.key).subarray(36, 68);
  for (const name of ['boot.json', 'identity.json', 'sealed.bin', 'snapshot.json']) {
    const bytes = readFileSync(join(request.state, name));
    t.notOk(bytes.includes(secret) || bytes.includes(request.token), `${name} has neither key nor token in clear`);
  }
});

t.test('the one listener that fabric and API share answers call-home too', async (t) => {
  const tower = await makeTower(t);
  const api = await publicApi(tower, { clock: systemClock });
  t.teardown(() => api.close());
  const shared = await listen({
    host: '127.0.0.1',
    tcpPort: 0,
    udpPort: null,
    credentials: tower.credentials,
    onSession: () => t.fail('nobody dialed the fabric'),
    onHttp: (socket) => api.server.emit('connection', socket),
    listenQuic: null,
    timers: systemTimers,
  });
  t.teardown(() => shared.close());
  const node = await callHome(await joinRequest(t, tower, { ...shared.tcp, sockets: [] }));
  t.equal(node.identity.tower.tcp, shared.tcp.port);
});

t.test('a name, site, token or address that cannot be is refused before anybody is asked', async (t) => {
  const tower = await makeTower(t);
  const nobody = { host: '127.0.0.1', port: 1, sockets: [] };
  await rejectsWith(t, callHome(await joinRequest(t, tower, nobody, { name: 'Not A Label' })), 'argument_invalid');
  await rejectsWith(t, callHome(await joinRequest(t, tower, nobody, { site: '../x' })), 'argument_invalid');
  await rejectsWith(t, joinRequest(t, tower, nobody, { token: 'svt_' }), 'token_invalid');
  const long = Array.from({ length: 4 }, () => ({ host: 'h'.repeat(200), tcp: 1, udp: null }));
  await rejectsWith(t, callHome(await joinRequest(t, tower, nobody, { listen: long })), 'argument_invalid');
});

t.test('whoever stops waiting is let go at once', async (t) => {
  const tower = await makeTower(t);
  const stop = new AbortController();
  const intercept = () => {
    stop.abort();
    return true;
  };
  const served = await serve(t, tower, { intercept });
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { attempts_max: 5, signal: stop.signal })), 'network_unreachable');
  t.equal(served.sockets.length, 1);
});

t.test('a second join in the same state directory is already_enrolled and asks nobody', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const request = await joinRequest(t, tower, served);
  await callHome(request);
  await rejectsWith(t, callHome(request), 'already_enrolled');
  t.equal(served.sockets.length, 1);
});

t.test('a tower with another root is fingerprint_mismatch, and no byte of the token reaches it', async (t) => {
  const tower = await makeTower(t);
  const other = await makeTower(t, { cluster: 'alpha' });
  let received = 0;
  const served = await serveTls(t, other.credentials, (socket) => socket.on('data', (chunk) => (received += chunk.length)));
  await rejectsWith(t, callHome(await joinRequest(t, tower, served)), 'fingerprint_mismatch');
  t.equal(received, 0);
});

t.test('someone who shows the true root beside a chain of his own is refused, and no byte of the token reaches him', async (t) => {
  const tower = await makeTower(t);
  const other = await makeTower(t, { cluster: 'alpha' });
  let text = '';
  const [leaf, intermediate] = other.credentials.chain;
  const chain = [leaf, intermediate, tower.credentials.chain[2]].filter((each) => each !== undefined);
  const served = await serveTls(t, { chain, key: other.credentials.key }, (socket) => socket.on('data', (chunk) => (text += chunk)));
  const error = await callHome(await joinRequest(t, tower, served)).then(
    () => null,
    (error: { code: string }) => error.code,
  );
  t.ok(['fingerprint_mismatch', 'certificate_invalid'].includes(error ?? ''), String(error));
  t.notMatch(text, 'svt_');
  t.notMatch(text, 'POST');
});

t.test('a node of the same cluster that answers in the place of the tower is wrong_node', async (t) => {
  const tower = await makeTower(t);
  const sealed = await SealedStore.open(join(tower.state, 'sealed.bin'), unseal);
  const authority = openAuthority(sealed);
  const { privateKey, publicKey } = generateKeyPair();
  const identity = { cluster: 'alpha', site: 'north', node: '0123456789ab' };
  const chain = [...(await issueChain(authority, { identity, publicKey, now_ms: systemClock.wall(), random })), authority.root];
  const served = await serveTls(t, { chain, key: privateKey }, () => undefined);
  await rejectsWith(t, callHome(await joinRequest(t, tower, served)), 'wrong_node');
  await authority.signer.close();
});

t.test('a token of another cluster is wrong_cluster before it is shown to anybody', async (t) => {
  const tower = await makeTower(t);
  const beta = await makeTower(t, { cluster: 'beta' });
  const served = await serve(t, tower);
  const { text: token } = await beta.createToken({ uses: 1, life_ms: HOUR_MS });
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { token })), 'wrong_cluster');
});

t.test('each refusal of a token arrives with its code', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const served = await serve(t, tower);
  const one = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  await callHome(await joinRequest(t, tower, served, { token: one.text, name: 'first' }));
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { token: one.text, name: 'second' })), 'token_exhausted');

  const two = await tower.createToken({ uses: 5, life_ms: HOUR_MS, site: 'south' });
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { token: two.text, name: 'b' })), 'token_invalid');
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { token: two.text, name: 'first', site: 'south' })), 'name_taken');
  await tower.revokeToken(two.token.id);
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { token: two.text, name: 'b', site: 'south' })), 'token_revoked');
  await rejectsWith(t, joinRequest(t, tower, served, { token: 'svt_nonsense' }), 'token_invalid');

  const three = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  clock.offset_ms = 2 * HOUR_MS;
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { token: three.text, name: 'c' })), 'token_expired');
  t.equal((await tower.nodes()).length, 1);
});

t.test('no tower, and a tower that hangs up, are network_unreachable after the attempts asked for', async (t) => {
  const tower = await makeTower(t);
  const retries: string[] = [];
  const quick = { clock: systemClock, after: (_delay_ms: number, action: () => void) => systemTimers.after(0, action) };
  const nobody = { host: '127.0.0.1', port: 1, sockets: [] };
  await rejectsWith(
    t,
    callHome(await joinRequest(t, tower, nobody, { attempts_max: 3, timers: quick, onRetry: (error) => retries.push(error.code) })),
    'network_unreachable',
  );
  t.strictSame(retries, ['network_unreachable', 'network_unreachable']);
  const served = await serve(t, tower, { intercept: (socket) => !!socket.destroy() });
  await rejectsWith(t, callHome(await joinRequest(t, tower, served)), 'network_unreachable');
});

t.test('an answer lost on the way is asked for again and takes no second use', async (t) => {
  const tower = await makeTower(t);
  let lost = 0;
  const enroll = tower.enroll.bind(tower);
  const served = await serve(
    t,
    Object.assign(tower, {
      async enroll(...given: Parameters<Tower['enroll']>) {
        const answer = await enroll(...given);
        if (lost++ < 2) for (const socket of served.sockets) socket.destroy();
        return answer;
      },
    }),
  );
  const quick = { clock: systemClock, after: (_delay_ms: number, action: () => void) => systemTimers.after(0, action) };
  const request = await joinRequest(t, tower, served, { attempts_max: 1 });
  await rejectsWith(t, callHome(request), 'network_unreachable');
  const node = await callHome({ ...request, attempts_max: 3, timers: quick });
  t.equal(lost, 3);
  t.equal((await tower.tokens())[0]?.uses, 1);
  t.strictSame(
    (await tower.nodes()).map((row) => row.id),
    [node.identity.node],
  );
});

t.test('a clock that is off by more than five minutes is named when it makes a certificate invalid', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  for (const offset_ms of [-400 * DAY_MS, 400 * DAY_MS]) {
    const clock = Object.assign(shiftedClock(), { offset_ms });
    const timers = { ...systemTimers, clock };
    const direction = offset_ms > 0 ? 'ahead' : 'behind';
    const named = new RegExp(`^the clock of this host is 400 days ${direction}: .*that of the tower at`);
    await t.rejects(callHome(await joinRequest(t, tower, served, { timers })), { code: 'clock_skew', message: named });
    // Where the connection is known otherwise, the certificate that it was given tells the time.
    const tls = { kind: 'certificate', fingerprint: fingerprint(tower.credentials.chain[0] ?? new Uint8Array()) } as const;
    const state = await joinRequest(t, tower, served, { timers, tls, name: `pinned-${direction}` });
    await t.rejects(callHome(state), {
      code: 'clock_skew',
      message: new RegExp(`^the clock of this host is 400 days ${direction}: .*made this host's certificate just now`),
    });
  }
});

t.test('an answer that is not what was asked for is refused and leaves no identity', async (t) => {
  const tower = await makeTower(t);
  const beta = await makeTower(t, { cluster: 'alpha' });
  const original = tower.enroll.bind(tower);
  let spoil: (answer: Awaited<ReturnType<Tower['enroll']>>) => unknown = (answer) => answer;
  const served = await serve(
    t,
    Object.assign(tower, { enroll: async (...given: Parameters<Tower['enroll']>) => spoil(await original(...given)) as Awaited<ReturnType<Tower['enroll']>> }),
  );
  const foreign = await (async () => {
    const sealed = await SealedStore.open(join(tower.state, 'sealed.bin'), unseal);
    const authority = openAuthority(sealed);
    return (identity: { cluster: string; site: string; node: string }) =>
      issueChain(authority, { identity, publicKey: generateKeyPair().publicKey, now_ms: systemClock.wall(), random });
  })();
  const base64 = (der: Uint8Array) => Buffer.from(der).toString('base64');
  const cases: [string, typeof spoil][] = [
    ['document_invalid', (answer) => ({ ...answer, trust: { version: 1, roots: beta.roots.map(base64) } })],
    ['wrong_cluster', (answer) => ({ ...answer, cluster: 'beta' })],
    ['wrong_node', (answer) => ({ ...answer, node: '00000000000a' })],
    ['wrong_node', (answer) => ({ ...answer, site: 'south' })],
    ['document_invalid', (answer) => ({ ...answer, snapshot: { ...answer.snapshot, payload: base64(new TextEncoder().encode('{}')) } })],
    ['request_invalid', (answer) => ({ ...answer, chain: [] })],
  ];
  for (const [code, how] of cases) {
    spoil = how;
    const request = await joinRequest(t, tower, served, { name: `n${cases.findIndex((each) => each[1] === how)}` });
    // An answer that does not fit the tower's own schema is not sent at all; the tower says so.
    await t.rejects(callHome(request), code === 'request_invalid' ? { name: 'SelvedgeError' } : { name: 'SelvedgeError', code });
    t.notOk(readdirSync(request.state).includes('identity.json'));
  }
  const chains = await foreign({ cluster: 'alpha', site: 'north', node: '00000000000b' });
  spoil = (answer) => ({ ...answer, node: '00000000000b', chain: chains.map(base64) });
  await rejectsWith(t, callHome(await joinRequest(t, tower, served, { name: 'stolen' })), 'certificate_invalid');
});

t.test('a damaged state directory is named', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const request = await joinRequest(t, tower, served);
  await callHome(request);
  const now = systemClock.wall();
  await rejectsWith(t, NodeState.load(join(request.state, 'nothing'), unseal, now), 'not_enrolled');
  await rejectsWith(t, NodeState.load(request.state, { kind: 'key', key: new Uint8Array(32) }, now), 'store_locked');
  const snapshot = join(request.state, 'snapshot.json');
  const good = readFileSync(snapshot);
  writeFileSync(snapshot, good.toString().replace('"payload":"', '"payload":"AAAA'));
  await rejectsWith(t, NodeState.load(request.state, unseal, now), 'store_damaged');
  writeFileSync(snapshot, good);
  writeFileSync(join(request.state, 'identity.json'), '{"format":1}');
  await rejectsWith(t, NodeState.load(request.state, unseal, now), 'store_damaged');
  await rejectsWith(t, callHome(request), 'store_damaged');
});
