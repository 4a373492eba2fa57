/** Rotating the root at a real tower: who is given what in each phase, what is refused, and what a kill leaves behind. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { callHome } from '../../../src/enroll/call-home.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import { packSnapshot } from '../../../src/enroll/snapshot.ts';
import { NodeState } from '../../../src/enroll/state.ts';
import { isIssuedBy } from '../../../src/identity/authority.ts';
import { toBase64 } from '../../../src/identity/base64.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { fingerprint, formatFingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { signDocument } from '../../../src/identity/signed-document.ts';
import { initTower, openTower } from '../../../src/tower/init.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { apiWorld, enrolledNode, redeemedOperator } from './api-world.ts';
import { endpoints, HOUR_MS, makeTower, random, serve, shiftedClock, unseal } from './support.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(120_000);

const NOBODY = new Uint8Array();
const rootOf = (tower: Tower): string => formatFingerprint(tower.rootFingerprint);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

/** What the tower would answer a node that renews its leaf now: whether it is under the next root. */
async function renewsUnderNext(tower: Tower, id: string): Promise<boolean> {
  const { fingerprint: holding } = await tower.findNode(id);
  const [, intermediate = NOBODY] = await tower.renewals.renew(id, { csr: createCsr(generateKeyPair().privateKey), holding: holding ?? '' });
  return tower.own.next !== null && isIssuedBy(intermediate, tower.own.next.root);
}

/** As a node does: it renews, and shows what it got. */
async function reissue(tower: Tower, id: string, site = 'north'): Promise<void> {
  const { fingerprint: holding } = await tower.findNode(id);
  const [leaf = NOBODY] = await tower.renewals.renew(id, { csr: createCsr(generateKeyPair().privateKey), holding: holding ?? '' });
  await tower.renewals.seen({ cluster: tower.cluster, site, node: id }, fingerprint(leaf));
}

async function join_(t: Test, tower: Tower, pinned: Uint8Array, name: string): Promise<NodeState> {
  const served = await serve(t, tower);
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const node = await callHome({
    state: join(freshDirectory(t), name),
    unseal,
    tower: served,
    fingerprint: pinned,
    proof: tokenMaker(text),
    cluster: tower.cluster,
    name,
    site: 'north',
    listen: [],
    timers: systemTimers,
    random,
    attempts_max: 1,
  });
  t.teardown(() => node.secrets.close());
  return node;
}

t.test('both roots are told of; leaves come from the new one once enough nodes hold both; then the old one goes', async (t) => {
  const tower = await makeTower(t);
  const nodes = [await enrolledNode(tower, 'a'), await enrolledNode(tower, 'b'), await enrolledNode(tower, 'c')];
  const [a, b, c] = nodes.map(({ id }) => id) as [string, string, string];
  const old = tower.rootFingerprint;
  t.match(await tower.trust.status(), {
    phase: 'stable',
    version: 1,
    roots: [{ role: 'current', fingerprint: formatFingerprint(old) }],
    nodes: { enabled: 3 },
  });
  await rejectsWith(t, tower.trust.retire({}, 'local'), 'rotation_refused');

  t.match(await tower.trust.rotate({ threshold_percent: 60 }, 'local'), { phase: 'distributing', version: 2, roots: [{ role: 'current' }, { role: 'next' }] });
  t.match(await tower.known(a), { trust: { version: 2, roots: { length: 2 } } });
  t.notOk('reissue' in (await tower.known(a)));
  await rejectsWith(t, tower.trust.rotate({}, 'local'), 'rotation_refused');
  t.equal(await renewsUnderNext(tower, a), false, 'nobody meets a chain that it cannot check');

  await tower.trust.held(a, 2);
  t.match(await tower.trust.status(), { phase: 'distributing', nodes: { enabled: 3, holding: 1, ready: 0 } });
  await tower.trust.held(b, 2);
  t.match(await tower.trust.status(), { phase: 'reissuing', version: 2, nodes: { enabled: 3, holding: 2, ready: 0 }, is_ready: false });
  t.match(await tower.known(a), { reissue: { root: hex(fingerprint(tower.own.next?.root ?? NOBODY)), over_ms: 3 * limits.trust_reissue_per_node_ms } });
  t.equal(rootOf(tower), formatFingerprint(old), 'the tower is known by the old one, to whoever was away');
  t.equal(await renewsUnderNext(tower, c), false, 'nor does a node get one that it does not trust itself');

  const refusal = await tower.trust.retire({}, 'local').catch((error: Error) => error);
  t.match(refusal, { code: 'rotation_refused', message: /0 of 3 nodes are ready, 60 % have to be.*cut off nodes a, b, c/ });
  await reissue(tower, a);
  await reissue(tower, b);
  t.match(await tower.trust.status(), { nodes: { ready: 2 }, is_ready: true, missing: { nodes: [{ name: 'c', why: 'bundle' }], nodes_total: 1 } });

  const done = await tower.trust.retire({}, 'operator:ada');
  t.match(done, { phase: 'stable', version: 3, roots: [{ role: 'current' }], cut_off: { nodes: [{ name: 'c' }] } });
  t.not(rootOf(tower), formatFingerprint(old));
  t.equal(tower.own.next, null);
  t.strictSame(tower.roots.map(fingerprint), [tower.rootFingerprint]);
  t.strictSame(tower.trust.liveRoots.map(fingerprint), [tower.rootFingerprint, old], 'channels that are there have a while');
  const actions = (await tower.audit(0, 100)).filter(({ action }) => action.startsWith('trust.')).map(({ actor, action }) => `${actor} ${action}`);
  t.strictSame(actions, ['local trust.rotate', 'tower trust.reissue', 'operator:ada trust.retire']);
});

t.test('a node that is disabled or revoked is not waited for; a cluster without nodes waits for nobody', async (t) => {
  const tower = await makeTower(t);
  const [a, b] = [await enrolledNode(tower, 'a'), await enrolledNode(tower, 'b')];
  await tower.trust.rotate({}, 'local');
  await tower.trust.held(a.id, 2);
  t.match(await tower.trust.status(), { phase: 'distributing' });
  await tower.revokeNode(b.id);
  t.match(await tower.trust.status(), { phase: 'reissuing', nodes: { enabled: 1, holding: 1 } });
  const empty = await makeTower(t);
  t.match(await empty.trust.rotate({}, 'local'), { phase: 'reissuing', is_ready: true });
});

t.test('a fresh node joins in each phase, with the fingerprint of then, and takes the bundle of the next', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const old = tower.rootFingerprint;
  const tell = async (node: NodeState, now_ms = systemClock.wall()): Promise<void> => {
    clock.offset_ms += 1_000;
    const { envelope } = await tower.snapshot(node.identity.node);
    node.takeSnapshot(new TextEncoder().encode(JSON.stringify(envelope)), now_ms);
    await node.keepSnapshot();
    if (node.keptTrust === tower.trust.version) await tower.trust.held(node.identity.node, node.keptTrust);
  };
  const before = await join_(t, tower, old, 'before');
  await tower.trust.rotate({}, 'local');
  const amid = await join_(t, tower, old, 'amid');
  t.equal(amid.trust.version, 2);
  for (const node of [before, amid]) await tell(node);
  t.match(await tower.trust.status(), { phase: 'reissuing' });
  const late = await join_(t, tower, old, 'late');
  t.ok(late.snapshot.reissue, 'it is told to renew at once');
  await tell(late);
  for (const node of [before, amid, late]) await reissue(tower, node.identity.node);
  await tower.trust.retire({ force: true }, 'local');
  await rejectsWith(t, join_(t, tower, old, 'stale'), 'fingerprint_mismatch');
  const after = await join_(t, tower, tower.rootFingerprint, 'after');
  t.equal(after.trust.version, 3);
  const taken_ms = systemClock.wall();
  await tell(before, taken_ms);
  t.strictSame(before.trust.roots.map(fingerprint), [tower.rootFingerprint]);
  t.equal(before.liveRoots(taken_ms + limits.trust_grace_ms - 1).length, 2, 'one tick before, channels stand on the old root');
  t.equal(before.liveRoots(taken_ms + limits.trust_grace_ms).length, 1, 'and then no more');
  const again = await NodeState.load(before.path, unseal, systemClock.wall());
  t.strictSame([again.trust.version, again.trust.roots.length], [3, 1], 'after a restart');
});

t.test('a bundle that the new root alone vouches for is refused before the old one has vouched for it', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const node = await join_(t, tower, tower.rootFingerprint, 'a');
  const next = await tower.own.makeNext({});
  const say = async (signer: Parameters<typeof signDocument>[2], version: number, roots: readonly Uint8Array[]) => {
    clock.offset_ms += 1_000;
    const known = await tower.known(node.identity.node);
    const { payload, signature, chain } = await signDocument(
      'snapshot',
      await packSnapshot({ ...known, trust: { version, roots: roots.map(toBase64) } }),
      signer,
    );
    return new TextEncoder().encode(JSON.stringify({ payload, signature, chain }));
  };
  const refused = async (message: Uint8Array) => rejectsWith(t, (async () => node.takeSnapshot(message, systemClock.wall()))(), 'document_invalid');
  await refused(await say(next, 2, [next.root]));
  await refused(await say(next, 2, [tower.own.root, next.root]));
  await refused(await say(tower.own, 2, [next.root]));
  t.strictSame([node.trust.version, ...node.trust.roots.map(fingerprint)], [1, tower.rootFingerprint]);
  t.equal(node.takeSnapshot(await say(tower.own, 2, [tower.own.root, next.root]), systemClock.wall()), true);
  t.equal(node.takeSnapshot(await say(next, 3, [next.root]), systemClock.wall()), true, 'and then it is taken');
});

t.test('a kill at any step leaves the old root or the new one, whole', async (t) => {
  const state = join(freshDirectory(t), 'tower');
  await initTower({ state, cluster: 'alpha', unseal, endpoints, clock: systemClock, random });
  let tower = await openTower({ state, unseal, clock: systemClock, random });
  t.teardown(() => tower.close());
  const kill = async () => {
    await tower.close();
    tower = await openTower({ state, unseal, clock: systemClock, random });
  };
  const { id } = await enrolledNode(tower, 'a');
  await tower.keepAuditHead();
  const old = rootOf(tower);
  // The keys are sealed, the rows know nothing of them.
  await tower.own.makeNext({});
  await kill();
  t.strictSame([tower.own.next, rootOf(tower), (await tower.trust.status()).phase], [null, old, 'stable']);
  await tower.trust.rotate({}, 'local');
  const next = formatFingerprint(fingerprint(tower.own.next?.root ?? NOBODY));
  await kill();
  t.match(await tower.trust.status(), { phase: 'distributing', version: 2, roots: [{ fingerprint: old }, { fingerprint: next }] });
  await tower.trust.held(id, 2);
  await kill();
  t.match(await tower.trust.status(), { phase: 'reissuing', nodes: { holding: 1 } });
  t.equal(await renewsUnderNext(tower, id), true, 'who holds the bundle was not forgotten');
  // The leaf that would be shown is sealed, the rows know nothing of it.
  await tower.own.prepareNextLeaf();
  await kill();
  t.equal(rootOf(tower), old);
  await reissue(tower, id);
  // The rows say so, and nothing else does.
  tower.own.keepNext = () => Promise.reject(new Error('killed'));
  await t.rejects(tower.trust.retire({}, 'local'), /killed/);
  await kill();
  t.equal(rootOf(tower), next);
  t.match(JSON.parse(readFileSync(join(state, 'tower.json'), 'utf8')), { fingerprint: next });
  t.match(await tower.trust.status(), { phase: 'stable', version: 3, roots: [{ fingerprint: next }] });
  t.equal(formatFingerprint(fingerprint(tower.credentials.chain[2] ?? NOBODY)), next);
  t.match(await tower.status(), { fingerprint: next });
  await tower.keepAuditHead();
  await kill();
  t.equal(rootOf(tower), next);
  t.match(await tower.trust.rotate({}, 'local'), { version: 4 }, 'and it can be rotated again');
});

t.test('an operator renews under the new root, shown by the old one; who does not is named, and cut off', async (t) => {
  const tower = await makeTower(t);
  const [ada, bob] = [await redeemedOperator(tower, 'ada'), await redeemedOperator(tower, 'bob')];
  const world = await apiWorld(t, tower);
  const ask = (credentials: typeof ada, path: string, body?: unknown) => world.ask({ path, credentials, ...(body !== undefined && { method: 'POST', body }) });
  t.match(await ask(ada, '/v1/trust/rotate', { threshold_percent: 50 }), { status: 200, body: { phase: 'reissuing', operators: { enabled: 2, ready: 0 } } });
  const { privateKey } = generateKeyPair();
  const renewed = await ask(ada, '/v1/operators/current/renew', { csr: toBase64(createCsr(privateKey)) });
  t.match(renewed, { status: 200, body: { root: toBase64(tower.own.root), trust: { payload: String } } });
  const next = { ...ada, chain: (renewed.body.chain as string[]).map((one) => new Uint8Array(Buffer.from(one, 'base64'))), key: privateKey };
  t.ok(isIssuedBy(next.chain[1] ?? NOBODY, tower.own.next?.root ?? NOBODY));
  t.match(await ask(next, '/v1/trust'), { status: 200, body: { operators: { ready: 1 }, missing: { operators: [{ name: 'bob' }], operators_total: 1 } } });
  t.match(await ask(next, '/v1/trust/retire', {}), { status: 409, body: { code: 'rotation_refused' } });
  t.match(await ask(next, '/v1/trust/retire', { cut_off_operators: true }), {
    status: 200,
    body: { phase: 'stable', cut_off: { operators: [{ name: 'bob' }] } },
  });
  t.match(await ask(next, '/v1/trust'), { status: 200 });
  t.match(await ask(bob, '/v1/trust'), { status: 403, body: { code: 'certificate_invalid' } });
  t.match(await ask(next, '/v1/trust/retire', {}), { status: 409, body: { code: 'rotation_refused' } });
  t.match(await world.ask({ path: '/v1/trust', credentials: await enrolledNode(tower, 'a') }), { body: { code: 'scope_denied' } });
});
