/**
 * Key pairs of the one kind that Selvedge uses, ECDSA on P-256, as bytes: PKCS#8 DER for the private, SubjectPublicKeyInfo DER for
 * the public half. Where private bytes are kept is the caller's matter: the sealed store, or memory.
 */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { equalBytes, toHex } from '../base/ids.ts';

export interface KeyPair {
  /** PKCS#8 DER. */
  readonly privateKey: Uint8Array;
  /** SubjectPublicKeyInfo DER. */
  readonly publicKey: Uint8Array;
}

export function generateKeyPair(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: 'prime256v1',
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  });
  return { privateKey: new Uint8Array(privateKey), publicKey: new Uint8Array(publicKey) };
}

/** Why these bytes are not the public key of a P-256 point in its one canonical form, or null if they are. */
export function p256Objection(publicKey: Uint8Array): string | null {
  if (publicKey.length !== P256_SPKI_BYTES || !equalBytes(publicKey.subarray(0, P256_SPKI_HEAD.length), P256_SPKI_HEAD)) {
    return 'its key is not an uncompressed point of P-256, the only kind accepted';
  }
  return isOnCurve(publicKey.subarray(P256_SPKI_HEAD.length)) ? null : 'its key is not a point of P-256';
}

/** The public key of an uncompressed point, as tokens give it. Throws (a plain error) on anything else. */
export function spkiOfPoint(point: Uint8Array): Uint8Array {
  const publicKey = Uint8Array.of(...P256_SPKI_HEAD, ...point.subarray(1));
  const objection = point[0] === 4 ? p256Objection(publicKey) : 'its key is compressed';
  if (objection !== null) throw new Error(objection);
  return publicKey;
}

/** The key object of a PKCS#8 private key, and its public half. Throws on anything but P-256: such bytes never come from outside. */
export function importPrivateKey(privateKey: Uint8Array): { key: KeyObject; publicKey: Uint8Array } {
  const key = createPrivateKey({ key: Buffer.from(privateKey), format: 'der', type: 'pkcs8' });
  const publicKey = new Uint8Array(createPublicKey(key).export({ type: 'spki', format: 'der' }));
  const objection = p256Objection(publicKey);
  if (objection !== null) throw new Error(`private key: ${objection}`);
  return { key, publicKey };
}

/** The uncompressed point (65 octets) of a public key in its canonical form. */
export function pointOf(publicKey: Uint8Array): Uint8Array {
  return publicKey.subarray(P256_SPKI_HEAD.length - 1);
}

/** The other way. Whether the point is on the curve shows when the key is imported. */
export function publicKeyOf(point: Uint8Array): Uint8Array {
  const head = P256_SPKI_HEAD.subarray(0, -1);
  const publicKey = new Uint8Array(head.length + point.length);
  publicKey.set(head);
  publicKey.set(point, head.length);
  return publicKey;
}

/** SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING 04 …}: the same 27 octets before every such point (RFC 5480). */
const P256_SPKI_HEAD = new Uint8Array(Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'));
const P256_SPKI_BYTES = P256_SPKI_HEAD.length + 64;

/** FIPS 186-4, D.1.2.3: the field, and the curve y² = x³ - 3x + b over it. */
const FIELD = 2n ** 256n - 2n ** 224n + 2n ** 192n + 2n ** 96n - 1n;
const CURVE_B = 0x5ac635d8aa3a93e7b3ebbd55769886bc651d06b0cc53b0f63bce3c3e27d2604bn;

/** Public numbers only, so that it need not take the same time for all; OpenSSL's import takes twenty times as long. */
function isOnCurve(point: Uint8Array): boolean {
  const [x, y] = [point.subarray(0, 32), point.subarray(32)].map((number) => BigInt(`0x${toHex(number)}`));
  return x !== undefined && y !== undefined && x < FIELD && y < FIELD && (y * y - x * x * x + 3n * x - CURVE_B) % FIELD === 0n;
}
