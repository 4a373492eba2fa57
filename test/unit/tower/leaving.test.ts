/** Revoking a node with time to finish, the tower's end: what its peers are told, when it takes effect, and what is written down. */
import { EventEmitter, once } from 'node:events';
import t from 'tap';
import { keepRevocations } from '../../../src/tower/leaving.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { enrolledNode } from './api-world.ts';
import { makeTower } from './support.ts';

const DRAIN_MS = 30_000;

t.test('a node is told of as leaving until its time, keeps its certificate one tick before, and is revoked at that tick', async (t) => {
  const timers = new VirtualTimers();
  const tower = await makeTower(t, { clock: timers.clock });
  const done = new EventEmitter();
  const keeper = keepRevocations(tower, timers, (node, error) => void done.emit('revoked', node, error));
  t.teardown(() => keeper.close());
  const [leaver, peer] = [await enrolledNode(tower, 'leaver'), await enrolledNode(tower, 'peer')];
  const { leaving_ms, fingerprint } = await tower.drainNode(leaver.id, DRAIN_MS, 'operator:ada');
  t.equal(leaving_ms, timers.clock.wall() + DRAIN_MS);
  t.ok(fingerprint);
  t.equal((await tower.known(peer.id)).peers.find(({ id }) => id === leaver.id)?.leaving_ms, leaving_ms);
  t.equal((await tower.drainNode(leaver.id, 2 * DRAIN_MS)).leaving_ms, leaving_ms, 'it is not put off');
  await timers.advance(DRAIN_MS - 1);
  t.ok((await tower.findNode(leaver.id)).fingerprint);
  const revoked = once(done, 'revoked');
  await timers.advance(1);
  t.same(await revoked, [leaver.id, null]);
  t.match(await tower.findNode(leaver.id), { fingerprint: null, leaving_ms: null });
  t.match((await tower.known(peer.id)).gone, [{ id: leaver.id, why: 'revoked' }]);
  const audit = (await tower.audit(0, 1_000)).filter(({ subject }) => subject === leaver.id).map(({ actor, action }) => `${actor} ${action}`);
  t.same(audit.slice(-2), ['operator:ada node.drain', 'tower node.revoke']);
  t.equal(timers.waiting, 0);
});

t.test('a node whose time came while nobody looked is revoked at once; one that is revoked meanwhile is not revoked again', async (t) => {
  const timers = new VirtualTimers();
  const tower = await makeTower(t, { clock: timers.clock });
  const [late, early] = [await enrolledNode(tower, 'late'), await enrolledNode(tower, 'early')];
  await tower.drainNode(late.id, DRAIN_MS);
  await tower.drainNode(early.id, DRAIN_MS);
  await tower.revokeNode(early.id);
  await timers.advance(2 * DRAIN_MS);
  const done = new EventEmitter();
  const revoked = once(done, 'revoked');
  const keeper = keepRevocations(tower, timers, (node, error) => void done.emit('revoked', node, error));
  t.same(await revoked, [late.id, null]);
  t.equal(tower.leaving.next, null);
  keeper.close();
  t.equal(timers.waiting, 0);
});
