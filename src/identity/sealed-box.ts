/**
 * A secret sealed to somebody's public key: whoever holds the private key opens it, and nobody on the way, nor who replays the answer that
 * carried it, learns or changes anything. It says nothing of who sealed it: that is for what it came in (TLS, a signature) to say.
 *
 * On the wire: version 1, the one-time public key (65 octets), ciphertext with its tag (RFC 9180, see hpke.ts). What it is for is part of
 * the key, so that a box made for one purpose does not open as another.
 */
import { SelvedgeError } from '../base/errors.ts';
import { ENCAPSULATED_BYTES, hpkeOpen, hpkeSeal, type Sealed, TAG_BYTES } from './hpke.ts';
import { p256Objection } from './keys.ts';

/** How much longer a box is than what is in it. */
export const SEALED_BOX_BYTES_OVERHEAD = 1 + ENCAPSULATED_BYTES + TAG_BYTES;

/**
 * `purpose` names what the box is for and whom it concerns, such as `site token of NODE`: both ends say the same.
 * @throws sealed_box_invalid if `publicKey` (SubjectPublicKeyInfo DER) is not one of P-256
 */
export function sealBox(publicKey: Uint8Array, purpose: string, secret: Uint8Array): Uint8Array {
  const objection = p256Objection(publicKey);
  if (objection !== null) throw new SelvedgeError('sealed_box_invalid', { what: purpose, why: objection });
  const { encapsulated, ciphertext } = hpkeSeal(publicKey, contextOf(purpose), secret);
  return new Uint8Array(Buffer.concat([VERSION, encapsulated, ciphertext]));
}

/** With the private key (PKCS#8 DER). @throws sealed_box_invalid */
export function openBox(privateKey: Uint8Array, purpose: string, box: Uint8Array): Uint8Array {
  try {
    return hpkeOpen(privateKey, contextOf(purpose), parse(box));
  } catch (error) {
    // What OpenSSL says of it helps nobody; that it did not authenticate does.
    const why = error instanceof Refusal ? error.message : 'it was not sealed to this key for this purpose, or was changed';
    throw new SelvedgeError('sealed_box_invalid', { what: purpose, why }, { cause: error });
  }
}

const VERSION = Buffer.of(1);

class Refusal extends Error {}

function parse(box: Uint8Array): Sealed {
  if (box.length < SEALED_BOX_BYTES_OVERHEAD) throw new Refusal(`it has only ${box.length} octets`);
  if (box[0] !== VERSION[0]) throw new Refusal(`it has version ${box[0]}, this program knows ${VERSION[0]}`);
  return { encapsulated: box.subarray(1, 1 + ENCAPSULATED_BYTES), ciphertext: box.subarray(1 + ENCAPSULATED_BYTES) };
}

function contextOf(purpose: string): { info: Uint8Array; aad: Uint8Array } {
  return { info: Buffer.from(`selvedge sealed box 1\n${purpose}`), aad: VERSION };
}
