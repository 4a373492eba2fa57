/** The suite that every `Store` passes. An implementation's test hands over how to make an empty one and how to open it again. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import type { ErrorCode, SelvedgeError } from '../../src/base/errors.ts';
import type { Claim } from '../../src/enroll/proof.ts';
import type { NewGrant, NewNode } from '../../src/tower/store/proof-store.ts';
import type { ClusterRow, NodeRow, Store } from '../../src/tower/store/store.ts';

export interface StoreMaker {
  /** An empty store that the test owns. */
  make(t: Test): Promise<Store>;
  /** The same content, opened anew after `store` was closed. */
  reopen(t: Test, store: Store): Promise<Store>;
}

export const NOW_MS = 1_800_000_000_000;
const HOUR_MS = 3_600_000;

export const hexOf = (text: string) => Buffer.from(text).toString('hex').padEnd(64, '0').slice(0, 64);

export const BY = { actor: 'admin', at_ms: NOW_MS };

export function tokenNamed(id: string, more: Partial<NewGrant> = {}): NewGrant {
  const plain = { tenant: null, site: null, name: null, node: null, purpose: 'enroll' as const, sources: [], detail: {} };
  return { kind: 'token', id, hash: hexOf(`token ${id}`), usesMax: 1, expires_ms: NOW_MS + HOUR_MS, ...plain, ...more };
}

/** As the proof of its kind would claim it. */
export function claimOf(grant: NewGrant, subject: string | null = null): Claim {
  return { grant: { ...grant, uses: 0, revoked_ms: null, created_ms: NOW_MS }, subject };
}

export function clusterNamed(cluster: string): ClusterRow {
  return { cluster, rootFingerprint: hexOf('root'), towerFingerprint: hexOf('tower'), endpoints: [], created_ms: NOW_MS, vtepRange: '100.96.0.0/12' };
}

export function nodeNamed(name: string, more: Partial<NewNode> = {}): NewNode {
  const id = hexOf(name).slice(0, 12);
  const endpoints = [{ host: '192.0.2.1', tcp: 443, udp: null }];
  return {
    id,
    name,
    site: 'north',
    fingerprint: hexOf(`leaf ${name}`),
    leaf: 'AAAA',
    csrHash: hexOf(`csr ${name}`),
    spkiHash: hexOf(`spki ${name}`),
    endpoints,
    facts: null,
    peer: '192.0.2.1',
    ...more,
  };
}

/** A directory of its own for each call, gone after the test. */
export function freshDirectory(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'selvedge-test-'));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export async function rejectsWith(t: Test, promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await t.rejects(promise, { name: 'SelvedgeError', code }, `refused with ${code}`);
}

/** Version of the last change that a node may see. */
export async function versionFor(store: Store, node: Pick<NodeRow, 'id' | 'site'> & Partial<NodeRow>): Promise<number> {
  return (await store.seenBy({ tenant: null, roles: [], ...node })).version;
}

export function storeCompliance(t: Test, maker: StoreMaker): void {
  const cluster = {
    cluster: 'alpha',
    rootFingerprint: hexOf('root'),
    towerFingerprint: hexOf('tower'),
    endpoints: [],
    created_ms: NOW_MS,
    vtepRange: '100.96.0.0/12',
  };

  t.test('a new store is empty, at version 0, with a whole audit log', async (t) => {
    const store = await maker.make(t);
    t.equal(await store.cluster(), null);
    t.equal(await store.version(), 0);
    t.strictSame(await store.nodes(), []);
    t.strictSame(await store.proofs.grants('token'), []);
    await store.verifyAudit();
  });

  t.test('what was written is there after a restart, and the version goes on', async (t) => {
    const store = await maker.make(t);
    await store.setCluster(cluster, NOW_MS);
    const token = tokenNamed('aa');
    await store.proofs.createGrant(token, BY);
    const made = await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
    await store.close();
    const again = await maker.reopen(t, store);
    t.strictSame(await again.cluster(), cluster);
    t.strictSame(await again.node(made.id), made);
    t.equal((await again.proofs.grants('token'))[0]?.uses, 1);
    t.equal(await again.version(), 3);
    await again.verifyAudit();
    await again.setLeaf(made.id, null, NOW_MS);
    t.equal(await again.version(), 4);
    await again.verifyAudit();
  });

  t.test('200 parallel enrollments with a limit of 10 make exactly 10 nodes', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa', { usesMax: 10 });
    await store.proofs.createGrant(token, BY);
    const tries = Array.from({ length: 200 }, (_, index) => store.proofs.enroll(claimOf(token), nodeNamed(`n${index}`), NOW_MS));
    const results = await Promise.allSettled(tries);
    const refused = results.filter((result) => result.status === 'rejected').map((result) => (result.reason as SelvedgeError).code);
    t.equal(results.length - refused.length, 10);
    t.strictSame(new Set(refused), new Set(['token_exhausted']));
    t.equal((await store.nodes()).length, 10);
    t.equal((await store.proofs.grants('token'))[0]?.uses, 10);
  });

  t.test('the same token and request again give the same node and take no further use, also when the token is used up, expired or revoked', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa');
    await store.proofs.createGrant(token, BY);
    const [first, second] = await Promise.all([
      store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS),
      store.proofs.enroll(claimOf(token), nodeNamed('other', { csrHash: nodeNamed('one').csrHash, spkiHash: nodeNamed('one').spkiHash }), NOW_MS),
    ]);
    t.strictSame(second, first);
    await store.proofs.revokeGrant('token', token.id, BY);
    t.strictSame(await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS + 2 * HOUR_MS), first);
    t.strictSame(await store.proofs.admit(claimOf(token), first, null, NOW_MS), { answered: first, site: null });
    t.equal((await store.proofs.grants('token'))[0]?.uses, 1);
    t.equal((await store.nodes()).length, 1);
  });

  t.test('a repeated request is not answered once its node was revoked', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa');
    await store.proofs.createGrant(token, BY);
    const made = await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
    await store.setLeaf(made.id, null, NOW_MS);
    await rejectsWith(t, store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS), 'token_invalid');
  });

  t.test('a repeated request is not answered once its node has another key', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa');
    await store.proofs.createGrant(token, BY);
    const made = await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
    const next = { fingerprint: hexOf('leaf next'), leaf: 'bmV4dA==', csrHash: hexOf('csr next'), spkiHash: hexOf('key next') };
    await store.offerLeaf(made.id, next, made.fingerprint ?? '', NOW_MS);
    t.match(await store.proofs.admit(claimOf(token), nodeNamed('one'), null, NOW_MS), { answered: { id: made.id } }, 'it has been offered one');
    await store.useLeaf(made.id, next.fingerprint, NOW_MS);
    await rejectsWith(t, store.proofs.admit(claimOf(token), nodeNamed('one'), null, NOW_MS), 'token_invalid');
    await rejectsWith(t, store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS), 'token_invalid');
    t.equal((await store.nodes()).length, 1);
  });

  t.test('each reason to refuse a token has its code, in `admit` as in `enroll`, and takes no use', async (t) => {
    const store = await maker.make(t);
    const good = tokenNamed('aa', { usesMax: 5, site: 'north' });
    const revoked = tokenNamed('bb', { usesMax: 5 });
    const used = tokenNamed('cc');
    for (const token of [good, revoked, used]) await store.proofs.createGrant(token, BY);
    await store.proofs.revokeGrant('token', 'bb', BY);
    await store.proofs.enroll(claimOf(used), nodeNamed('first'), NOW_MS);
    const version = await store.version();
    const cases: [Claim, string, number, ErrorCode][] = [
      [claimOf(tokenNamed('dd')), 'north', NOW_MS, 'token_revoked'],
      [claimOf(good), 'south', NOW_MS, 'token_invalid'],
      [claimOf(good), 'north', NOW_MS + HOUR_MS, 'token_expired'],
      [claimOf(revoked), 'north', NOW_MS, 'token_revoked'],
      [claimOf(used), 'north', NOW_MS, 'token_exhausted'],
    ];
    for (const [proof, site, at_ms, code] of cases) {
      await rejectsWith(t, store.proofs.admit(proof, nodeNamed('x'), site, at_ms), code);
      await rejectsWith(t, store.proofs.enroll(proof, nodeNamed('x', { site }), at_ms), code);
    }
    t.equal(await store.version(), version);
    t.strictSame(
      (await store.proofs.grants('token')).map((token) => token.uses),
      [0, 0, 1],
    );
    t.strictSame(await store.proofs.admit(claimOf(good), nodeNamed('x'), null, NOW_MS), { answered: null, site: 'north' });
  });

  t.test('a name or key that another node has is refused, and the use is given back', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa', { usesMax: 5 });
    await store.proofs.createGrant(token, BY);
    await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
    await rejectsWith(t, store.proofs.enroll(claimOf(token), nodeNamed('two', { name: 'one' }), NOW_MS), 'name_taken');
    await rejectsWith(t, store.proofs.enroll(claimOf(token), nodeNamed('two', { spkiHash: nodeNamed('one').spkiHash }), NOW_MS), 'csr_invalid');
    t.equal((await store.proofs.grants('token'))[0]?.uses, 1);
    await store.verifyAudit();
  });

  t.test('a key is one identity’s, also while it is only offered, and the name of a revoked node is nobody’s', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa', { usesMax: 9 });
    await store.proofs.createGrant(token, BY);
    const [one, two] = [
      await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS),
      await store.proofs.enroll(claimOf(token), nodeNamed('two'), NOW_MS),
    ];
    const leafOf = (name: string, key: string) => ({ fingerprint: hexOf(`leaf ${name}`), leaf: 'BBBB', csrHash: hexOf(`csr ${name}`), spkiHash: hexOf(key) });
    await store.offerLeaf(one.id, leafOf('one next', 'spki next'), one.fingerprint ?? '', NOW_MS);
    await rejectsWith(t, store.offerLeaf(two.id, leafOf('two next', 'spki next'), two.fingerprint ?? '', NOW_MS), 'csr_invalid');
    await rejectsWith(t, store.offerLeaf(one.id, leafOf('one last', 'spki one'), one.fingerprint ?? '', NOW_MS), 'csr_invalid');
    await rejectsWith(t, store.proofs.enroll(claimOf(token), nodeNamed('three', { spkiHash: hexOf('spki next') }), NOW_MS), 'csr_invalid');
    await store.offerLeaf(one.id, leafOf('one again', 'spki next'), one.fingerprint ?? '', NOW_MS);
    t.equal((await store.useLeaf(one.id, hexOf('leaf one again'), NOW_MS)).spkiHash, hexOf('spki next'), 'its own, offered once more');

    const bundle = { hash: hexOf('bundle'), expires_ms: NOW_MS + HOUR_MS };
    const operator = await store.access.createOperator({ id: 'aabbccddeeff', name: 'ada', scopes: [] }, bundle, BY);
    const proof = { operator: operator.id, hash: bundle.hash };
    const ofOperator = (key: string) => ({ ...leafOf(`operator ${key}`, key), notAfter_ms: NOW_MS + HOUR_MS });
    await store.offerLeaf(two.id, leafOf('two next', 'spki other'), two.fingerprint ?? '', NOW_MS);
    for (const key of ['spki two', 'spki other']) await rejectsWith(t, store.access.redeem(proof, ofOperator(key), NOW_MS), 'csr_invalid');
    await store.access.redeem(proof, ofOperator('spki ada'), NOW_MS);
    await store.access.renewOperator(operator.id, ofOperator('spki ada next'), NOW_MS);
    for (const key of ['spki ada', 'spki ada next']) {
      await rejectsWith(t, store.proofs.enroll(claimOf(token), nodeNamed('three', { spkiHash: hexOf(key) }), NOW_MS), 'csr_invalid');
      await rejectsWith(t, store.offerLeaf(two.id, leafOf('two other', key), two.fingerprint ?? '', NOW_MS), 'csr_invalid');
    }

    await rejectsWith(t, store.proofs.enroll(claimOf(token), nodeNamed('four', { name: `revoked-${one.id}` }), NOW_MS), 'name_taken');
    await store.setLeaf(one.id, null, NOW_MS);
    await store.proofs.enroll(claimOf(token), nodeNamed('five', { name: 'one' }), NOW_MS);
    t.equal((await store.node(one.id))?.name, `revoked-${one.id}`);
    t.equal((await store.proofs.grants('token'))[0]?.uses, 3);
    await store.verifyAudit();
  });

  t.test('a change moves the version of its own scope, and of no other', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa', { usesMax: 5 });
    await store.setCluster(cluster, NOW_MS);
    await store.proofs.createGrant(token, BY);
    const north = await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
    const before = await versionFor(store, north);
    await store.proofs.enroll(claimOf(token), nodeNamed('two', { site: 'south' }), NOW_MS);
    await store.proofs.revokeGrant('token', token.id, BY);
    t.equal(await versionFor(store, north), before);
    t.equal(await store.setEndpoints(north.id, [{ host: '198.51.100.7', tcp: 8443, udp: 8443 }], NOW_MS), true);
    const after = await versionFor(store, north);
    t.ok(after > before);
    t.equal(await store.setEndpoints(north.id, [{ host: '198.51.100.7', tcp: 8443, udp: 8443 }], NOW_MS), false, 'the same again is no change');
    t.equal(await versionFor(store, north), after);
    await store.seen(north.id, NOW_MS + 5);
    t.equal((await store.node(north.id))?.seen_ms, NOW_MS + 5);
    t.equal(await store.version(), after, 'being seen is no change');
    await store.setCluster({ ...cluster, endpoints: [{ host: 'tower.example', tcp: 443, udp: 443 }] }, NOW_MS);
    t.equal(await versionFor(store, north), await store.version());
    t.equal(await versionFor(store, { id: 'eeeeeeeeeeee', site: 'elsewhere' }), await store.version(), 'what everybody sees reaches a site of no node yet');
  });

  t.test('revoking, replacing and disabling are seen at once, and name what is not there', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa', { usesMax: 5 });
    await store.proofs.createGrant(token, BY);
    const { id } = await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
    t.equal((await store.setLeaf(id, { fingerprint: hexOf('new'), leaf: 'BBBB' }, NOW_MS)).fingerprint, hexOf('new'));
    t.equal((await store.setLeaf(id, null, NOW_MS)).fingerprint, null);
    t.equal((await store.setNode(id, { disabled: true }, null, { actor: 'admin', at_ms: NOW_MS })).disabled, true);
    t.match(await store.node(id), { fingerprint: null, leaf: null, disabled: true });
    await rejectsWith(t, store.setLeaf('ffffffffffff', null, NOW_MS), 'not_found');
    await rejectsWith(t, store.setNode('ffffffffffff', { disabled: true }, null, { actor: 'admin', at_ms: NOW_MS }), 'not_found');
    await rejectsWith(t, store.setEndpoints('ffffffffffff', [], NOW_MS), 'not_found');
    await rejectsWith(t, store.proofs.revokeGrant('token', 'ff', BY), 'not_found');
    t.equal(await store.node('ffffffffffff'), null);
  });

  t.test('every change has one audit row with its version, and the rows hold no token hash', async (t) => {
    const store = await maker.make(t);
    const token = tokenNamed('aa', { usesMax: 5 });
    await store.proofs.createGrant(token, BY);
    await store.proofs.enroll(claimOf(token), nodeNamed('one'), NOW_MS);
    await store.proofs.revokeGrant('token', 'aa', BY);
    const rows = await store.audit(0, 10);
    t.strictSame(
      rows.map((row) => [row.version, row.action, row.subject]),
      [
        [1, 'token.create', 'aa'],
        [2, 'node.enroll', nodeNamed('one').id],
        [3, 'token.revoke', 'aa'],
      ],
    );
    t.notMatch(JSON.stringify(rows), token.hash);
    t.equal((await store.audit(2, 10)).length, 1);
  });

  t.test('parallel changes of every kind leave no gap in versions or audit', async (t) => {
    const store = await maker.make(t);
    const tokens = Array.from({ length: 20 }, (_, index) => tokenNamed(`t${index}`));
    await Promise.all(tokens.map((token) => store.proofs.createGrant(token, BY)));
    await Promise.all([...tokens.map((token, index) => store.proofs.enroll(claimOf(token), nodeNamed(`n${index}`), NOW_MS)), store.verifyAudit()]);
    t.equal(await store.version(), 40);
    await store.verifyAudit();
  });

  t.test('a closed store refuses every call', async (t) => {
    const store = await maker.make(t);
    await store.close();
    await store.close();
    await rejectsWith(t, store.version(), 'handle_closed');
    await rejectsWith(t, store.proofs.createGrant(tokenNamed('aa'), BY), 'handle_closed');
  });
}
