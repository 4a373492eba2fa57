/**
 * A cluster's authority as the tower holds it: root and intermediate certificates and the intermediate's signer. Both private keys are
 * sealed under names of their own, so that the root's can be taken offline: nothing here needs it once the intermediate is there.
 */
import { SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';
import { issueIntermediate, issueLeaf, issueRoot, type Issuing } from './ca.ts';
import { generateKeyPair } from './keys.ts';
import { createSealedSigner, localSigner, openSealedSigner, type SecretStore, type Signer } from './signer.ts';

/** Under which names the sealed store keeps an authority. */
export const authoritySecrets = {
  rootKey: 'ca/root.key',
  rootCertificate: 'ca/root.crt',
  intermediateKey: 'ca/intermediate.key',
  intermediateCertificate: 'ca/intermediate.crt',
} as const;

export interface Authority {
  /** DER. */
  readonly root: Uint8Array;
  readonly intermediate: Uint8Array;
  /** Signs with the intermediate's key: leaves and documents. Closed by whoever opened the authority. */
  readonly signer: Signer;
}

export interface AuthorityRequest extends Issuing {
  readonly cluster: string;
  /** Where both keys and certificates are sealed; without one they live in memory, for labs and tests. */
  readonly store?: SecretStore;
}

/** Makes a new cluster's root and intermediate. @throws file_exists if the store already holds an authority */
export async function createAuthority({ cluster, store, ...issuing }: AuthorityRequest): Promise<Authority> {
  const makeSigner = (name: string) => (store === undefined ? localSigner(generateKeyPair().privateKey) : createSealedSigner(store, name));
  const rootSigner = await makeSigner(authoritySecrets.rootKey);
  try {
    const signer = await makeSigner(authoritySecrets.intermediateKey);
    const root = await issueRoot({ ...issuing, cluster, signer: rootSigner });
    const intermediate = await issueIntermediate({ ...issuing, cluster, publicKey: signer.publicKey, issuer: root, signer: rootSigner });
    await store?.update({ [authoritySecrets.rootCertificate]: root, [authoritySecrets.intermediateCertificate]: intermediate });
    return { root, intermediate, signer };
  } finally {
    await rootSigner.close();
  }
}

/** The authority that `createAuthority` sealed. @throws not_found */
export function openAuthority(store: SecretStore): Authority {
  const root = sealed(store, authoritySecrets.rootCertificate);
  const intermediate = sealed(store, authoritySecrets.intermediateCertificate);
  return { root, intermediate, signer: openSealedSigner(store, authoritySecrets.intermediateKey) };
}

export interface ChainRequest extends Issuing {
  readonly identity: NodeIdentity;
  readonly publicKey: Uint8Array;
  readonly days?: number;
}

/** A leaf of this authority and its intermediate: the chain that its holder presents. */
export async function issueChain({ intermediate, signer }: Pick<Authority, 'intermediate' | 'signer'>, request: ChainRequest): Promise<readonly Uint8Array[]> {
  return [await issueLeaf({ ...request, issuer: intermediate, signer }), intermediate];
}

function sealed(store: SecretStore, name: string): Uint8Array {
  const bytes = store.get(name);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'sealed certificate', name });
  return bytes;
}
