/**
 * The state directory of a node that is about to join. The key and its request are sealed before the tower hears of them and kept
 * until they have become an identity, so that a lost answer or a kill at any point is mended by asking the same again.
 */
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { readFileBounded, writeFileAtomic } from '../identity/files.ts';
import { SealedStore } from '../identity/sealed-store.ts';
import { encodeTrustBundle } from '../identity/trust-bundle.ts';
import type { UnsealKey } from '../identity/unseal.ts';
import { decodePending, encodePending, type PendingRequest } from './pending.ts';
import { type NodeParts, NodeState, nodeSecrets, readIdentity, stateFiles } from './state.ts';
import type { Envelope } from './wire.ts';

const PENDING = 'enroll/pending';

export class JoiningState {
  readonly path: string;
  readonly #sealed: SealedStore;

  private constructor(path: string, sealed: SealedStore) {
    this.path = path;
    this.#sealed = sealed;
  }

  /** `isReturning`: what is there already is to be renewed. @throws already_enrolled, store_damaged, store_locked, permission_denied */
  static async open(path: string, unseal: UnsealKey, isReturning = false): Promise<JoiningState> {
    const identity = await readIdentity(path);
    if (identity !== null && !isReturning) throw new SelvedgeError('already_enrolled', { path, node: identity.name });
    await makeDirectory(path);
    const file = join(path, stateFiles.sealed);
    const there = (await readFileBounded(file, limits.sealed_store_bytes_max)) !== null;
    return new JoiningState(path, there ? await SealedStore.open(file, unseal) : await SealedStore.create(file, unseal));
  }

  /** The key and request of an earlier attempt, else those that `make` makes, of the node's own key where it has one. */
  async pending(make: (key: Uint8Array | null) => PendingRequest): Promise<PendingRequest> {
    const bytes = this.#sealed.get(PENDING);
    if (bytes !== null) return decodePending(this.#sealed.path, bytes);
    const made = make(this.#sealed.get(nodeSecrets.key));
    await this.#sealed.set(PENDING, encodePending(made));
    return made;
  }

  /** A kill between two of these steps leaves a request to ask again, or an identity: `identity.json` is what decides. */
  async finish(node: NodeParts, envelope: Envelope): Promise<NodeState> {
    const { identity, credentials, trust } = node;
    const [leaf, intermediate] = credentials.chain;
    if (leaf === undefined || intermediate === undefined) throw new Error('a verified chain has leaf and intermediate');
    await this.#sealed.update({
      [nodeSecrets.key]: credentials.key,
      [nodeSecrets.leaf]: leaf,
      [nodeSecrets.intermediate]: intermediate,
      [nodeSecrets.trust]: encodeTrustBundle(trust),
    });
    await writeFileAtomic(join(this.path, stateFiles.snapshot), Buffer.from(JSON.stringify(envelope)));
    await mkdir(join(this.path, stateFiles.inbox), { recursive: true, mode: 0o700 });
    await writeFileAtomic(join(this.path, stateFiles.identity), Buffer.from(`${JSON.stringify(identity, null, 2)}\n`));
    await this.#sealed.delete(PENDING);
    return new NodeState(this.path, node, this.#sealed);
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
  } catch (error) {
    throw asSelvedgeError(error, 'permission_denied', { what: `making directory ${path}` });
  }
}
