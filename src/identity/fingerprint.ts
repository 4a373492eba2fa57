/** Fingerprints: the SHA-256 of a certificate's DER, and the one way of printing and reading them, `sha256:HEX`. */
import { createHash } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import { fromHex, toHex } from '../base/ids.ts';

export function fingerprint(der: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(der).digest());
}

export function formatFingerprint(bytes: Uint8Array): string {
  return `sha256:${toHex(bytes)}`;
}

/** @throws argument_invalid unless `text` is `sha256:` and 64 hex digits */
export function parseFingerprint(text: string): Uint8Array {
  const match = /^sha256:([0-9a-fA-F]{64})$/.exec(text);
  const bytes = match?.[1] === undefined ? null : fromHex(match[1]);
  if (bytes === null) throw new SelvedgeError('argument_invalid', { name: 'fingerprint', why: `'${text}' is not sha256: followed by 64 hex digits` });
  return bytes;
}
