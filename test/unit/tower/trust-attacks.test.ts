/** A rotation of the root in bad company: nodes that lie, operators in each other's way, a change of mind, kills, and a backup from before it. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { createCsr } from '../../../src/identity/csr.ts';
import { fingerprint, formatFingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { toBase64 } from '../../../src/identity/base64.ts';
import { callHome } from '../../../src/enroll/call-home.ts';
import { tokenMaker } from '../../../src/enroll/proofs/token.ts';
import type { NodeState } from '../../../src/enroll/state.ts';
import { initTower, openTower } from '../../../src/tower/init.ts';
import { restoreTower } from '../../../src/tower/backup/restore.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { systemClock, systemTimers } from '../../../src/transport/system.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { apiWorld, enrolledNode, redeemedOperator } from './api-world.ts';
import { endpoints, HOUR_MS, makeTower, random, serve, shiftedClock, unseal } from './support.ts';

// Each commit waits for the disk, which others may be using.
t.setTimeout(120_000);

const NOBODY = new Uint8Array();
const rootOf = (tower: Tower): string => formatFingerprint(tower.rootFingerprint);
const nextOf = (tower: Tower): string => formatFingerprint(fingerprint(tower.own.next?.root ?? NOBODY));

async function joined(t: Test, tower: Tower, name: string): Promise<NodeState> {
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const request = { unseal, tower: await serve(t, tower), fingerprint: tower.rootFingerprint, proof: tokenMaker(text), cluster: tower.cluster, name };
  const node = await callHome({ ...request, state: join(freshDirectory(t), name), site: 'north', listen: [], timers: systemTimers, random, attempts_max: 1 });
  t.teardown(() => node.secrets.close());
  return node;
}

/** The tower's snapshot as of now goes to the node, which keeps it and says so. False: it would not have it. */
async function told(tower: Tower, node: NodeState): Promise<boolean> {
  const { envelope } = await tower.snapshot(node.identity.node);
  const isTaken = node.takeSnapshot(new TextEncoder().encode(JSON.stringify(envelope)), systemClock.wall());
  await node.keepSnapshot();
  await tower.trust.held(node.identity.node, node.keptTrust);
  return isTaken;
}

t.test('a node that says it holds a bundle before it was told counts for no rotation to come', async (t) => {
  const tower = await makeTower(t);
  const [liar, honest] = [await enrolledNode(tower, 'liar'), await enrolledNode(tower, 'honest')];
  for (const version of [2, 3, Number.MAX_SAFE_INTEGER]) await tower.trust.held(liar.id, version);
  t.match(await tower.trust.rotate({ threshold_percent: 50 }, 'local'), { phase: 'distributing', version: 2, nodes: { enabled: 2, holding: 0 } });
  await tower.trust.held(liar.id, 3);
  t.match(await tower.trust.status(), { phase: 'distributing', nodes: { holding: 0 } });
  await tower.trust.held(honest.id, 2);
  t.match(await tower.trust.status(), { phase: 'reissuing', nodes: { holding: 1 } });
});

t.test('a node that says it holds a bundle that it does not is one node of those that are counted, and never one that is ready', async (t) => {
  const tower = await makeTower(t);
  const [liar, honest] = [await enrolledNode(tower, 'liar'), await enrolledNode(tower, 'honest')];
  await tower.trust.rotate({ threshold_percent: 100 }, 'local');
  for (let count = 0; count < 3; count++) await tower.trust.held(liar.id, 2);
  t.match(await tower.trust.status(), { phase: 'distributing', nodes: { holding: 1 } }, 'once, however often');
  await tower.trust.held(honest.id, 2);
  t.match(await tower.trust.status(), { phase: 'reissuing', nodes: { holding: 2, ready: 0 } });
  // It takes the certificate, which nobody sees it use.
  const { fingerprint: holding } = await tower.findNode(liar.id);
  await tower.renewals.renew(liar.id, { csr: createCsr(generateKeyPair().privateKey), holding: holding ?? '' });
  t.match(await tower.trust.status(), { nodes: { ready: 0 }, missing: { nodes: [{ name: 'honest' }, { name: 'liar', why: 'certificate' }] } });
  await rejectsWith(t, tower.trust.retire({}, 'local'), 'rotation_refused');
});

t.test('of two operators that retire the old root at once, over two connections, one does; of two that begin a rotation, one does', async (t) => {
  const tower = await makeTower(t);
  const [ada, bob] = [await redeemedOperator(tower, 'ada'), await redeemedOperator(tower, 'bob')];
  const world = await apiWorld(t, tower);
  const both = async (path: string, body: unknown) => {
    const answers = await Promise.all([ada, bob].map((credentials) => world.ask({ method: 'POST', path, body, credentials })));
    t.strictSame(answers.map(({ status }) => status).sort(), [200, 409]);
    t.match(
      answers.find(({ status }) => status === 409),
      { body: { code: 'rotation_refused' } },
    );
  };
  await both('/v1/trust/rotate', {});
  const next = nextOf(tower);
  await both('/v1/trust/retire', { force: true });
  t.match(await tower.trust.status(), { phase: 'stable', version: 3, roots: [{ fingerprint: next }] });
  t.strictSame(
    (await tower.audit(0, 100)).map(({ action }) => action).filter((action) => action.startsWith('trust.')),
    ['trust.rotate', 'trust.reissue', 'trust.retire'],
  );
});

t.test('operators who have not renewed are not cut off unless that is said; nodes are not by saying it', async (t) => {
  const tower = await makeTower(t);
  await redeemedOperator(tower, 'bob');
  t.match(await tower.trust.rotate({}, 'local'), { phase: 'reissuing', is_ready: false, operators: { enabled: 1, ready: 0 } });
  const refusal = await tower.trust.retire({}, 'local').catch((error: Error) => error);
  t.match(refusal, { code: 'rotation_refused', message: /1 of 1 operators have not renewed: it would cut off operators bob/ });
  const late = await enrolledNode(tower, 'late');
  t.match(await tower.trust.retire({ cut_off_operators: true }, 'local').catch((error: Error) => error), {
    code: 'rotation_refused',
    message: /0 of 1 nodes are ready/,
  });
  t.match(await tower.trust.retire({ force: true, cut_off_operators: false }, 'local').catch((error: Error) => error), {
    code: 'rotation_refused',
    message: /operators have not renewed/,
  });
  await tower.revokeNode(late.id);
  t.match(await tower.trust.retire({ cut_off_operators: true }, 'local'), { phase: 'stable', cut_off: { operators: [{ name: 'bob' }], nodes_total: 0 } });
});

t.test('a rotation is abandoned while nothing was issued under the new root: nodes drop it, its keys are gone, and another can begin', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const [node, other] = [await joined(t, tower, 'a'), await enrolledNode(tower, 'other')];
  const old = rootOf(tower);
  await rejectsWith(t, tower.trust.abandon('local'), 'rotation_refused');
  await tower.trust.rotate({ threshold_percent: 100 }, 'local');
  const dropped = nextOf(tower);
  clock.offset_ms += 1_000;
  t.equal(await told(tower, node), true);
  t.equal(node.trust.roots.length, 2);

  t.match(await tower.trust.abandon('operator:ada'), { phase: 'stable', version: 3, roots: [{ role: 'current', fingerprint: old }] });
  t.equal(tower.own.next, null);
  t.match((await tower.audit(0, 100)).at(-1), { actor: 'operator:ada', action: 'trust.abandon', subject: 'trust' });
  clock.offset_ms += 1_000;
  t.equal(await told(tower, node), true);
  t.strictSame([node.trust.version, ...node.trust.roots.map((root) => formatFingerprint(fingerprint(root)))], [3, old]);
  t.equal((await joined(t, tower, 'late')).trust.roots.length, 1);

  t.match(await tower.trust.rotate({ threshold_percent: 50 }, 'local'), { phase: 'distributing', version: 4, nodes: { holding: 0 } });
  t.not(nextOf(tower), dropped);
  await tower.trust.held(other.id, 4);
  clock.offset_ms += 1_000;
  await told(tower, node);
  t.match(await tower.trust.status(), { phase: 'reissuing' });
  await rejectsWith(t, tower.trust.abandon('local'), 'rotation_refused');
});

t.test('a kill or a full disk amid abandoning leaves a rotation that goes on, or none', async (t) => {
  const state = join(freshDirectory(t), 'tower');
  await initTower({ state, cluster: 'alpha', unseal, endpoints, clock: systemClock, random });
  let tower = await openTower({ state, unseal, clock: systemClock, random });
  t.teardown(() => tower.close());
  await enrolledNode(tower, 'a');
  const old = rootOf(tower);
  await tower.trust.rotate({}, 'local');
  // The rows say so, and the keys are sealed still.
  tower.own.dropNext = () => Promise.reject(new Error('killed'));
  await t.rejects(tower.trust.abandon('local'), /killed/);
  await tower.close();
  tower = await openTower({ state, unseal, clock: systemClock, random });
  t.match(await tower.trust.status(), { phase: 'stable', version: 3, roots: [{ fingerprint: old }] });
  t.equal(tower.own.next, null);
  t.match(await tower.trust.rotate({}, 'local'), { phase: 'distributing', version: 4 });
});

t.test('a backup from before a rotation began: what nodes were told of it is dropped, and counts for no rotation of the restored tower', async (t) => {
  const clock = shiftedClock();
  const tower = await makeTower(t, { clock });
  const node = await joined(t, tower, 'a');
  const file = join(freshDirectory(t), 'backup');
  await tower.backup(file, 'local');
  await tower.trust.rotate({ threshold_percent: 100 }, 'local');
  const lost = nextOf(tower);
  clock.offset_ms += 1_000;
  t.equal(await told(tower, node), true);
  t.equal(node.trust.version, 2);

  clock.offset_ms += HOUR_MS;
  const state = join(freshDirectory(t), 'restored');
  await restoreTower({ file, state, unseal: async () => unseal, clock });
  const again = await openTower({ state, unseal, clock, random });
  t.teardown(() => again.close());
  await again.trust.held(node.identity.node, node.keptTrust);
  t.match(await again.trust.status(), { phase: 'stable', nodes: { enabled: 1, holding: 0 } });
  t.equal(await told(again, node), true);
  t.strictSame(node.trust.roots.map(fingerprint), [again.rootFingerprint], 'the root that was lost counts no more');

  t.match(await again.trust.rotate({ threshold_percent: 100 }, 'local'), { phase: 'distributing', nodes: { holding: 0 } });
  t.not(nextOf(again), lost);
  clock.offset_ms += 1_000;
  t.equal(await told(again, node), true);
  t.match(await again.trust.status(), { phase: 'reissuing', nodes: { holding: 1 } });
  t.strictSame(node.trust.roots.map(toBase64), again.roots.map(toBase64), 'and it holds what it is said to hold');
});
