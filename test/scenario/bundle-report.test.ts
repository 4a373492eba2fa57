/**
 * Spec 9.3: a rotation waits for the word of each node that it has the bundle on its disk. A full disk or a kill between the two leaves the old state or the new one, and the
 * word is said afterwards.
 */
import { EventEmitter, once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SelvedgeError } from '../../src/base/errors.ts';
import { NodeState, nodeSecrets } from '../../src/enroll/state.ts';
import { Agent } from '../../src/node/agent.ts';
import { SnapshotFollower } from '../../src/node/snapshot-follower.ts';
import type { Mesh } from '../../src/peering/mesh.ts';
import type { Tower } from '../../src/tower/tower.ts';
import { systemClock } from '../../src/transport/system.ts';
import { VirtualTimers } from '../fixtures/virtual-timers.ts';
import { unseal } from '../unit/tower/support.ts';
import { runningTower } from './running-tower.ts';

t.setTimeout(60_000);

const RETRY_MS = 30_000;

/** The node of a directory, and what its tower would tell it now. */
async function toldOf(t: Test, tower: Tower, path: string) {
  const node = await NodeState.load(path, unseal, systemClock.wall());
  t.teardown(() => node.secrets.close());
  const { envelope } = await tower.snapshot(node.identity.node);
  return { node, message: new TextEncoder().encode(JSON.stringify(envelope)) };
}

/** There is no room for the bundle, until there is. */
function fillDisk(node: NodeState): () => void {
  const update = node.secrets.update.bind(node.secrets);
  node.secrets.update = async (entries) => {
    if (nodeSecrets.trust in entries) throw new SelvedgeError('disk_full', { path: node.secrets.path });
    await update(entries);
  };
  return () => {
    node.secrets.update = update;
  };
}

for (const [what, kill] of [
  ['before the snapshot was on its disk', () => {}],
  ['between the snapshot and the bundle', (path: string, message: Uint8Array) => writeFileSync(join(path, 'snapshot.json'), message)],
] as const)
  t.test(`a node that is killed ${what} says after its restart that it holds the bundle, though nothing newer comes`, async (t) => {
    const running = await runningTower(t);
    const { tower, until } = running;
    const path = await running.joined('a');
    await tower.trust.rotate({ threshold_percent: 100 }, 'local');
    const { message } = await toldOf(t, tower, path);
    kill(path, message);
    t.match(await tower.trust.status(), { phase: 'distributing', nodes: { enabled: 1, holding: 0 } });

    // It listens nowhere, so that the tower learns nothing new of it.
    const agent = await Agent.start({ state: path, unseal, listen: null, isGoverned: false, app: {}, log: () => undefined });
    t.teardown(() => agent.close());
    await until(() => tower.trust.bundle.version === 2 && tower.trust.reissue(1) !== undefined);
    t.strictSame([agent.state.trust.version, agent.state.keptTrust, agent.state.trust.roots.length], [2, 2, 2]);
    await agent.close();
    const again = await NodeState.load(path, unseal, systemClock.wall());
    t.equal(again.keptTrust, 2, 'and it is on its disk');
    await again.secrets.close();
  });

t.test('a node whose disk is full follows the bundle, says nothing of it, and says so after a restart with room', async (t) => {
  const running = await runningTower(t);
  const { tower, until, lines } = running;
  const path = await running.joined('a');
  const { agent } = await running.run(path, 'a');
  const isThere = () => agent.mesh.status().some(({ peer, state }) => peer === 'tower' && state === 'established');
  await until(isThere);
  fillDisk(agent.state);
  await tower.trust.rotate({ threshold_percent: 100 }, 'local');
  await until(() => lines.some(({ message, facts }) => message === 'snapshot not kept' && facts.code === 'disk_full'));
  t.strictSame([agent.state.trust.version, agent.state.keptTrust], [2, 1]);
  t.match(await tower.trust.status(), { phase: 'distributing', nodes: { holding: 0 } });
  await agent.close();

  await running.run(path, 'a');
  await until(async () => (await tower.trust.status()).nodes.holding === 1);
  t.match(await tower.trust.status(), { phase: 'reissuing' });
});

t.test('on a disk that stays full a node tries again by itself, and has the bundle once there is room', async (t) => {
  const { tower, joined } = await runningTower(t);
  const path = await joined('a');
  await tower.trust.rotate({ threshold_percent: 100 }, 'local');
  const { node, message } = await toldOf(t, tower, path);
  const makeRoom = fillDisk(node);
  node.takeSnapshot(message, systemClock.wall());
  const timers = new VirtualTimers();
  const events = new EventEmitter();
  const notConnected = (): never => {
    throw new SelvedgeError('not_connected', { peer: 'tower', why: 'it is away' });
  };
  const follower = new SnapshotFollower({
    mesh: { open: notConnected } as unknown as Mesh,
    state: node,
    timers,
    listen: [],
    wantsFresh: () => false,
    onSnapshot: () => undefined,
    onKept: () => void events.emit('kept'),
    log: (word, facts) => void events.emit(word, facts),
  });
  const refused = once(events, 'snapshot not kept');
  follower.start();
  t.match(await refused, [{ code: 'disk_full' }]);
  const again = once(events, 'snapshot not kept');
  await timers.advance(RETRY_MS);
  await again;
  t.equal(node.keptTrust, 1);
  makeRoom();
  const kept = once(events, 'kept');
  await timers.advance(RETRY_MS);
  await kept;
  t.equal(node.keptTrust, 2);
  follower.close();
  t.equal(timers.waiting, 0);
});
