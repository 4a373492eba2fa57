/** A `Signer` whose key is in a PKCS#11 token: a hardware module, or SoftHSM2. The key never leaves it; only digests go there. */
import { createHash, createPublicKey, verify } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import { spkiOfPoint } from './keys.ts';
import { Pkcs11Process, type Pkcs11Token } from './pkcs11-process.ts';
import { derSignature } from './signature.ts';
import type { Signer } from './signer.ts';

export interface Pkcs11Key extends Pkcs11Token {
  /** Label of the key. */
  readonly key: string;
}

/** @throws signer_unavailable */
export async function openPkcs11Signer(where: Pkcs11Key): Promise<Signer> {
  const token = new Pkcs11Process(where);
  try {
    const publicKey = spkiOfPoint(await token.ask('public', where.key));
    return pkcs11Signer(token, where.key, publicKey);
  } catch (error) {
    await token.close();
    throw error;
  }
}

/** Makes the key in the token first. @throws signer_unavailable, also where there is one of that label */
export async function createPkcs11Signer(where: Pkcs11Key): Promise<Signer> {
  const token = new Pkcs11Process(where);
  try {
    await token.ask('generate', where.key);
  } finally {
    await token.close();
  }
  return await openPkcs11Signer(where);
}

function pkcs11Signer(token: Pkcs11Process, label: string, publicKey: Uint8Array): Signer {
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  return {
    algorithm: 'ES256',
    publicKey,
    async sign(data) {
      const signature = derSignature(await token.ask('sign', label, createHash('sha256').update(data).digest()));
      // Another token with the same labels may have been put in its place.
      if (!verify('sha256', data, { key, dsaEncoding: 'der' }, signature)) {
        throw new SelvedgeError('signer_unavailable', { what: `PKCS#11 key ${label}`, why: 'it is not the key that it was' });
      }
      return signature;
    },
    close: () => token.close(),
  };
}
