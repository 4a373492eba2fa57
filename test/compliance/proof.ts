/**
 * The suite that every `Proof` passes, at a real tower: taken when right; refused with its code when forged, expired, replayed on another connection with another
 * request, of another host, after its node or itself was revoked, over its limit, switched off at the site; and a lost answer costs nothing.
 */
import { createHash, sign } from 'node:crypto';
import type { Test } from 'tap';
import type { ErrorCode } from '../../src/base/errors.ts';
import { challengeDigest, type Proof, type ProofKind, type ProofMaker } from '../../src/enroll/proof.ts';
import type { EnrollAnswer, EnrollRequest } from '../../src/enroll/wire.ts';
import { createCsr } from '../../src/identity/csr.ts';
import { generateKeyPair, importPrivateKey, type KeyPair } from '../../src/identity/keys.ts';
import { verifyPeer } from '../../src/identity/verify.ts';
import { systemClock } from '../../src/transport/system.ts';
import type { Tower } from '../../src/tower/tower.ts';
import { makeTower, shiftedClock } from '../unit/tower/support.ts';
import { rejectsWith } from './store.ts';

export const SITE = 'north';
export const PEER = '192.0.2.1';
const HOUR_MS = 3_600_000;

/** A host with all that it needs for one proof. */
export interface ProvingHost {
  readonly maker: ProofMaker;
  /** What another host makes that has got hold of what can be copied. */
  readonly other: ProofMaker;
  /** Whose public key the request is of; absent: a new one. */
  readonly key?: KeyPair;
  /** Ends what it enrolls by. */
  revoke(): Promise<unknown>;
  /** How often it was used. */
  uses(): Promise<number>;
}

type Evidence = Readonly<Record<string, unknown>>;

export interface ProofSuite {
  readonly kind: ProofKind;
  /** What the tower needs beside its own kinds. */
  readonly proofs?: readonly Proof[];
  /** Of evidence under another request or challenge; `proof_invalid` unless told. */
  readonly unbound?: ErrorCode;
  /** Of what is switched off at a site that only the grant names; `proof_disabled` unless told. */
  readonly offUnnamed?: ErrorCode;
  /** Grants one host one use, good for an hour. */
  make(t: Test, tower: Tower): Promise<ProvingHost>;
  /** Ways in which evidence is false, by what they are. */
  readonly forgeries: Readonly<Record<string, readonly [(evidence: Evidence) => Evidence, ErrorCode]>>;
  /** With which code each is refused; null where the kind has no such thing. */
  readonly codes: Readonly<Record<'expired' | 'revoked' | 'exhausted' | 'other' | 'nodeRevoked', ErrorCode | null>>;
}

/** A request with evidence for it, as a node makes it. */
export async function requestOf(tower: Tower, maker: ProofMaker, { name = 'one', key = generateKeyPair() }: { name?: string; key?: KeyPair } = {}) {
  const csr = createCsr(key.privateKey);
  return { csr, ...(await proved(tower, maker, csr, name, key)) };
}

async function proved(tower: Tower, maker: ProofMaker, csr: Uint8Array, name: string, key: KeyPair): Promise<{ request: EnrollRequest; evidence: Evidence }> {
  const nonce = maker.isBound ? tower.challenge().nonce : null;
  const csrHash = createHash('sha256').update(csr).digest();
  const signer = (data: Uint8Array) => new Uint8Array(sign('sha256', data, { key: importPrivateKey(key.privateKey).key, dsaEncoding: 'der' }));
  const challenge = nonce === null ? null : { nonce, csrHash, digest: challengeDigest(maker.kind, tower.cluster, nonce, csrHash), sign: signer };
  const evidence = await maker.make(challenge);
  const proof = { ...evidence, kind: maker.kind, ...(nonce !== null && { nonce }) };
  return { evidence, request: { proof, csr: Buffer.from(csr).toString('base64'), name, site: SITE, listen: [] } };
}

export async function allow(tower: Tower, ...proofs: ProofKind[]): Promise<void> {
  await tower.resources.create('site', SITE, { proofs, x509_binding: 'system-ca' }, 'test');
}

export function judge(tower: Tower, answer: EnrollAnswer) {
  const chain = answer.chain.map((text) => new Uint8Array(Buffer.from(text, 'base64')));
  const { cluster, roots, recordedFingerprint } = tower;
  return verifyPeer({ chain, roots, cluster, now_ms: systemClock.wall(), usage: 'client', recordedFingerprint });
}

export function proofCompliance(
  t: Test,
  { kind, proofs = [], unbound = 'proof_invalid', offUnnamed = 'proof_disabled', make, forgeries, codes }: ProofSuite,
): void {
  const world = async (t: Test, allowed: readonly ProofKind[] = [kind]) => {
    const clock = shiftedClock();
    const tower = await makeTower(t, { clock, proofs });
    await allow(tower, ...allowed);
    return { clock, tower, host: await make(t, tower) };
  };
  const of = ({ key }: ProvingHost, name?: string) => ({ ...(key !== undefined && { key }), ...(name !== undefined && { name }) });

  t.test(`${kind}: what is right is taken, counted once, and gives a certificate for the key of the request`, async (t) => {
    const { tower, host } = await world(t);
    const before = await host.uses();
    const { request } = await requestOf(tower, host.maker, of(host));
    const answer = await tower.enroll(request, PEER);
    t.match(judge(tower, answer).identity, { cluster: 'alpha', site: SITE, node: answer.node });
    t.equal(await host.uses(), before + 1);
  });

  t.test(`${kind}: a lost answer is asked for again with the same request and is the same, without another use`, async (t) => {
    const { tower, host } = await world(t);
    const key = host.key ?? generateKeyPair();
    const { csr, request } = await requestOf(tower, host.maker, { key });
    const first = await tower.enroll(request, PEER);
    const before = await host.uses();
    const again = await tower.enroll((await proved(tower, host.maker, csr, 'one', key)).request, PEER);
    t.equal(again.node, first.node);
    t.strictSame(again.chain, first.chain);
    t.equal(await host.uses(), before);
    const both = await Promise.all([1, 2, 3].map(async () => await tower.enroll((await proved(tower, host.maker, csr, 'one', key)).request, PEER)));
    t.strictSame(new Set(both.map(({ node }) => node)), new Set([first.node]));
  });

  for (const [what, [change, code]] of Object.entries(forgeries)) {
    t.test(`${kind}: ${what} is ${code}, and nothing is used`, async (t) => {
      const { tower, host } = await world(t);
      const [before, nodes] = [await host.uses(), (await tower.nodes()).length];
      const { request, evidence } = await requestOf(tower, host.maker, of(host));
      const { nonce } = request.proof;
      const forged = { ...request, proof: { ...change(evidence), kind, ...(nonce !== undefined && { nonce }) } };
      await rejectsWith(t, tower.enroll(forged, PEER), code);
      t.equal(await host.uses(), before);
      t.equal((await tower.nodes()).length, nodes);
    });
  }

  t.test(`${kind}: a request that was recorded is worth nothing: neither again, nor under another request or challenge`, async (t) => {
    const { tower, host } = await world(t);
    if (!host.maker.isBound) {
      t.pass('not bound: a use is what it costs');
      return;
    }
    const { request } = await requestOf(tower, host.maker, of(host));
    const stolen = { ...request, csr: Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64'), name: 'thief' };
    await rejectsWith(t, tower.enroll(stolen, '198.51.100.7'), unbound);
    await rejectsWith(t, tower.enroll({ ...request, proof: { ...request.proof, nonce: tower.challenge().nonce } }, PEER), unbound);
    const { nonce: _nonce, ...without } = request.proof;
    await rejectsWith(t, tower.enroll({ ...request, proof: without }, PEER), 'request_invalid');
    await rejectsWith(t, tower.enroll({ ...request, proof: { ...request.proof, nonce: 'A'.repeat(54) } }, PEER), 'nonce_invalid');
    await tower.enroll(request, PEER);
    await rejectsWith(t, tower.enroll(request, PEER), 'proof_replayed');
    await rejectsWith(t, tower.enroll(stolen, '198.51.100.7'), 'proof_replayed');
  });

  t.test(`${kind}: a challenge that is answered too late is nonce_invalid`, async (t) => {
    const { tower, host, clock } = await world(t);
    if (!host.maker.isBound) {
      t.pass('not bound');
      return;
    }
    const { request } = await requestOf(tower, host.maker, of(host));
    clock.offset_ms = 61_000;
    await rejectsWith(t, tower.enroll(request, PEER), 'nonce_invalid');
  });

  refusal('of another host', 'other', async (_world, host) => ({ maker: host.other }));
  refusal('after it was revoked', 'revoked', async (_world, host) => {
    await host.revoke();
    return { maker: host.maker };
  });
  refusal('after its time', 'expired', async ({ clock }, host) => {
    clock.offset_ms = 2 * HOUR_MS;
    return { maker: host.maker };
  });
  refusal('over its limit', 'exhausted', async ({ tower }, host) => {
    await tower.enroll((await requestOf(tower, host.maker, of(host))).request, PEER);
    return { maker: host.maker };
  });
  refusal('after its node was revoked', 'nodeRevoked', async ({ tower }, host) => {
    const { node } = await tower.enroll((await requestOf(tower, host.maker, of(host))).request, PEER);
    await tower.revokeNode(node);
    return { maker: host.maker };
  });

  function refusal(
    what: string,
    name: keyof ProofSuite['codes'],
    prepare: (world: { tower: Tower; clock: { offset_ms: number } }, host: ProvingHost) => Promise<{ maker: ProofMaker }>,
  ): void {
    const code = codes[name];
    if (code === null) return;
    t.test(`${kind}: ${what} it is ${code}`, async (t) => {
      const { host, ...rest } = await world(t);
      const { maker } = await prepare(rest, host);
      const before = await host.uses();
      await rejectsWith(t, rest.tower.enroll((await requestOf(rest.tower, maker, { ...of(host), name: 'two' })).request, PEER), code);
      t.equal(await host.uses(), before);
    });
  }

  t.test(`${kind}: a site that has not switched it on refuses it with proof_disabled`, async (t) => {
    const { tower, host } = await world(t, []);
    const before = await host.uses();
    const { request } = await requestOf(tower, host.maker, of(host));
    await rejectsWith(t, tower.enroll(request, PEER), 'proof_disabled');
    const { site: _site, ...unnamed } = (await requestOf(tower, host.maker, of(host))).request;
    await rejectsWith(t, tower.enroll(unnamed, PEER), offUnnamed);
    t.equal(await host.uses(), before);
  });
}
