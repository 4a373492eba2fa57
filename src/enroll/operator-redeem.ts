/** Redeems a bundle: a key that never leaves this host, a request, and an answer that is believed only when the pinned root vouches for it. */
import { X509Certificate } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { Type } from 'typebox';
import { assert, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { toBase64 } from '../identity/base64.ts';
import { createCsr } from '../identity/csr.ts';
import { fingerprint, parseFingerprint } from '../identity/fingerprint.ts';
import { generateKeyPair, importPrivateKey } from '../identity/keys.ts';
import { verifyOperator } from '../identity/verify-operator.ts';
import { type Answer, post, type TowerAddress } from './https.ts';
import type { Bundle } from './operator-bundle.ts';
import { type OperatorIdentityFile, readOperatorIdentity, writeOperatorIdentity } from './operator-identity.ts';
import { bytesOf, CertificateText, checker, readJson } from './wire.ts';

/** What is needed of the answer; more may be in it. */
const AnswerSchema = Type.Object({ chain: Type.Array(CertificateText, { minItems: 2, maxItems: limits.certificate_chain_certs_max }) });
const checkAnswer = checker(AnswerSchema);

const REDEEM_MS_MAX = 30_000;

/** What the tower says of a bundle that is worth nothing, to this key, any more. */
const final: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['bundle_invalid', 'bundle_expired', 'bundle_redeemed', 'operator_revoked']);

export interface RedeemRequest {
  readonly bundle: Bundle;
  /** The file to make; one that an interrupted redeeming left is gone on with. */
  readonly path: string;
  /** In the place of those that the bundle names. */
  readonly tower?: TowerAddress;
  readonly now_ms: () => number;
}

/** @throws file_exists, bundle_…, network_unreachable, fingerprint_mismatch, certificate_invalid */
export async function redeemBundle({ bundle, path, tower, now_ms }: RedeemRequest): Promise<OperatorIdentityFile> {
  const begun = await begin(bundle, path);
  const towers = tower === undefined ? bundle.towers.map(({ host, tcp }) => ({ host, port: tcp })) : [tower];
  const { root, body } = await askFirst(bundle, begun, towers, now_ms).catch(async (error: unknown) => {
    // No answer can follow: a key that nothing will ever certify is not left lying about.
    if (error instanceof SelvedgeError && final.has(error.code)) await rm(path, { force: true });
    throw error;
  });
  assert(root !== null, 'the tower was known by its root');
  const { chain } = readJson(body, limits.api_body_bytes_max, checkAnswer);
  await checkMine(begun, [root], chain, now_ms());
  const made = { ...begun, chain };
  await writeOperatorIdentity(path, made);
  return made;
}

/** The key and the request, on disk before anybody is asked. */
async function begin({ cluster, fingerprint: root, towers, operator, name }: Bundle, path: string): Promise<OperatorIdentityFile> {
  const found = await readOperatorIdentity(path);
  if (found !== null) {
    if (found.chain.length > 0 || found.operator !== operator || found.fingerprint !== root) throw new SelvedgeError('file_exists', { path });
    return found;
  }
  const { privateKey } = generateKeyPair();
  const csr = toBase64(createCsr(privateKey));
  const made = { format: 1 as const, cluster, fingerprint: root, towers, operator, name, key: toBase64(privateKey), csr, chain: [] };
  await writeOperatorIdentity(path, made);
  return made;
}

/** The first tower that can be reached answers for all. */
async function askFirst(bundle: Bundle, { csr }: OperatorIdentityFile, towers: readonly TowerAddress[], now_ms: () => number): Promise<Answer> {
  const { cluster, operator, secret } = bundle;
  let unreachable = new SelvedgeError('network_unreachable', { peer: 'the tower', why: 'the bundle names no address; give one with --tower' });
  for (const { host, port } of towers) {
    try {
      return await post(
        { host, port, cluster, fingerprint: parseFingerprint(bundle.fingerprint) },
        {
          path: '/v1/operators/redeem',
          body: new TextEncoder().encode(JSON.stringify({ operator, secret, csr })),
          answer_bytes_max: limits.api_body_bytes_max,
          now_ms,
          signal: AbortSignal.timeout(REDEEM_MS_MAX),
        },
      );
    } catch (error) {
      if (!(error instanceof SelvedgeError) || error.code !== 'network_unreachable') throw error;
      unreachable = error;
    }
  }
  throw unreachable;
}

/** Of this operator, for this key, by the roots that it knows. @throws certificate_invalid, wrong_cluster */
export async function checkMine(
  { cluster, operator, key }: OperatorIdentityFile,
  roots: readonly Uint8Array[],
  texts: readonly string[],
  now_ms: number,
): Promise<void> {
  const chain = texts.map((text) => bytesOf(text, limits.certificate_bytes_max, '/chain'));
  const [leaf = new Uint8Array()] = chain;
  const verified = await verifyOperator({ chain, roots, cluster, now_ms, recordedFingerprint: async () => fingerprint(leaf) });
  const { publicKey } = importPrivateKey(bytesOf(key, limits.certificate_bytes_max, '/key'));
  const theirs = new Uint8Array(new X509Certificate(leaf).publicKey.export({ type: 'spki', format: 'der' }));
  if (verified.operator !== operator || !equalBytes(theirs, publicKey))
    throw new SelvedgeError('certificate_invalid', { peer: 'this operator', why: 'the tower answered with somebody else’s' });
}
