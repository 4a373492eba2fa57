/**
 * ECDSA with SHA-256 in a thread of the pool (P-256; signatures in DER, RFC 3279, section 2.2.3): whoever enrolls many nodes at once has other work for the one that
 * JavaScript runs in.
 */
import { type KeyObject, sign, verify } from 'node:crypto';

export function signAside(data: Uint8Array, key: KeyObject): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    // The key alone: Node looks for one in an object by catching an exception, which takes as long as the rest.
    sign('sha256', data, key, (error, signature) => {
      if (error) reject(error);
      else resolve(new Uint8Array(signature));
    });
  });
}

/** Whether `signature` is of this key and data. */
export function verifyAside(data: Uint8Array, key: KeyObject, signature: Uint8Array): Promise<boolean> {
  return new Promise((resolve, reject) => {
    verify('sha256', data, key, signature, (error, isGood) => {
      if (error) reject(error);
      else resolve(isGood);
    });
  });
}
