/** Operators' certificates and hosts': issued by one authority, and neither is ever taken for the other. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { operatorUri, parseOperatorUri, parseSpiffeUri, spiffeUri } from '../../../src/base/ids.ts';
import { issueIntermediate, issueLeaf, issueOperatorLeaf, issueRoot } from '../../../src/identity/ca.ts';
import { fingerprint } from '../../../src/identity/fingerprint.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { localSigner } from '../../../src/identity/signer.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import { type OperatorInput, verifyOperator } from '../../../src/identity/verify-operator.ts';

const NOW_MS = Date.UTC(2026, 10, 27, 12);
const DAY_MS = 86_400_000;
const random = { bytes: (length: number) => new Uint8Array(randomBytes(length)) };
const issuing = { now_ms: NOW_MS, random };
const OPERATOR = 'a0a0a0a0a0a0';

async function authority(cluster = 'alpha') {
  const rootSigner = localSigner(generateKeyPair().privateKey);
  const signer = localSigner(generateKeyPair().privateKey);
  const root = await issueRoot({ ...issuing, cluster, signer: rootSigner });
  const issuer = await issueIntermediate({ ...issuing, cluster, publicKey: signer.publicKey, issuer: root, signer: rootSigner });
  const { publicKey } = generateKeyPair();
  const leaf = await issueOperatorLeaf({ ...issuing, identity: { cluster, operator: OPERATOR }, publicKey, issuer, signer });
  const host = await issueLeaf({ ...issuing, identity: { cluster, site: 'north', node: OPERATOR }, publicKey, issuer, signer });
  return { root, issuer, leaf, host };
}

type Made = Awaited<ReturnType<typeof authority>>;

const inputOf = ({ root, issuer, leaf }: Made, more: Partial<OperatorInput> = {}): OperatorInput => ({
  chain: [leaf, issuer],
  roots: [root],
  cluster: 'alpha',
  now_ms: NOW_MS,
  recordedFingerprint: async () => fingerprint(leaf),
  ...more,
});

t.test('an operator’s leaf of a year is accepted as an operator’s, and by no channel, as client or server', async (t) => {
  const made = await authority();
  t.strictSame(await verifyOperator(inputOf(made)), { operator: OPERATOR, fingerprint: fingerprint(made.leaf), notAfter_ms: NOW_MS + 365 * DAY_MS });
  for (const usage of ['client', 'server'] as const) {
    const input = { chain: [made.leaf, made.issuer], roots: [made.root], cluster: 'alpha', now_ms: NOW_MS, usage };
    t.throws(() => verifyPeer({ ...input, recordedFingerprint: () => 'any' }), { code: 'certificate_invalid' }, usage);
  }
});

t.test('a host’s leaf is no operator’s, even with the operator’s id in it', async (t) => {
  const made = await authority();
  const chain = [made.host, made.issuer];
  verifyPeer({ chain, roots: [made.root], cluster: 'alpha', now_ms: NOW_MS, usage: 'client' });
  await t.rejects(verifyOperator(inputOf(made, { chain, recordedFingerprint: async () => fingerprint(made.host) })), { code: 'certificate_invalid' });
});

t.test('expired, not yet valid, of another root, of another cluster, and not the recorded one: each is refused', async (t) => {
  const made = await authority();
  const other = await authority();
  await t.rejects(verifyOperator(inputOf(made, { now_ms: NOW_MS + 366 * DAY_MS })), { code: 'certificate_invalid', message: /expired/ });
  await t.rejects(verifyOperator(inputOf(made, { now_ms: NOW_MS - DAY_MS })), { code: 'certificate_invalid', message: /not valid before/ });
  await t.rejects(verifyOperator(inputOf(other, { roots: [made.root] })), { code: 'certificate_invalid' });
  const foreign = await authority('beta');
  await t.rejects(verifyOperator(inputOf(foreign)), { code: 'wrong_cluster' }, 'its root were trusted here');
  for (const recorded of ['unknown', 'revoked', fingerprint(made.host)] as const)
    await t.rejects(verifyOperator(inputOf(made, { recordedFingerprint: async () => recorded })), { code: 'certificate_revoked' });
  await t.rejects(verifyOperator(inputOf(made, { chain: [] })), { code: 'certificate_invalid' });
  await t.rejects(verifyOperator(inputOf(made, { chain: [made.leaf] })), { code: 'certificate_invalid' });
  await t.rejects(verifyOperator(inputOf(made, { chain: [made.issuer, made.root] })), { code: 'certificate_invalid' });
});

t.test('the two forms of name never read as each other', (t) => {
  const uri = operatorUri({ cluster: 'alpha', operator: OPERATOR });
  t.strictSame(parseOperatorUri(uri), { cluster: 'alpha', operator: OPERATOR });
  t.equal(parseSpiffeUri(uri), null);
  t.equal(parseOperatorUri(spiffeUri({ cluster: 'alpha', site: 'operator', node: OPERATOR })), null);
  for (const bad of [
    `${uri}/`,
    `${uri}0`,
    'spiffe://alpha/operator/tower',
    'spiffe://Alpha/operator/a0a0a0a0a0a0',
    `${uri}?x`,
    `https${uri.slice(6)}`,
    '',
    'spiffe://alpha//operator/a0a0a0a0a0a0',
  ])
    t.equal(parseOperatorUri(bad), null, bad);
  t.end();
});
