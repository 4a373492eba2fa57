/** What a `Store` promises about leaves that are being renewed. */
import type { Test } from 'tap';
import { limits } from '../../src/base/limits.ts';
import type { LeafRow } from '../../src/tower/renewing/renewal.ts';
import type { NodeRow, Store } from '../../src/tower/store/store.ts';
import { BY, claimOf, hexOf, NOW_MS, nodeNamed, rejectsWith, type StoreMaker, tokenNamed, versionFor } from './store.ts';

const leafNamed = (name: string): LeafRow => ({
  fingerprint: hexOf(`leaf ${name}`),
  leaf: 'BBBB',
  csrHash: hexOf(`csr ${name}`),
  spkiHash: hexOf(`spki ${name}`),
});
const LATER_MS = NOW_MS + limits.leaf_overlap_ms + 1;

async function withNode(store: Store, name = 'one'): Promise<NodeRow> {
  const token = tokenNamed(hexOf(name).slice(0, 6));
  await store.proofs.createGrant(token, BY);
  return await store.proofs.enroll(claimOf(token), nodeNamed(name), NOW_MS);
}

export function renewalStoreCompliance(t: Test, maker: StoreMaker): void {
  t.test('a successor is kept beside the leaf in use, over a restart, until it is seen and the overlap is over', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store);
    const held = node.fingerprint ?? '';
    await store.offerLeaf(node.id, leafNamed('next'), held, NOW_MS);
    await store.close();
    const again = await maker.reopen(t, store);
    t.match(await again.node(node.id), { fingerprint: held, renewal: { next: leafNamed('next'), old: [] } });
    const used = await again.useLeaf(node.id, leafNamed('next').fingerprint, NOW_MS);
    t.match(used, { ...leafNamed('next'), renewal: { next: null, old: [{ fingerprint: held }] } });
    t.strictSame(await again.node(node.id), used);
    t.strictSame(await again.retireLeaves(NOW_MS), []);
    const retired = await again.retireLeaves(LATER_MS);
    t.match(retired, [{ fingerprint: used.fingerprint, renewal: null }]);
    t.strictSame([await again.node(node.id)], retired);
    await again.verifyAudit();
    const actions = (await again.audit(0, 100)).map(({ action, actor }) => `${actor} ${action}`);
    t.strictSame(actions.slice(-3), [`node:${node.id} node.renew`, `node:${node.id} node.renewed`, 'tower node.leaf-retired']);
  });

  t.test('each step moves the version of the site; what changes nothing moves none', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store);
    const version = () => versionFor(store, node);
    const start = await version();
    await store.offerLeaf(node.id, leafNamed('next'), node.fingerprint ?? '', NOW_MS);
    const offered = await version();
    await store.useLeaf(node.id, hexOf('leaf other'), NOW_MS);
    t.equal(await version(), offered, 'a leaf that is not the next one');
    await store.useLeaf(node.id, leafNamed('next').fingerprint, NOW_MS);
    const used = await version();
    await store.useLeaf(node.id, leafNamed('next').fingerprint, NOW_MS);
    t.equal(await version(), used, 'the same again');
    t.ok(start < offered && offered < used);
  });

  t.test('a key that some node has already, a leaf that is not the recorded one, and a node that is not there are refused', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store);
    const held = node.fingerprint ?? '';
    await rejectsWith(t, store.offerLeaf(node.id, { ...leafNamed('next'), spkiHash: node.spkiHash }, held, NOW_MS), 'csr_invalid');
    await rejectsWith(t, store.offerLeaf(node.id, leafNamed('next'), hexOf('leaf other'), NOW_MS), 'certificate_revoked');
    await rejectsWith(t, store.offerLeaf('ffffffffffff', leafNamed('next'), held, NOW_MS), 'not_found');
    await rejectsWith(t, store.useLeaf('ffffffffffff', held, NOW_MS), 'not_found');
    t.equal((await store.node(node.id))?.renewal, null);
  });

  t.test('revoking takes the successor and the old leaf away with the one in use', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store);
    const held = node.fingerprint ?? '';
    await store.offerLeaf(node.id, leafNamed('next'), held, NOW_MS);
    t.match(await store.setLeaf(node.id, null, NOW_MS), { fingerprint: null, renewal: null });
    await rejectsWith(t, store.offerLeaf(node.id, leafNamed('more'), held, NOW_MS), 'certificate_revoked');
    t.equal((await store.useLeaf(node.id, leafNamed('next').fingerprint, NOW_MS)).fingerprint, null);
  });
}
