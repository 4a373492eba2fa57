/** What a `Store` promises about the roots that the cluster trusts, and who holds them. */
import type { Test } from 'tap';
import { type TrustRow, firstTrust, rotated } from '../../src/tower/trust/phases.ts';
import type { NodeRow, Store } from '../../src/tower/store/store.ts';
import { BY, claimOf, clusterNamed, hexOf, NOW_MS, nodeNamed, type StoreMaker, tokenNamed, versionFor } from './store.ts';

async function withNode(store: Store, name: string): Promise<NodeRow> {
  const token = tokenNamed(hexOf(name).slice(0, 6));
  await store.proofs.createGrant(token, BY);
  return await store.proofs.enroll(claimOf(token), nodeNamed(name), NOW_MS);
}

const rotating = (): TrustRow => rotated(firstTrust('AAAA', 95, NOW_MS), 'BBBB', { threshold_percent: 80, at_ms: NOW_MS + 1 });

export function trustStoreCompliance(t: Test, maker: StoreMaker): void {
  t.test('which roots are trusted is kept over a restart, with what the tower is known by, in one change that everybody hears of', async (t) => {
    const store = await maker.make(t);
    await store.setCluster(clusterNamed('alpha'), NOW_MS);
    const node = await withNode(store, 'one');
    t.equal(await store.trust.get(), null);
    const before = await versionFor(store, node);
    const cluster = { rootFingerprint: hexOf('root'), towerFingerprint: hexOf('tower') };
    await store.trust.set(rotating(), { action: 'trust.rotate', detail: { root: 'x' }, cluster }, { actor: 'operator:ada', at_ms: NOW_MS });
    t.equal(await versionFor(store, node), before + 1);
    await store.trust.set({ ...rotating(), phase: 'reissuing' }, { action: 'trust.reissue', detail: {} }, { actor: 'tower', at_ms: NOW_MS });
    await store.close();
    const again = await maker.reopen(t, store);
    t.strictSame(await again.trust.get(), { ...rotating(), phase: 'reissuing' });
    t.match(await again.cluster(), cluster);
    await again.verifyAudit();
    const last = (await again.audit(0, 100)).slice(-2);
    t.strictSame(
      last.map(({ actor, action, detail }) => [actor, action, JSON.parse(detail)]),
      [
        ['operator:ada', 'trust.rotate', { root: 'x', version: 2, phase: 'distributing' }],
        ['tower', 'trust.reissue', { version: 2, phase: 'reissuing' }],
      ],
    );
  });

  t.test('who holds which bundle is remembered, moves no version, and counts only nodes that are neither disabled nor revoked', async (t) => {
    const store = await maker.make(t);
    const nodes = [await withNode(store, 'one'), await withNode(store, 'two'), await withNode(store, 'three')];
    const [one, two, three] = nodes.map(({ id }) => id) as [string, string, string];
    const version = await store.version();
    t.equal(await store.trust.hold(one, 2), true);
    t.equal(await store.trust.hold(one, 2), false, 'that was known');
    t.equal(await store.trust.hold(two, 1), true);
    t.equal(await store.version(), version);
    t.strictSame(await store.trust.counts(2), { nodes: 3, holding: 1 });
    t.strictSame(await Promise.all(nodes.map(({ id }) => store.trust.holds(id, 2))), [true, false, false]);
    await store.setNode(two, { disabled: true }, null, BY);
    t.strictSame(await store.trust.counts(2), { nodes: 2, holding: 1 });
    await store.setLeaf(three, null, NOW_MS);
    t.strictSame(await store.trust.counts(2), { nodes: 1, holding: 1 });
    t.match(await store.trust.members(), [{ id: one, name: 'one', holds: 2, boot: null }]);
    await store.close();
    const again = await maker.reopen(t, store);
    t.equal(await again.trust.holds(one, 2), true, 'after a restart');
  });
}
