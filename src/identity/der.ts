/**
 * Bytes to ASN.1 objects and back, around @peculiar/asn1-schema. Reading is strict: what does not encode back to the very same
 * bytes was not DER, or held something that its reader would not see.
 */
import { AsnConvert } from '@peculiar/asn1-schema';
import { equalBytes } from '../base/ids.ts';

/** ECDSA with SHA-256 (RFC 5758, section 3.2): the one signature algorithm of our certificates and requests. */
export const ECDSA_WITH_SHA256 = '1.2.840.10045.4.3.2';

export function encodeDer(value: unknown): Uint8Array {
  return new Uint8Array(AsnConvert.serialize(value));
}

/** Throws (a plain error) on anything but the canonical encoding of a `type`. */
export function decodeDer<T>(der: Uint8Array, type: new () => T): T {
  const value = AsnConvert.parse(der, type);
  if (!equalBytes(encodeDer(value), der)) throw new Error('not in canonical form');
  return value;
}

/** The library wants buffers that begin where the bytes do. */
export function toArrayBuffer(bytes: Uint8Array): ArrayBuffer {
  const copy = new ArrayBuffer(bytes.length);
  new Uint8Array(copy).set(bytes);
  return copy;
}
