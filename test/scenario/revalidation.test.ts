/**
 * Spec 6.2: a channel is judged again when the trust bundle, the revocation list, roles, the policy of routes, the route epoch, or the tower's presence changes. A real tower and three nodes;
 * the channel of two of them is looked at after each change, and each shows what follows from it. (By time: test/unit/peering/peering.test.ts.)
 */
import t from 'tap';
import type { Observatory } from '../../src/observe/observatory.ts';
import { makeObservatory } from '../../daemon/observe.ts';
import type { ErrorCode } from '../../src/base/errors.ts';
import { runningTower } from './running-tower.ts';

t.setTimeout(180_000);

/** What `near` sees, and whoever waits for it to see more. */
function watching(): { readonly seen: Observatory; until(holds: () => boolean): Promise<void> } {
  const seen = makeObservatory();
  let wake = (): void => {};
  const moved = seen.moved.bind(seen);
  seen.moved = (...change) => {
    moved(...change);
    wake();
  };
  return {
    seen,
    async until(holds) {
      while (!holds()) await new Promise<void>((resolve) => (wake = resolve));
    },
  };
}

t.test('each of the six triggers has every channel of a node judged again at once, and what is no longer allowed ends with its reason', async (t) => {
  const running = await runningTower(t);
  const { tower } = running;
  const { seen, until } = watching();
  const { agent: near } = await running.run(await running.joined('near'), 'near', { observer: seen, towerAway_ms: 500 });
  const { agent: far } = await running.run(await running.joined('far'), 'far');
  const { agent: third } = await running.run(await running.joined('third'), 'third');
  const [nearId, farId, thirdId] = [near, far, third].map((agent) => agent.state.identity.node) as [string, string, string];
  const stateWith = (node: string) => near.mesh.status().find(({ peer }) => peer === node)?.state;
  await until(() => [farId, thirdId].every((node) => stateWith(node) === 'established'));
  const sessions = near.mesh.status().find(({ peer }) => peer === farId)?.reconnects;

  /** Judged again by this change, long before its time, and passed. */
  const judgedAgain = async (change: () => Promise<unknown>): Promise<void> => {
    const before = seen.revalidations.get(['passed']);
    await change();
    await until(() => seen.revalidations.get(['passed']) > before);
    // The other end hears of it in its own time.
    for (const agent of [near, far]) await running.until(async () => agent.versions.directory >= (await tower.seenBy(agent.state.identity.node)).version);
  };
  /** A flow of this class ends with this reason by this change. */
  const cut = async (change: () => Promise<unknown>, code: ErrorCode, message: RegExp): Promise<void> => {
    const flow = near.mesh.open(farId, 'clipboard', 'messages', 'echo');
    flow.send(Uint8Array.of(1));
    t.strictSame(await flow.receive(), Uint8Array.of(1));
    await judgedAgain(change);
    t.match(await flow.closed, { code, message });
  };

  t.comment('the trust bundle');
  await judgedAgain(async () => {
    await tower.trust.rotate({}, 'test');
    await running.until(() => near.versions.trust === tower.trust.version);
  });

  t.comment('roles');
  await tower.resources.create('role', 'quiet', { classes: ['input', 'health'] }, 'test');
  await cut(() => tower.setNode(farId, { roles: ['quiet'] }, null, 'test'), 'channel_class_denied', /role quiet/);
  await judgedAgain(() => tower.setNode(farId, { roles: [] }, null, 'test'));

  t.comment('policies');
  const deny = () => tower.resources.create('policy', 'no-clipboard', { from: {}, to: {}, effect: 'deny', classes: ['clipboard'] }, 'test');
  await cut(deny, 'channel_class_denied', /policy no-clipboard/);
  await judgedAgain(() => tower.resources.delete('policy', 'no-clipboard', null, 'test'));

  t.comment('the route epoch');
  const { routes } = near.versions;
  await judgedAgain(() => tower.resources.create('route', 'up', { from: { nodes: [nearId] }, via: [farId], classes: ['vpn_packet'] }, 'test'));
  await running.until(() => near.versions.routes > routes);

  t.comment('the revocation list');
  await judgedAgain(() => tower.revokeNode(thirdId));
  await until(() => stateWith(thirdId) === undefined || stateWith(thirdId) === 'failed');
  t.ok(running.lines.some(({ host, message, facts }) => host === 'near' && message === 'channel revalidation failed' && facts.code === 'certificate_revoked'));

  t.comment('the tower goes away');
  await running.host.close();
  await until(() => stateWith(farId) === 'degraded');
  t.equal(near.mesh.status().find(({ peer }) => peer === farId)?.reconnects, sessions, 'all over the same session');
});
