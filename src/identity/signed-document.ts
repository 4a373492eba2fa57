/**
 * Documents that a cluster's authority signs, such as snapshots: payload, signature and the signing intermediate in one envelope, which
 * is JSON. Whoever opens one needs the roots only. What the payload means is its reader's matter.
 *
 * The signature is ES256 (DER) over a label, the document's kind and the payload: so a signature for one kind is none for another, and
 * never one for a certificate, which the same key signs too.
 */
import { verify, X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { fromBase64, toBase64 } from './base64.ts';
import { intermediateObjection } from './profile.ts';
import type { Signer } from './signer.ts';

/** All in base64: the payload's bytes, the signature, and the DER of the signing intermediate, alone in its chain. */
export interface SignedDocument {
  readonly payload: string;
  readonly signature: string;
  readonly chain: readonly string[];
}

/** What is signed; each kind has signatures of its own. */
export type DocumentKind = 'snapshot' | 'site' | 'trust-bundle' | 'audit-head';

/** `intermediate` is the DER certificate of the signer's key. */
export async function signDocument(
  kind: DocumentKind,
  payload: Uint8Array,
  { signer, intermediate }: { signer: Signer; intermediate: Uint8Array },
): Promise<SignedDocument> {
  const signature = await signer.sign(signedBytes(kind, payload));
  return { payload: toBase64(payload), signature: toBase64(signature), chain: [toBase64(intermediate)] };
}

export interface OpenDocument {
  /** DER of the trust bundle. */
  readonly roots: readonly Uint8Array[];
  readonly now_ms: number;
  readonly payload_bytes_max: number;
}

/** The payload, once signer and signature are found good. @throws document_invalid */
export function openDocument(kind: DocumentKind, envelope: unknown, { roots, now_ms, payload_bytes_max }: OpenDocument): Uint8Array {
  const { payload, signature, signing } = readEnvelope(kind, envelope, payload_bytes_max);
  const certificate = parseCertificate(kind, signing);
  const objection = signerObjection(certificate, signing, roots, now_ms);
  if (objection !== null) throw refused(kind, objection);
  if (!isSignedBy(certificate, signedBytes(kind, payload), signature)) throw refused(kind, 'its signature does not match its content');
  return payload;
}

const SIGNATURE_BYTES_MAX = 72;

function readEnvelope(kind: DocumentKind, envelope: unknown, payload_bytes_max: number): { payload: Uint8Array; signature: Uint8Array; signing: Uint8Array } {
  if (typeof envelope !== 'object' || envelope === null || !('payload' in envelope && 'signature' in envelope && 'chain' in envelope)) {
    throw refused(kind, 'payload, signature or chain are missing');
  }
  if (!Array.isArray(envelope.chain) || envelope.chain.length !== 1) throw refused(kind, 'its chain is not one intermediate');
  const payload = fromBase64(envelope.payload, payload_bytes_max);
  if (payload === null) throw refused(kind, `its payload is not base64 of at most ${payload_bytes_max} bytes`);
  const signature = fromBase64(envelope.signature, SIGNATURE_BYTES_MAX);
  if (signature === null) throw refused(kind, 'its signature is not base64 of an ES256 signature');
  const signing = fromBase64(envelope.chain[0], limits.certificate_bytes_max);
  if (signing === null) throw refused(kind, `its chain is not base64 of at most ${limits.certificate_bytes_max} bytes`);
  return { payload, signature, signing };
}

function parseCertificate(kind: DocumentKind, der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der);
  } catch (error) {
    throw refused(kind, 'its chain is not a certificate', error);
  }
}

/** The path is always root, intermediate: one issuer to find, one signature to check, and our profile. */
function signerObjection(certificate: X509Certificate, der: Uint8Array, roots: readonly Uint8Array[], now_ms: number): string | null {
  if (!roots.some((root) => hasIssued(new X509Certificate(root), certificate))) return 'its signer does not lead to a trusted root';
  if (!certificate.ca) return 'its signer is not the cluster’s intermediate';
  if (now_ms < certificate.validFromDate.getTime()) return `its signer is not valid before ${certificate.validFrom}`;
  if (now_ms > certificate.validToDate.getTime()) return `its signer expired at ${certificate.validTo}`;
  return intermediateObjection(der);
}

function hasIssued(root: X509Certificate, certificate: X509Certificate): boolean {
  return root.ca && certificate.checkIssued(root) && certificate.verify(root.publicKey);
}

function isSignedBy(certificate: X509Certificate, bytes: Uint8Array, signature: Uint8Array): boolean {
  return verify('sha256', bytes, { key: certificate.publicKey, dsaEncoding: 'der' }, signature);
}

function signedBytes(kind: DocumentKind, payload: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.from(`selvedge signed document 1\n${kind}\n`), payload]);
}

function refused(kind: DocumentKind, why: string, cause?: unknown): SelvedgeError {
  return new SelvedgeError('document_invalid', { what: kind, why }, { cause });
}
