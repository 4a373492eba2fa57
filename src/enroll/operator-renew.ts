/**
 * An operator renews its certificate: a new key, on disk before anybody is asked, and an answer that counts only when the root that this operator knows vouches for
 * it. Until the new one is shown, the old one goes on; interrupted anywhere, the same command finishes what was begun.
 */
import { Type } from 'typebox';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { toBase64 } from '../identity/base64.ts';
import { createCsr } from '../identity/csr.ts';
import { fingerprint, formatFingerprint, parseFingerprint } from '../identity/fingerprint.ts';
import { generateKeyPair } from '../identity/keys.ts';
import { type OperatorIdentityFile, readOperatorIdentity, writeOperatorIdentity } from './operator-identity.ts';
import { checkMine } from './operator-redeem.ts';
import { bytesOf, CertificateText, checker } from './wire.ts';

/** What is needed of the answer; more may be in it. */
const checkAnswer = checker(
  Type.Object({ chain: Type.Array(CertificateText, { minItems: 2, maxItems: limits.certificate_chain_certs_max }), root: CertificateText }),
);

export interface OperatorRenewal {
  /** The identity file. */
  readonly path: string;
  readonly now_ms: () => number;
  /** Sends the request to the tower, as the operator of the file, and hands over what it answers. */
  readonly ask: (csr: string) => Promise<unknown>;
}

/** The identity as it is in the file now. @throws not_found, identity_file_invalid, fingerprint_mismatch, certificate_invalid, request_invalid, and what `ask` throws */
export async function renewOperatorIdentity({ path, now_ms, ask }: OperatorRenewal): Promise<OperatorIdentityFile> {
  const found = await readOperatorIdentity(path);
  if (found === null) throw new SelvedgeError('not_found', { what: 'identity file', name: path });
  const { renewal = makeRequest(), ...before } = found;
  await writeOperatorIdentity(path, { ...before, renewal });
  const { chain, root } = checkAnswer(await ask(renewal.csr));
  const renewed = { ...before, ...renewal, chain };
  await checkMine(renewed, pinned(root, before.fingerprint), chain, now_ms());
  await writeOperatorIdentity(path, renewed);
  return renewed;
}

function makeRequest(): { key: string; csr: string } {
  const { privateKey } = generateKeyPair();
  return { key: toBase64(privateKey), csr: toBase64(createCsr(privateKey)) };
}

function pinned(text: string, expected: string): Uint8Array {
  const root = bytesOf(text, limits.certificate_bytes_max, '/root');
  const found = fingerprint(root);
  if (equalBytes(found, parseFingerprint(expected))) return root;
  throw new SelvedgeError('fingerprint_mismatch', { found: formatFingerprint(found), expected });
}
