/**
 * A cluster's authority as the tower holds it: root and intermediate certificates and the intermediate's signer. Both private keys are
 * sealed under names of their own, so that the root's can be taken offline: nothing here needs it once the intermediate is there.
 */
import { X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';
import { issueIntermediate, issueLeaf, issueRoot, type Issuing } from './ca.ts';
import { generateKeyPair } from './keys.ts';
import { checkSignerPlace, openPlacedSigner, placedSigner, SEALED } from './signer-place.ts';
import { createSealedSigner, localSigner, openSealedSigner, type SecretStore, type Signer } from './signer.ts';

/** Under which names the sealed store keeps an authority. */
export const authoritySecrets = {
  rootKey: 'ca/root.key',
  rootCertificate: 'ca/root.crt',
  intermediateKey: 'ca/intermediate.key',
  intermediateCertificate: 'ca/intermediate.crt',
  /** Where a key is that is not sealed here; absent for one that is. */
  rootPlace: 'ca/root.place',
  intermediatePlace: 'ca/intermediate.place',
} as const;

type AuthorityNames = Readonly<Record<keyof typeof authoritySecrets, string>>;

/** Under which names the authority is sealed that is to follow, while the cluster moves from one root to another. */
export const nextAuthoritySecrets: AuthorityNames = {
  rootKey: 'ca/next/root.key',
  rootCertificate: 'ca/next/root.crt',
  intermediateKey: 'ca/next/intermediate.key',
  intermediateCertificate: 'ca/next/intermediate.crt',
  rootPlace: 'ca/next/root.place',
  intermediatePlace: 'ca/next/intermediate.place',
};

export interface Authority {
  /** DER. */
  readonly root: Uint8Array;
  readonly intermediate: Uint8Array;
  /** Signs with the intermediate's key: leaves and documents. Closed by whoever opened the authority. */
  readonly signer: Signer;
}

export interface AuthorityRequest extends Issuing {
  readonly cluster: string;
  /** Where both certificates, and keys that are nowhere else, are sealed; without one they live in memory, for labs and tests. */
  readonly store?: SecretStore;
  /** Where the keys are: `sealed` unless told (signer-place.ts). */
  readonly rootSigner?: string;
  readonly intermediateSigner?: string;
  /** Under which names; those of the authority in use, unless told. */
  readonly names?: AuthorityNames;
}

/** Makes a new cluster's root and intermediate. @throws file_exists if the store already holds an authority */
export async function createAuthority({
  cluster,
  store,
  rootSigner: rootPlace = SEALED,
  intermediateSigner: place = SEALED,
  names = authoritySecrets,
  ...issuing
}: AuthorityRequest): Promise<Authority> {
  checkSignerPlace('root-signer', rootPlace);
  checkSignerPlace('signer', place);
  if (place !== SEALED && place === rootPlace)
    throw new SelvedgeError('argument_invalid', { name: 'signer', why: 'root and intermediate have keys of their own' });
  const makeSigner = (where: string, name: string): Signer | Promise<Signer> => {
    if (where !== SEALED) return openPlacedSigner(where, { make: true });
    return store === undefined ? localSigner(generateKeyPair().privateKey) : createSealedSigner(store, name);
  };
  const rootSigner = await makeSigner(rootPlace, names.rootKey);
  try {
    const signer = await makeSigner(place, names.intermediateKey);
    const root = await issueRoot({ ...issuing, cluster, signer: rootSigner });
    const intermediate = await issueIntermediate({ ...issuing, cluster, publicKey: signer.publicKey, issuer: root, signer: rootSigner });
    await store?.update({
      [names.rootCertificate]: root,
      [names.intermediateCertificate]: intermediate,
      [names.rootPlace]: placeBytes(rootPlace),
      [names.intermediatePlace]: placeBytes(place),
    });
    return { root, intermediate, signer };
  } finally {
    await rootSigner.close();
  }
}

/** The authority that `createAuthority` sealed. @throws not_found */
export function openAuthority(store: SecretStore, names: AuthorityNames = authoritySecrets): Authority {
  const root = sealed(store, names.rootCertificate);
  const intermediate = sealed(store, names.intermediateCertificate);
  return { root, intermediate, signer: signerOf(store, names.intermediatePlace, names.intermediateKey, intermediate) };
}

/**
 * Another intermediate in the place of the one that nears its end: signed by the root, sealed in one step. Leaves of the one before stay good until they end.
 * A sealed key is a new one; a key in a token or key service stays and has a new certificate. @throws not_found where the root's key was taken offline, signer_unavailable
 */
export async function renewIntermediate(store: SecretStore, { cluster, ...issuing }: Issuing & { readonly cluster: string }): Promise<Authority> {
  const { root, signer: before } = openAuthority(store);
  const rootSigner = signerOf(store, authoritySecrets.rootPlace, authoritySecrets.rootKey, root);
  try {
    const fresh = store.get(authoritySecrets.intermediatePlace) === null ? generateKeyPair() : null;
    const intermediate = await issueIntermediate({
      ...issuing,
      cluster,
      publicKey: fresh?.publicKey ?? before.publicKey,
      issuer: root,
      signer: rootSigner,
    });
    await store.update({
      [authoritySecrets.intermediateCertificate]: intermediate,
      ...(fresh !== null && { [authoritySecrets.intermediateKey]: fresh.privateKey }),
    });
    return openAuthority(store);
  } finally {
    await rootSigner.close();
    await before.close();
  }
}

function signerOf(store: SecretStore, placeName: string, keyName: string, certificate: Uint8Array): Signer {
  const place = store.get(placeName);
  if (place === null) return openSealedSigner(store, keyName);
  const publicKey = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
  return placedSigner(new TextDecoder().decode(place), new Uint8Array(publicKey));
}

function placeBytes(place: string): Uint8Array | null {
  return place === SEALED ? null : new TextEncoder().encode(place);
}

/** By this very certificate's key: one that was renewed has a leaf of its own. */
export function isIssuedBy(certificate: Uint8Array, issuer: Uint8Array): boolean {
  const [one, other] = [new X509Certificate(certificate), new X509Certificate(issuer)];
  return one.checkIssued(other) && one.verify(other.publicKey);
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
