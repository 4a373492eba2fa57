/** What a `Store` promises about site tokens, boot identities, and what nodes say they hold. */
import type { Test } from 'tap';
import type { NodeRow, Store } from '../../src/tower/store/store.ts';
import type { BootRow, SiteTokenRow } from '../../src/tower/unseal/unseal-store.ts';
import { BY, claimOf, hexOf, NOW_MS, nodeNamed, rejectsWith, type StoreMaker, tokenNamed, versionFor } from './store.ts';

const KEPT = { min: 2, max: 5 };
const tokenOf = (site: string, generation: number): SiteTokenRow => ({
  site,
  generation,
  sealed: `sealed ${site} ${generation}`,
  created_ms: NOW_MS + generation,
});
const bootOf = (name: string): Omit<BootRow, 'previous'> => ({
  fingerprint: hexOf(`boot ${name}`),
  csrHash: hexOf(`boot csr ${name}`),
  chain: ['AAAA', 'BBBB'],
});

async function withNode(store: Store, name: string, boot?: Omit<BootRow, 'previous'>): Promise<NodeRow> {
  const token = tokenNamed(hexOf(name).slice(0, 6));
  await store.proofs.createGrant(token, BY);
  return await store.proofs.enroll(claimOf(token), nodeNamed(name, boot === undefined ? {} : { boot }), NOW_MS);
}

const generations = async (store: Store, site: string) => (await store.unseal.siteTokens(site)).map(({ generation }) => generation);

export function unsealStoreCompliance(t: Test, maker: StoreMaker): void {
  t.test('site tokens are kept by site and generation, newest first, over a restart', async (t) => {
    const store = await maker.make(t);
    for (const generation of [1, 2]) t.ok(await store.unseal.addSiteToken(tokenOf('north', generation), KEPT));
    t.ok(await store.unseal.addSiteToken(tokenOf('south', 1), KEPT));
    await store.close();
    const again = await maker.reopen(t, store);
    t.strictSame(await again.unseal.siteTokens('north'), [tokenOf('north', 2), tokenOf('north', 1)]);
    t.strictSame(await again.unseal.siteToken('north', 1), tokenOf('north', 1));
    t.equal(await again.unseal.siteToken('north', 3), null);
    t.equal(await again.unseal.siteToken('west', 1), null);
    t.strictSame(
      [...(await again.unseal.newestTokens())].sort((left, right) => (left.site < right.site ? -1 : 1)),
      [tokenOf('north', 2), tokenOf('south', 1)],
    );
    await again.verifyAudit();
  });

  t.test('of many that make one generation at once, one does', async (t) => {
    const store = await maker.make(t);
    const rivals = Array.from({ length: 8 }, (_, index) => store.unseal.addSiteToken({ ...tokenOf('north', 1), sealed: `of ${index}` }, KEPT));
    const won = (await Promise.all(rivals)).map((isMade, index) => (isMade ? `of ${index}` : null)).filter((made) => made !== null);
    t.equal(won.length, 1);
    t.equal((await store.unseal.siteToken('north', 1))?.sealed, won[0]);
    t.equal((await store.audit(0, 100)).filter(({ action }) => action === 'site.token').length, 1);
  });

  t.test('a generation stays while a live node is sealed with it, the newest two in any case, and never more than the most', async (t) => {
    const store = await maker.make(t);
    const [one, two] = [await withNode(store, 'one'), await withNode(store, 'two')];
    await store.unseal.addSiteToken(tokenOf('north', 1), KEPT);
    await store.unseal.report(one.id, { have: 1, sealed: 1, boot: null }, NOW_MS);
    await store.unseal.report(two.id, { have: 1, sealed: 0, boot: null }, NOW_MS);
    for (const generation of [2, 3, 4]) await store.unseal.addSiteToken(tokenOf('north', generation), KEPT);
    t.strictSame(await generations(store, 'north'), [4, 3, 2, 1], 'one is sealed with the first');
    for (const generation of [5, 6]) await store.unseal.addSiteToken(tokenOf('north', generation), KEPT);
    t.strictSame(await generations(store, 'north'), [6, 5, 4, 3, 2], 'and yet no more than five are kept');
    await store.unseal.report(one.id, { have: 6, sealed: 5, boot: null }, NOW_MS);
    await store.unseal.addSiteToken(tokenOf('north', 7), KEPT);
    t.strictSame(await generations(store, 'north'), [7, 6, 5]);
    await store.setLeaf(one.id, null, NOW_MS);
    await store.unseal.addSiteToken(tokenOf('north', 8), KEPT);
    t.strictSame(await generations(store, 'north'), [8, 7], 'a revoked node keeps none');
  });

  t.test('a boot identity comes with the node or later; the one before counts until the node says that it has the new one', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store, 'one', bootOf('first'));
    const other = await withNode(store, 'two');
    t.strictSame(await store.unseal.boot(node.id), { ...bootOf('first'), previous: null });
    t.equal(await store.unseal.boot(other.id), null);
    await store.unseal.setBoot(node.id, bootOf('second'), NOW_MS);
    t.strictSame(await store.unseal.boot(node.id), { ...bootOf('second'), previous: bootOf('first').fingerprint });
    t.strictSame(await store.unseal.boots('north'), new Map([[node.id, [bootOf('second').fingerprint, bootOf('first').fingerprint]]]));
    t.equal(await store.unseal.report(node.id, { have: 0, sealed: 0, boot: bootOf('first').fingerprint }, NOW_MS), false);
    t.equal(await store.unseal.report(node.id, { have: 0, sealed: 0, boot: bootOf('second').fingerprint }, NOW_MS), true, 'which concerns its peers');
    t.equal(await store.unseal.report(node.id, { have: 0, sealed: 0, boot: bootOf('second').fingerprint }, NOW_MS), false);
    t.strictSame(await store.unseal.boot(node.id), { ...bootOf('second'), previous: null });
    await store.close();
    const again = await maker.reopen(t, store);
    t.strictSame(await again.unseal.boots('north'), new Map([[node.id, [bootOf('second').fingerprint]]]));
    t.strictSame(await again.unseal.boots('south'), new Map());
    await again.verifyAudit();
  });

  t.test('each change of a boot identity moves the version of its site, and what only says that all is well does not', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store, 'one');
    const before = await versionFor(store, node);
    await store.unseal.setBoot(node.id, bootOf('first'), NOW_MS);
    const changed = await versionFor(store, node);
    t.ok(changed > before);
    await store.unseal.report(node.id, { have: 1, sealed: 1, boot: bootOf('first').fingerprint }, NOW_MS);
    await store.unseal.unsealed(node.id, 1, null, NOW_MS);
    await store.unseal.unsealed(node.id, 1, 'certificate_revoked', NOW_MS);
    t.equal(await versionFor(store, node), changed);
    const last = (await store.audit(0, 100)).slice(-2).map(({ actor, action, detail }) => ({ actor, action, detail: JSON.parse(detail) as unknown }));
    t.strictSame(last, [
      { actor: `boot:${node.id}`, action: 'node.unseal', detail: { generation: 1 } },
      { actor: `boot:${node.id}`, action: 'node.unseal_refused', detail: { generation: 1, code: 'certificate_revoked' } },
    ]);
  });

  t.test('tokens and boot identities are for a node that is live and has the key that it asks with', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store, 'one');
    await store.unseal.addSiteToken(tokenOf('north', 1), KEPT);
    t.strictSame(await store.unseal.siteTokensFor(node.id, node.spkiHash), [tokenOf('north', 1)]);
    await rejectsWith(t, store.unseal.siteTokensFor(node.id, 'another'), 'csr_invalid');
    await rejectsWith(t, store.unseal.setBoot(node.id, bootOf('x'), NOW_MS, 'another'), 'csr_invalid');
    await store.setNode(node.id, { disabled: true }, null, { actor: 'admin', at_ms: NOW_MS });
    await rejectsWith(t, store.unseal.siteTokensFor(node.id, node.spkiHash), 'peer_disabled');
    await rejectsWith(t, store.unseal.setBoot(node.id, bootOf('x'), NOW_MS, node.spkiHash), 'peer_disabled');
    t.equal(await store.unseal.boot(node.id), null);
  });

  t.test('what a revoked node had is gone with it, and of an unknown one nothing is taken', async (t) => {
    const store = await maker.make(t);
    const node = await withNode(store, 'one', bootOf('first'));
    await store.setLeaf(node.id, null, NOW_MS);
    t.equal(await store.unseal.boot(node.id), null);
    t.strictSame(await store.unseal.boots('north'), new Map());
    await rejectsWith(t, store.unseal.setBoot(node.id, bootOf('x'), NOW_MS), 'certificate_revoked');
    await rejectsWith(t, store.unseal.report(node.id, { have: 1, sealed: 1, boot: null }, NOW_MS), 'certificate_revoked');
    await rejectsWith(t, store.unseal.siteTokensFor(node.id), 'certificate_revoked');
    t.equal(await store.unseal.boot(node.id), null);
    await rejectsWith(t, store.unseal.siteTokensFor('ffffffffffff'), 'not_found');
    await rejectsWith(t, store.unseal.setBoot('ffffffffffff', bootOf('x'), NOW_MS), 'not_found');
    await rejectsWith(t, store.unseal.report('ffffffffffff', { have: 1, sealed: 1, boot: null }, NOW_MS), 'not_found');
    await store.verifyAudit();
  });
}
