/**
 * An operator's identity on its own host: key, certificate chain, and the root by which it knows its tower, in one file that is its owner's alone (0600). The key is made
 * here and written before the bundle is redeemed, so that an answer which was lost is asked for again with the same request.
 */
import { stat } from 'node:fs/promises';
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { readFileBounded, writeFileAtomic } from '../identity/files.ts';
import { closed, Label, NodeId } from './shapes.ts';
import { CertificateText, checker, CsrText, EndpointsSchema, readJson } from './wire.ts';

const KeyText = Type.String({ minLength: 4, maxLength: 1024, pattern: '^[A-Za-z0-9+/]+={0,2}$' });
const OperatorIdentitySchema = closed({
  format: Type.Literal(1),
  cluster: Label,
  /** Of the cluster's root: `sha256:HEX`. */
  fingerprint: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }),
  /** Of other roots by one of which the tower may be known instead: while the cluster moves from one to another. */
  roots: Type.Optional(Type.Array(Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }), { minItems: 1, maxItems: limits.trust_roots_max })),
  towers: EndpointsSchema,
  operator: NodeId,
  name: Label,
  /** PKCS#8 in base64. */
  key: KeyText,
  csr: CsrText,
  /** Leaf, intermediate; none until the bundle is redeemed. */
  chain: Type.Array(CertificateText, { maxItems: limits.certificate_chain_certs_max }),
  /** Of a renewal that has begun: asked again after a lost answer with the same request. */
  renewal: Type.Optional(closed({ key: KeyText, csr: CsrText })),
});
export type OperatorIdentityFile = Static<typeof OperatorIdentitySchema>;

const check = checker(OperatorIdentitySchema);

/** Null where there is no such file. @throws identity_file_invalid */
export async function readOperatorIdentity(path: string): Promise<OperatorIdentityFile | null> {
  const invalid = (why: string, cause?: unknown) => new SelvedgeError('identity_file_invalid', { path, why }, { cause });
  const facts = await stat(path).catch((error: unknown) => {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return null;
    throw invalid(asSelvedgeError(error, 'internal_error').message, error);
  });
  if (facts === null) return null;
  if ((facts.mode & 0o077) !== 0) throw invalid(`its mode is 0${(facts.mode & 0o777).toString(8)}; others may read the key`);
  if (facts.uid !== process.getuid?.()) throw invalid('it is somebody else’s');
  try {
    const bytes = await readFileBounded(path, limits.operator_identity_file_bytes_max);
    return bytes === null ? null : readJson(bytes, limits.operator_identity_file_bytes_max, check);
  } catch (error) {
    throw invalid(asSelvedgeError(error, 'internal_error').message, error);
  }
}

/** @throws disk_full, permission_denied, not_found (the directory) */
export async function writeOperatorIdentity(path: string, identity: OperatorIdentityFile): Promise<void> {
  await writeFileAtomic(path, new TextEncoder().encode(`${JSON.stringify(identity, null, 2)}\n`));
}
