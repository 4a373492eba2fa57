/** The trust bundle: the roots that a cluster trusts now, and its version. As JSON inside a snapshot, or as bytes of its own. */
import { X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { fromBase64, toBase64 } from './base64.ts';
import { p256Objection } from './keys.ts';

export interface TrustBundle {
  /** Grows with each change, from 1. */
  readonly version: number;
  /** DER. */
  readonly roots: readonly Uint8Array[];
}

/** The bundle as it stands in JSON: roots in base64. */
export interface TrustBundleJson {
  readonly version: number;
  readonly roots: readonly string[];
}

export function trustBundleToJson({ version, roots }: TrustBundle): TrustBundleJson {
  return { version, roots: roots.map(toBase64) };
}

/** @throws document_invalid */
export function trustBundleFromJson(json: unknown): TrustBundle {
  if (typeof json !== 'object' || json === null || !('version' in json) || !('roots' in json)) throw refused('version or roots are missing');
  const { version, roots } = json;
  if (typeof version !== 'number' || !Number.isSafeInteger(version) || version < 1) throw refused('its version is not a whole number from 1');
  if (!Array.isArray(roots) || roots.length < 1 || roots.length > limits.trust_roots_max)
    throw refused(`it does not hold 1 to ${limits.trust_roots_max} roots`);
  return { version, roots: roots.map(readRoot) };
}

export function encodeTrustBundle(bundle: TrustBundle): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(trustBundleToJson(bundle)));
}

/** @throws document_invalid */
export function decodeTrustBundle(bytes: Uint8Array): TrustBundle {
  if (bytes.length > limits.trust_bundle_bytes_max) throw refused(`${bytes.length} bytes long, at most ${limits.trust_bundle_bytes_max} allowed`);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw refused('not JSON', error);
  }
  return trustBundleFromJson(json);
}

/** Why these bytes cannot be a root, or null if they can: a self-signed CA with a P-256 key. Whether to trust it is decided elsewhere. */
export function rootObjection(der: Uint8Array): string | null {
  try {
    const certificate = new X509Certificate(der);
    if (certificate.raw.length !== der.length) return 'bytes follow the certificate';
    if (!certificate.ca) return 'it is not a CA certificate';
    const objection = p256Objection(new Uint8Array(certificate.publicKey.export({ type: 'spki', format: 'der' })));
    if (objection !== null) return objection;
    return certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey) ? null : 'it is not signed by itself';
  } catch {
    return 'it is not a certificate';
  }
}

function readRoot(text: unknown, index: number): Uint8Array {
  const der = fromBase64(text, limits.certificate_bytes_max);
  const objection = der === null ? `it is not base64 of at most ${limits.certificate_bytes_max} bytes` : rootObjection(der);
  if (der === null || objection !== null) throw refused(`root ${index + 1}: ${objection}`);
  return der;
}

function refused(why: string, cause?: unknown): SelvedgeError {
  return new SelvedgeError('document_invalid', { what: 'trust bundle', why }, { cause });
}
