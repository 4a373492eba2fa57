/**
 * `Signer`: who signs, without saying where the key is (spec 1.1). Issuing needs nothing else of a key, so that a token or a cloud
 * key service can stand here as well as the sealed local key.
 */
import { SelvedgeError } from '../base/errors.ts';
import { signAside } from './aside.ts';
import { generateKeyPair, importPrivateKey } from './keys.ts';

export interface Signer {
  /** ECDSA on P-256 with SHA-256. */
  readonly algorithm: 'ES256';
  /** SubjectPublicKeyInfo DER. */
  readonly publicKey: Uint8Array;
  /** Hashes and signs `data`. The signature is DER (`ECDSA-Sig-Value`), as X.509 wants it. @throws handle_closed */
  sign(data: Uint8Array): Promise<Uint8Array>;
  /** Lets go of the key. Idempotent. */
  close(): Promise<void>;
}

/** Where named secrets are kept: what a signer needs of the sealed store. */
export interface SecretStore {
  get(name: string): Uint8Array | null;
  update(changes: Readonly<Record<string, Uint8Array | null>>): Promise<void>;
}

/** Signs with a PKCS#8 private key held in this process. */
export function localSigner(privateKey: Uint8Array): Signer {
  const imported = importPrivateKey(privateKey);
  let key: typeof imported.key | null = imported.key;
  return {
    algorithm: 'ES256',
    publicKey: imported.publicKey,
    async sign(data) {
      if (key === null) throw new SelvedgeError('handle_closed', { what: 'signer' });
      return await signAside(data, key);
    },
    async close() {
      key = null;
    },
  };
}

/** Signs with the key sealed under `name`. @throws not_found */
export function openSealedSigner(store: SecretStore, name: string): Signer {
  const privateKey = store.get(name);
  if (privateKey === null) throw new SelvedgeError('not_found', { what: 'sealed key', name });
  return localSigner(privateKey);
}

/** Makes a new key, seals it under `name` and signs with it. @throws file_exists rather than replace a key */
export async function createSealedSigner(store: SecretStore, name: string): Promise<Signer> {
  if (store.get(name) !== null) throw new SelvedgeError('file_exists', { path: `sealed key ${name}` });
  const { privateKey } = generateKeyPair();
  await store.update({ [name]: privateKey });
  return localSigner(privateKey);
}
