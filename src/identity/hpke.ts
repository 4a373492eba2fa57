/**
 * Hybrid public key encryption (RFC 9180), the one suite and mode that we need: DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, mode
 * base, one message for each encapsulated key. What may be sealed to whom, and its form on the wire, is sealed-box.ts's.
 */
import { createCipheriv, createDecipheriv, createECDH, createHmac, createPublicKey, diffieHellman, type KeyObject } from 'node:crypto';
import { importPrivateKey, pointOf, publicKeyOf } from './keys.ts';

/** Octets of an encapsulated key: an uncompressed point. */
export const ENCAPSULATED_BYTES = 65;
export const TAG_BYTES = 16;

export interface Context {
  /** What the two ends must agree on for the message to open. */
  readonly info: Uint8Array;
  /** Authenticated with the message; not encrypted. */
  readonly aad: Uint8Array;
}

export interface Sealed {
  /** The sender's one-time public key, as a point. */
  readonly encapsulated: Uint8Array;
  /** With its tag. */
  readonly ciphertext: Uint8Array;
}

/** For whoever holds the private half of `publicKey` (SubjectPublicKeyInfo, P-256, already checked). */
export function hpkeSeal(publicKey: Uint8Array, { info, aad }: Context, plain: Uint8Array): Sealed {
  // Its private half is made and used inside, and never exported.
  const oneTime = createECDH('prime256v1');
  const encapsulated = new Uint8Array(oneTime.generateKeys());
  const recipient = pointOf(publicKey);
  const shared = sharedSecret(oneTime.computeSecret(recipient), encapsulated, recipient);
  const { key, nonce } = schedule(shared, info);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
  return { encapsulated, ciphertext: Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]) };
}

/** Throws (a plain error) on anything but what was sealed to this key (PKCS#8) in this context. */
export function hpkeOpen(privateKey: Uint8Array, { info, aad }: Context, { encapsulated, ciphertext }: Sealed): Uint8Array {
  if (ciphertext.length < TAG_BYTES) throw new Error('too short');
  const own = importPrivateKey(privateKey);
  const shared = sharedSecret(agree(own.key, publicKeyOf(encapsulated)), encapsulated, pointOf(own.publicKey));
  const { key, nonce } = schedule(shared, info);
  const end = ciphertext.length - TAG_BYTES;
  const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(aad).setAuthTag(ciphertext.subarray(end));
  return new Uint8Array(Buffer.concat([decipher.update(ciphertext.subarray(0, end)), decipher.final()]));
}

const KEM_ID = [0x00, 0x10];
const KDF_ID = [0x00, 0x01];
const AEAD_ID = [0x00, 0x02];
const KEM_SUITE = Buffer.from([...Buffer.from('KEM'), ...KEM_ID]);
const HPKE_SUITE = Buffer.from([...Buffer.from('HPKE'), ...KEM_ID, ...KDF_ID, ...AEAD_ID]);
const MODE_BASE = Buffer.of(0);
const NOTHING = new Uint8Array();
const HASH_BYTES = 32;
const NONCE_BYTES = 12;

/** Importing the other's key checks that it is a point of the curve. */
function agree(privateKey: KeyObject, publicKey: Uint8Array): Uint8Array {
  return diffieHellman({ privateKey, publicKey: createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' }) });
}

/** Section 4.1: what both ends come to. */
function sharedSecret(secret: Uint8Array, encapsulated: Uint8Array, recipient: Uint8Array): Uint8Array {
  const extracted = labeledExtract(KEM_SUITE, NOTHING, 'eae_prk', secret);
  return labeledExpand(KEM_SUITE, extracted, 'shared_secret', Buffer.concat([encapsulated, recipient]), HASH_BYTES);
}

/** Section 5.1, without a pre-shared key; the nonce is that of the first message. */
function schedule(shared: Uint8Array, info: Uint8Array): { key: Uint8Array; nonce: Uint8Array } {
  const context = Buffer.concat([
    MODE_BASE,
    labeledExtract(HPKE_SUITE, NOTHING, 'psk_id_hash', NOTHING),
    labeledExtract(HPKE_SUITE, NOTHING, 'info_hash', info),
  ]);
  const secret = labeledExtract(HPKE_SUITE, shared, 'secret', NOTHING);
  return { key: labeledExpand(HPKE_SUITE, secret, 'key', context, HASH_BYTES), nonce: labeledExpand(HPKE_SUITE, secret, 'base_nonce', context, NONCE_BYTES) };
}

function labeledExtract(suite: Uint8Array, salt: Uint8Array, label: string, material: Uint8Array): Uint8Array {
  return createHmac('sha256', salt).update('HPKE-v1').update(suite).update(label).update(material).digest();
}

/** One block of HKDF-Expand (RFC 5869, section 2.3) is as much as this suite ever takes. */
function labeledExpand(suite: Uint8Array, key: Uint8Array, label: string, info: Uint8Array, length: number): Uint8Array {
  const block = createHmac('sha256', key).update(Buffer.of(0, length)).update('HPKE-v1').update(suite).update(label).update(info).update(Buffer.of(1));
  return block.digest().subarray(0, length);
}
