/**
 * What a node has on disk: `identity.json` (who it is; no secret), `sealed.bin` (key, chain, trust) and `snapshot.json` (the last
 * signed snapshot). `identity.json` is written last when a node joins: where it is, the rest is whole. How a node gets them is in
 * joining.ts and call-home.ts.
 */
import { join } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { readFileBounded, writeFileAtomic } from '../identity/files.ts';
import { SealedStore } from '../identity/sealed-store.ts';
import { decodeTrustBundle, encodeTrustBundle, type TrustBundle, trustBundleFromJson } from '../identity/trust-bundle.ts';
import type { UnsealKey } from '../identity/unseal.ts';
import type { Credentials } from '../transport/session.ts';
import { isNewer, openSnapshot } from './snapshot.ts';
import { decodePending, encodePending, type PendingRequest } from './pending.ts';
import { type Check, checkEnvelope, checkIdentityFile, type IdentityFile, readJson, type Snapshot } from './wire.ts';

export const stateFiles = { identity: 'identity.json', sealed: 'sealed.bin', snapshot: 'snapshot.json', inbox: 'inbox' } as const;

/** Names in the sealed store. */
export const nodeSecrets = {
  key: 'node/leaf.key',
  leaf: 'node/leaf.crt',
  intermediate: 'node/intermediate.crt',
  trust: 'node/trust-bundle',
  renewal: 'node/renewal',
} as const;

export interface NodeParts {
  readonly identity: IdentityFile;
  readonly credentials: Credentials;
  readonly trust: TrustBundle;
  readonly snapshot: Snapshot;
}

export class NodeState {
  readonly path: string;
  readonly identity: IdentityFile;
  /** What else this node must keep to itself. */
  readonly secrets: SealedStore;
  #credentials: Credentials;
  #snapshot: Snapshot;
  #trust: TrustBundle;
  /** Of the bundle that is sealed. */
  #keptTrust: number;
  /** Roots that were in the bundle before and are in this one no more, and until when channels that are there may stand on them. */
  #leaving: { readonly roots: readonly Uint8Array[]; readonly until_ms: number } = { roots: [], until_ms: 0 };
  /** What was taken and is not on disk. */
  #unkept: Uint8Array | null = null;
  #keeping: Promise<void> = Promise.resolve();

  constructor(path: string, { identity, credentials, trust, snapshot }: NodeParts, secrets: SealedStore) {
    this.path = path;
    this.secrets = secrets;
    this.identity = identity;
    this.#credentials = credentials;
    this.#snapshot = snapshot;
    this.#trust = trust;
    this.#keptTrust = trust.version;
    this.#followTrust(snapshot, Number.NEGATIVE_INFINITY);
  }

  /**
   * A snapshot past its time to live is loaded too: how long it may be followed is the node's decision.
   * @throws not_enrolled, store_damaged, store_locked
   */
  static async load(path: string, unseal: UnsealKey, now_ms: number): Promise<NodeState> {
    const identity = await readIdentity(path);
    if (identity === null) throw new SelvedgeError('not_enrolled', { path });
    const sealed = await SealedStore.open(join(path, stateFiles.sealed), unseal);
    const secret = (name: string) => mustHave(sealed, name);
    const trust = decodeTrustBundle(secret(nodeSecrets.trust));
    const credentials = { chain: [secret(nodeSecrets.leaf), secret(nodeSecrets.intermediate)], key: secret(nodeSecrets.key) };
    const snapshot = await readOwn(join(path, stateFiles.snapshot), limits.snapshot_envelope_bytes_max, (value) =>
      openSnapshot(checkEnvelope(value), { roots: trust.roots, cluster: identity.cluster, node: identity.node, now_ms }),
    );
    if (snapshot === null) throw new SelvedgeError('store_damaged', { path: join(path, stateFiles.snapshot), why: 'it is missing' });
    return new NodeState(path, { identity, credentials, trust, snapshot }, sealed);
  }

  /** Leaf, intermediate; the leaf's key. Another object once renewed. */
  get credentials(): Credentials {
    return this.#credentials;
  }

  /**
   * The key and request of a renewal that has begun, else those that `make` makes: asking again after a lost answer or a kill asks the same.
   * @throws store_damaged, disk_full
   */
  async pendingRenewal(make: () => PendingRequest): Promise<PendingRequest> {
    const bytes = this.secrets.get(nodeSecrets.renewal);
    if (bytes !== null) return decodePending(this.path, bytes);
    const made = make();
    await this.secrets.update({ [nodeSecrets.renewal]: encodePending(made) });
    return made;
  }

  /** A renewal that the tower will not answer: the next one has another key. */
  async forgetRenewal(): Promise<void> {
    await this.secrets.update({ [nodeSecrets.renewal]: null });
  }

  /** These in the place of the ones before on disk, in one step: a kill leaves either. `useCredentials` makes them count here. @throws disk_full */
  async keepCredentials(credentials: Credentials): Promise<void> {
    const [leaf, intermediate] = credentials.chain;
    if (leaf === undefined || intermediate === undefined) throw new Error('a verified chain has leaf and intermediate');
    await this.secrets.update({
      [nodeSecrets.key]: credentials.key,
      [nodeSecrets.leaf]: leaf,
      [nodeSecrets.intermediate]: intermediate,
      [nodeSecrets.renewal]: null,
    });
  }

  useCredentials(credentials: Credentials): void {
    this.#credentials = credentials;
  }

  /** The roots that count. */
  get trust(): TrustBundle {
    return this.#trust;
  }

  /** Version of the bundle that is on disk: what a restart stands on. */
  get keptTrust(): number {
    return this.#keptTrust;
  }

  /** DER: what channels that are there are judged by. For a while also the roots that count for no new session any more, so that they can move over. */
  liveRoots(now_ms: number): readonly Uint8Array[] {
    return now_ms < this.#leaving.until_ms ? [...this.#trust.roots, ...this.#leaving.roots] : this.#trust.roots;
  }

  /** A bundle of a higher version came with a snapshot that the one before vouched for. @throws document_invalid */
  #followTrust({ trust }: Snapshot, now_ms: number): void {
    if (trust.version <= this.#trust.version) return;
    const before = this.#trust.roots;
    this.#trust = trustBundleFromJson(trust);
    const gone = before.filter((root) => !this.#trust.roots.some((kept) => equalBytes(kept, root)));
    if (gone.length > 0) this.#leaving = { roots: gone, until_ms: now_ms + limits.trust_grace_ms };
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  /** Until when the snapshot may be followed: milliseconds since the epoch. */
  get snapshotExpires_ms(): number {
    return this.#snapshot.issued_ms + this.#snapshot.ttl_s * 1_000;
  }

  /**
   * Takes what the tower sent on the flow of service `snapshot`, once found good and newer: it holds from now on, whether or not there is room
   * for it on the disk (`keepSnapshot`), since it may be what says that a peer is revoked. False: it was not newer, nothing happened.
   * A newer trust bundle in it counts from then on. It has to vouch for the snapshot too: a tower does not take away the root that it signs under.
   * @throws document_invalid, request_invalid, wrong_node, wrong_cluster
   */
  takeSnapshot(message: Uint8Array, now_ms: number): boolean {
    const { cluster, node } = this.identity;
    const envelope = readJson(message, limits.snapshot_envelope_bytes_max, checkEnvelope);
    const next = openSnapshot(envelope, { roots: this.#trust.roots, cluster, node, now_ms });
    if (!isNewer(next, this.#snapshot)) return false;
    if (next.trust.version > this.#trust.version) openSnapshot(envelope, { roots: trustBundleFromJson(next.trust).roots, cluster, node, now_ms });
    this.#followTrust(next, now_ms);
    this.#snapshot = next;
    this.#unkept = message;
    return true;
  }

  /** Puts the last snapshot that was taken on disk, where it is not. @throws disk_full; it may be called again */
  keepSnapshot(): Promise<void> {
    // One after the other: an older one must not be the last to get the name.
    const kept = this.#keeping.then(async () => {
      const message = this.#unkept;
      if (message !== null) await writeFileAtomic(join(this.path, stateFiles.snapshot), message);
      if (this.#unkept === message) this.#unkept = null;
      // Behind the snapshot, which the bundle before vouches for too: a kill in between leaves a node that opens it, and follows the bundle in it again.
      const trust = this.#trust;
      if (this.#keptTrust < trust.version) await this.secrets.update({ [nodeSecrets.trust]: encodeTrustBundle(trust) });
      this.#keptTrust = trust.version;
    });
    this.#keeping = kept.catch(() => undefined);
    return kept;
  }
}

/** Null if there is none. @throws store_damaged */
export function readIdentity(path: string): Promise<IdentityFile | null> {
  return readOwn(join(path, stateFiles.identity), limits.identity_file_bytes_max, checkIdentityFile);
}

/** A file that this program wrote itself: whatever is wrong with it is damage. */
async function readOwn<Shape>(path: string, bytes_max: number, check: Check<Shape>): Promise<Shape | null> {
  const bytes = await readFileBounded(path, bytes_max);
  if (bytes === null) return null;
  try {
    return readJson(bytes, bytes_max, check);
  } catch (error) {
    throw new SelvedgeError('store_damaged', { path, why: asSelvedgeError(error, 'store_damaged').message }, { cause: error });
  }
}

function mustHave(sealed: SealedStore, name: string): Uint8Array {
  const secret = sealed.get(name);
  if (secret === null) throw new SelvedgeError('store_damaged', { path: sealed.path, why: `it holds no ${name}` });
  return secret;
}
