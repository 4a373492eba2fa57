/**
 * The authority that is to follow the one in use, in the sealed store beside it: made, adopted in one step together with the tower's leaf under it, or
 * dropped. Which of the two counts is what the rows say (phases.ts); `settleNext` brings what is sealed up to them after a kill in between.
 */
import { X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../../base/errors.ts';
import { equalBytes, toHex } from '../../base/ids.ts';
import {
  type Authority,
  type AuthorityRequest,
  authoritySecrets,
  createAuthority,
  issueChain,
  nextAuthoritySecrets,
  openAuthority,
  type ChainRequest,
} from '../../identity/authority.ts';
import { fingerprint } from '../../identity/fingerprint.ts';
import { generateKeyPair } from '../../identity/keys.ts';
import { SEALED } from '../../identity/signer-place.ts';
import type { SecretStore } from '../../identity/signer.ts';

/** Names of the tower's own leaf and its key. */
export const leafSecrets = { key: 'tower/leaf.key', certificate: 'tower/leaf.crt' } as const;
const nextLeafSecrets = { key: 'tower/next/leaf.key', certificate: 'tower/next/leaf.crt' } as const;

const pairs: readonly (readonly [now: string, next: string])[] = [
  ...Object.entries(authoritySecrets).map(([kind, now]) => [now, nextAuthoritySecrets[kind as keyof typeof authoritySecrets]] as const),
  [leafSecrets.key, nextLeafSecrets.key],
  [leafSecrets.certificate, nextLeafSecrets.certificate],
];

export interface NextRequest extends Omit<AuthorityRequest, 'store' | 'names'> {
  readonly store: SecretStore;
}

/** Null: none is to follow. */
export function openNext(store: SecretStore): Authority | null {
  return store.get(nextAuthoritySecrets.rootCertificate) === null ? null : openAuthority(store, nextAuthoritySecrets);
}

/**
 * Another root, and an intermediate under it, with keys of their own. Neither key of the authority in use is asked for. @throws argument_invalid where it is not said in which
 * place outside of the sealed store the next key is, or one is a key that is in use, signer_unavailable, disk_full
 */
export async function makeNext({ store, rootSigner, intermediateSigner, ...request }: NextRequest): Promise<Authority> {
  await dropNext(store);
  const next = await createAuthority({
    ...request,
    store,
    names: nextAuthoritySecrets,
    rootSigner: placeOf(store, 'root-signer', authoritySecrets.rootPlace, rootSigner),
    intermediateSigner: placeOf(store, 'signer', authoritySecrets.intermediatePlace, intermediateSigner),
  });
  const now = openAuthority(store);
  await now.signer.close();
  for (const [name, one, other] of [
    ['root-signer', now.root, next.root],
    ['signer', now.intermediate, next.intermediate],
  ] as const) {
    if (!equalBytes(publicKeyOf(one), publicKeyOf(other))) continue;
    await next.signer.close();
    await dropNext(store);
    throw new SelvedgeError('argument_invalid', { name, why: 'the key there is the one in use; another root has keys of its own' });
  }
  return next;
}

/** The place as told. A key that is sealed is followed by another sealed one; of any other place it has to be said where the next key is. */
function placeOf(store: SecretStore, name: string, placeName: string, told: string | undefined): string {
  const place = store.get(placeName);
  if (told !== undefined || place === null) return told ?? SEALED;
  const now = new TextDecoder().decode(place).split('?')[0];
  throw new SelvedgeError('argument_invalid', { name, why: `the key in use is at ${now}: say where the next one is (sealed, pkcs11:… or kms:…)` });
}

/** A leaf of the tower under the next authority, sealed beside it. */
export async function prepareNextLeaf(store: SecretStore, next: Authority, request: Omit<ChainRequest, 'publicKey'>): Promise<Uint8Array> {
  const { privateKey, publicKey } = generateKeyPair();
  const [leaf] = await issueChain(next, { ...request, publicKey });
  if (leaf === undefined) throw new Error('an issued chain begins with its leaf');
  await store.update({ [nextLeafSecrets.key]: privateKey, [nextLeafSecrets.certificate]: leaf });
  return leaf;
}

/** The leaf that was prepared last, and its key; null: none was. */
export function nextLeaf(store: SecretStore): { readonly certificate: Uint8Array; readonly key: Uint8Array } | null {
  const [certificate, key] = [store.get(nextLeafSecrets.certificate), store.get(nextLeafSecrets.key)];
  return certificate === null || key === null ? null : { certificate, key };
}

/** The next authority and its leaf take the places of those in use, in one step; the keys before are gone with it. */
export async function adoptNext(store: SecretStore): Promise<void> {
  await store.update(Object.fromEntries(pairs.flatMap(([now, next]) => [[now, store.get(next)] as const, [next, null] as const])));
}

export async function dropNext(store: SecretStore): Promise<void> {
  const left = pairs.map(([, next]) => next).filter((name) => store.get(name) !== null);
  if (left.length > 0) await store.update(Object.fromEntries(left.map((name) => [name, null])));
}

/**
 * Adopts the next authority where the rows say that its root is the cluster's, and drops one of which they know nothing. `root`, `next`: SHA-256 in hex, as the rows have them;
 * next null: none. False: what is sealed is of another cluster than the rows.
 */
export async function settleNext(store: SecretStore, { root, next }: { readonly root: string; readonly next: string | null }): Promise<boolean> {
  if (rootIn(store, authoritySecrets.rootCertificate) !== root) {
    if (rootIn(store, nextAuthoritySecrets.rootCertificate) !== root) return false;
    await adoptNext(store);
  }
  if (next === null) await dropNext(store);
  return rootIn(store, nextAuthoritySecrets.rootCertificate) === next;
}

function rootIn(store: SecretStore, name: string): string | null {
  const root = store.get(name);
  return root === null ? null : toHex(fingerprint(root));
}

function publicKeyOf(certificate: Uint8Array): Uint8Array {
  return new Uint8Array(new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' }));
}
