/** The suite of every proof of a platform: that of all proofs (proof.ts), and what records of a platform's hosts promise beside it. Each platform's test adds forgeries of its own. */
import type { Test } from 'tap';
import type { ErrorCode } from '../../src/base/errors.ts';
import type { PlatformKind } from '../../src/enroll/platform/grants.ts';
import type { Proof, ProofMaker } from '../../src/enroll/proof.ts';
import { makeTower } from '../unit/tower/support.ts';
import { allow, PEER, type ProofSuite, proofCompliance, requestOf, SITE } from './proof.ts';
import { rejectsWith } from './store.ts';

const HOUR_MS = 3_600_000;

type Facts = Readonly<Record<string, string>>;

export interface PlatformSuite {
  readonly proof: Proof;
  /** Two hosts that the platform knows apart, and one of somebody else. */
  readonly first: ProofMaker;
  readonly second: ProofMaker;
  readonly stranger: ProofMaker;
  /** What both first and second are, and what only the first is. */
  readonly both: Facts;
  readonly onlyFirst: Facts;
  /** Of evidence that was made for another nonce or key. */
  readonly unbound: ErrorCode;
  readonly forgeries: ProofSuite['forgeries'];
}

export function platformCompliance(t: Test, given: PlatformSuite): void {
  const { proof, first, second, stranger, both, onlyFirst, unbound, forgeries } = given;
  const kind = proof.kind as PlatformKind;

  proofCompliance(t, {
    kind,
    proofs: [proof],
    async make(_t, tower) {
      const { id } = await tower.hosts.add({ kind, facts: both, site: SITE, uses: 1, life_ms: HOUR_MS }, 'test');
      const uses = async () => (await tower.hosts.page([kind], { after: null, limit: 100 })).find((row) => row.id === id)?.uses ?? -1;
      return { maker: first, other: stranger, revoke: () => tower.hosts.revoke(kind, id, null, 'test'), uses };
    },
    unbound,
    forgeries: {
      'evidence with more in it': [(evidence) => ({ ...evidence, extra: 1 }), 'request_invalid'],
      'no evidence': [() => ({}), 'request_invalid'],
      'nil evidence': [(evidence) => Object.fromEntries(Object.keys(evidence).map((key) => [key, null])), 'request_invalid'],
      ...forgeries,
    },
    codes: {
      // A moved clock would end the evidence of AWS before its record: see below.
      expired: null,
      revoked: 'proof_revoked',
      exhausted: 'proof_exhausted',
      other: 'platform_unmatched',
      nodeRevoked: 'proof_exhausted',
    },
  });

  t.test(`${kind}: a record of several hosts takes each of them once, and one of a host takes that host alone`, async (t) => {
    const tower = await makeTower(t, { proofs: [proof] });
    await allow(tower, kind);
    const enter = async (maker: ProofMaker, name: string) => await tower.enroll((await requestOf(tower, maker, { name })).request, PEER);
    const record = (facts: Facts, more: object) => tower.hosts.add({ kind, facts, site: SITE, ...more }, 'test');
    const wide = await record(both, { uses: 5 });
    const { node } = await enter(first, 'one');
    await rejectsWith(t, enter(first, 'twin'), 'proof_exhausted');
    t.not((await enter(second, 'two')).node, node);
    await tower.hosts.remove(kind, wide.id, null, 'test');
    const past = await record(both, { uses: 5, life_ms: 1 });
    await rejectsWith(t, enter(first, 'late'), 'proof_expired');
    await tower.hosts.remove(kind, past.id, null, 'test');
    const narrow = await record(onlyFirst, { name: 'named' });
    await rejectsWith(t, enter(second, 'three'), 'platform_unmatched');
    t.equal((await enter(first, 'four')).name, 'named');
    await record(both, { uses: 5 });
    await tower.hosts.revoke(kind, narrow.id, null, 'test');
    await rejectsWith(t, enter(first, 'five'), 'proof_revoked');
    t.ok((await enter(second, 'six')).node, 'the record of one host decides before that of many, for that host');
  });
}
