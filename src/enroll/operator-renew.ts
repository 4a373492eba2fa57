/**
 * An operator renews its certificate: a new key, on disk before anybody is asked, and an answer that counts only when the root that this operator knows vouches for
 * it. Until the new one is shown, the old one goes on; interrupted anywhere, the same command finishes what was begun.
 *
 * While the cluster moves to another root the new certificate is under that: it counts by the bundle of roots that comes with it, which the root that is known vouches for, and by
 * each of which the tower may be known from then on.
 */
import { Type } from 'typebox';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { toBase64 } from '../identity/base64.ts';
import { createCsr } from '../identity/csr.ts';
import { fingerprint, formatFingerprint, parseFingerprint } from '../identity/fingerprint.ts';
import { generateKeyPair } from '../identity/keys.ts';
import { openDocument } from '../identity/signed-document.ts';
import { decodeTrustBundle } from '../identity/trust-bundle.ts';
import { type OperatorIdentityFile, readOperatorIdentity, writeOperatorIdentity } from './operator-identity.ts';
import { checkMine } from './operator-redeem.ts';
import { bytesOf, CertificateText, checker, EnvelopeSchema } from './wire.ts';

/** What is needed of the answer; more may be in it. */
const checkAnswer = checker(
  Type.Object({
    chain: Type.Array(CertificateText, { minItems: 2, maxItems: limits.certificate_chain_certs_max }),
    root: CertificateText,
    trust: Type.Optional(EnvelopeSchema),
  }),
);

export interface OperatorRenewal {
  /** The identity file. */
  readonly path: string;
  readonly now_ms: () => number;
  /** Sends the request to the tower, as the operator of the file, and hands over what it answers. */
  readonly ask: (csr: string) => Promise<unknown>;
}

/** The identity as it is in the file now. @throws not_found, identity_file_invalid, fingerprint_mismatch, document_invalid, certificate_invalid, request_invalid, and what `ask` throws */
export async function renewOperatorIdentity({ path, now_ms, ask }: OperatorRenewal): Promise<OperatorIdentityFile> {
  const found = await readOperatorIdentity(path);
  if (found === null) throw new SelvedgeError('not_found', { what: 'identity file', name: path });
  const { renewal = makeRequest(), ...before } = found;
  await writeOperatorIdentity(path, { ...before, renewal });
  const { chain, root: text, trust } = checkAnswer(await ask(renewal.csr));
  const { roots: others, ...kept } = before;
  const root = pinned(text, [before.fingerprint, ...(others ?? [])]);
  const roots = trust === undefined ? [root] : rootsIn(trust, root, now_ms());
  const [known, ...more] = [root, ...roots.filter((other) => !equalBytes(other, root))].map((der) => formatFingerprint(fingerprint(der)));
  const renewed = { ...kept, ...renewal, chain, fingerprint: known ?? before.fingerprint, ...(more.length > 0 && { roots: more }) };
  await checkMine(renewed, roots, chain, now_ms());
  await writeOperatorIdentity(path, renewed);
  return renewed;
}

function makeRequest(): { key: string; csr: string } {
  const { privateKey } = generateKeyPair();
  return { key: toBase64(privateKey), csr: toBase64(createCsr(privateKey)) };
}

function pinned(text: string, expected: readonly string[]): Uint8Array {
  const root = bytesOf(text, limits.certificate_bytes_max, '/root');
  const found = fingerprint(root);
  if (expected.some((known) => equalBytes(found, parseFingerprint(known)))) return root;
  throw new SelvedgeError('fingerprint_mismatch', { found: formatFingerprint(found), expected: expected.join(' or ') });
}

/** The roots of the bundle that this one vouches for. @throws document_invalid */
function rootsIn(envelope: unknown, root: Uint8Array, now_ms: number): readonly Uint8Array[] {
  return decodeTrustBundle(openDocument('trust-bundle', envelope, { roots: [root], now_ms, payload_bytes_max: limits.trust_bundle_bytes_max })).roots;
}
