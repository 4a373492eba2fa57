/**
 * The state directory of a node that is about to join. The keys and their requests are sealed before the tower hears of them and kept
 * until they have become an identity, so that a lost answer or a kill at any point is mended by asking the same again.
 */
import { chmod, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { readFileBounded, writeFileAtomic } from '../identity/files.ts';
import { SealedStore } from '../identity/sealed-store.ts';
import { encodeTrustBundle } from '../identity/trust-bundle.ts';
import type { UnsealKey } from '../identity/unseal.ts';
import { BootFile } from './boot-file.ts';
import type { FirstSite } from './boot-request.ts';
import { decodePending, encodePending, type PendingRequest } from './pending.ts';
import { SiteTokenShelf } from './site-shelf.ts';
import { type NodeParts, NodeState, nodeSecrets, readIdentity, stateFiles } from './state.ts';
import type { Envelope } from './wire.ts';

const PENDING = 'enroll/pending';
const PENDING_BOOT = 'enroll/boot';
/** Seals a store that will be sealed with the site's token until there is one; gone once there is. */
export const JOINING_KEY_FILE = 'joining.key';

/** Both keys that a node to be makes, and the requests for them. */
export interface Pending {
  readonly own: PendingRequest;
  readonly boot: PendingRequest;
}

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

  /** The keys and requests of an earlier attempt, else those that `make` makes, of the node's own key where it has one. */
  async pending(make: (key: Uint8Array | null) => Pending): Promise<Pending> {
    const read = (name: string) => {
      const bytes = this.#sealed.get(name);
      return bytes === null ? null : decodePending(this.#sealed.path, bytes);
    };
    const [own, boot] = [read(PENDING), read(PENDING_BOOT)];
    if (own !== null && boot !== null) return { own, boot };
    const made = make(this.#sealed.get(nodeSecrets.key));
    const both = { own: own ?? made.own, boot: made.boot };
    await this.#sealed.update({ [PENDING]: encodePending(both.own), [PENDING_BOOT]: encodePending(both.boot) });
    return both;
  }

  /**
   * A kill between two of these steps leaves a request to ask again, or an identity: `identity.json` is what decides. Every secret lands in one step, and the boot
   * identity before it: at no moment is the store sealed with what this host could not ask for. `isSealed`: with the site's token from now on.
   */
  async finish(node: NodeParts, envelope: Envelope, first: FirstSite | null, isSealed: boolean): Promise<NodeState> {
    const { identity, credentials, trust, snapshot } = node;
    const [leaf, intermediate] = credentials.chain;
    if (leaf === undefined || intermediate === undefined) throw new Error('a verified chain has leaf and intermediate');
    if (first !== null) await (await BootFile.open(this.path, identity)).join(first.boot, snapshot, identity.tower);
    const secrets = {
      [nodeSecrets.key]: credentials.key,
      [nodeSecrets.leaf]: leaf,
      [nodeSecrets.intermediate]: intermediate,
      [nodeSecrets.trust]: encodeTrustBundle(trust),
    };
    await new SiteTokenShelf(this.#sealed).join(first?.tokens ?? [], identity.node, secrets, isSealed || this.#sealed.mode.kind === 'site');
    for (const { token } of first?.tokens ?? []) token.fill(0);
    await rm(join(this.path, JOINING_KEY_FILE), { force: true });
    await writeFileAtomic(join(this.path, stateFiles.snapshot), Buffer.from(JSON.stringify(envelope)));
    await mkdir(join(this.path, stateFiles.inbox), { recursive: true, mode: 0o700 });
    await writeFileAtomic(join(this.path, stateFiles.identity), Buffer.from(`${JSON.stringify(identity, null, 2)}\n`));
    await this.#sealed.update({ [PENDING]: null, [PENDING_BOOT]: null });
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
