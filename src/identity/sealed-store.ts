/**
 * The sealed store: a node's or tower's secrets, named byte strings in one encrypted file (spec 3). Every change replaces the file
 * atomically; a damaged file is named and refused, and told apart from a wrong key. One process owns a store. Its bytes are
 * sealed-format.ts's, the ways to its key are in unseal/.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { readFileBounded, removeLeftovers, writeFileAtomic } from './files.ts';
import { type Entries, openRecord, parseSealed, sealEntries, type StoreHead } from './sealed-format.ts';
import type { SecretStore } from './signer.ts';
import type { KeyHead } from './unseal/mode.ts';
import { type UnsealKey, type UnsealMode, unsealModeOf } from './unseal.ts';

export type SecretChanges = Readonly<Record<string, Uint8Array | null>>;

export class SealedStore implements SecretStore {
  readonly path: string;
  #key: StoreKey;
  #entries: Entries;
  #isClosed = false;
  /** Changes are made one after the other; never rejects. */
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(path: string, key: StoreKey, entries: Entries) {
    this.path = path;
    this.#key = key;
    this.#entries = entries;
  }

  /** A new, empty store on disk. @throws file_exists, disk_full, permission_denied */
  static async create(path: string, unsealKey: UnsealKey): Promise<SealedStore> {
    if ((await readFileBounded(path, limits.sealed_store_bytes_max)) !== null) throw new SelvedgeError('file_exists', { path });
    const store = new SealedStore(path, await newStoreKey(unsealKey), new Map());
    await store.update({});
    return store;
  }

  /** For the one owner. @throws not_found, store_damaged, store_locked, store_format_unknown, permission_denied */
  static async open(path: string, unsealKey: UnsealKey): Promise<SealedStore> {
    await removeLeftovers(path);
    return await SealedStore.peek(path, unsealKey);
  }

  /** As `open`, beside an owner that may be at work: what is read is whole, and nothing of the owner's is touched. Never change it. */
  static async peek(path: string, unsealKey: UnsealKey): Promise<SealedStore> {
    const sealed = parseSealed(path, await mustRead(path));
    const { mode, key: head } = sealed;
    const key = await mode.derive(unsealKey, head);
    if (key === null)
      throw locked(path, `it was sealed with ${mode.what}${generationOf(head)}, not with ${unsealModeOf(unsealKey.kind).what}${given(unsealKey)}`);
    const entries = openRecord(path, sealed, key);
    if (entries === null) throw locked(path, `the ${nounOf(unsealKey)} is not the one that it was sealed with`);
    return new SealedStore(path, { mode, head, key: new Uint8Array(key) }, entries);
  }

  /** What a store says of itself without its key. @throws not_found, store_damaged, store_format_unknown, permission_denied */
  static async head(path: string): Promise<StoreHead> {
    const { format, mode, key } = parseSealed(path, await mustRead(path));
    return { format, mode, key };
  }

  get mode(): UnsealMode {
    return this.#key.mode;
  }

  /** Of the site token that it is sealed with; 0 where it is not. */
  get generation(): number {
    return this.#key.head.generation;
  }

  /** A copy of the secret of this name, or null. */
  get(name: string): Uint8Array | null {
    const secret = this.#entries.get(name);
    return secret === undefined ? null : new Uint8Array(secret);
  }

  keys(): string[] {
    return [...this.#entries.keys()];
  }

  set(name: string, secret: Uint8Array): Promise<void> {
    return this.update({ [name]: secret });
  }

  delete(name: string): Promise<void> {
    return this.update({ [name]: null });
  }

  /**
   * Sets and (null) deletes several secrets in one step: after it all of them are on disk, or, if it throws, none.
   * @throws limit_reached, disk_full, permission_denied
   */
  update(changes: SecretChanges): Promise<void> {
    return this.#enqueue(() => this.#write(changes, this.#key));
  }

  /** The same, and from now on under another key, of whatever mode: after it the new key alone opens the file, or, if it throws, the old one. */
  reseal(unsealKey: UnsealKey, changes: SecretChanges = {}): Promise<void> {
    return this.#enqueue(async () => {
      const key = await newStoreKey(unsealKey);
      await this.#write(changes, key);
      this.#key.key.fill(0);
      this.#key = key;
    });
  }

  /** Once what is being written is on disk: wipes key and secrets from memory, as far as they were not handed out. Nothing may be asked of it afterwards. */
  async close(): Promise<void> {
    await this.#writing;
    this.#key.key.fill(0);
    for (const secret of this.#entries.values()) secret.fill(0);
    this.#entries = new Map();
    this.#isClosed = true;
  }

  #enqueue(change: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(change);
    this.#writing = done.catch(() => undefined);
    return done;
  }

  async #write(changes: SecretChanges, { mode, head, key }: StoreKey): Promise<void> {
    if (this.#isClosed) throw new SelvedgeError('handle_closed', { what: 'sealed store' });
    const entries = new Map(this.#entries);
    const replaced: Uint8Array[] = [];
    for (const [name, secret] of Object.entries(changes)) {
      const before = entries.get(name);
      if (before !== undefined) replaced.push(before);
      if (secret === null) entries.delete(name);
      else entries.set(name, new Uint8Array(secret));
    }
    await writeFileAtomic(this.path, sealEntries(mode, head, key, entries), { mode: 0o600 });
    this.#entries = entries;
    for (const secret of replaced) secret.fill(0);
  }
}

/** The store's own key, from which each write derives another, and what the head says of how to get it. */
interface StoreKey {
  readonly mode: UnsealMode;
  readonly head: KeyHead;
  readonly key: Uint8Array;
}

async function newStoreKey(unsealKey: UnsealKey): Promise<StoreKey> {
  const mode = unsealModeOf(unsealKey.kind);
  const head = mode.begin(unsealKey);
  const key = await mode.derive(unsealKey, head);
  if (key === null) throw new Error(`a key of mode ${mode.name} opens what is sealed with it`);
  return { mode, head, key: new Uint8Array(key) };
}

async function mustRead(path: string): Promise<Uint8Array> {
  const bytes = await readFileBounded(path, limits.sealed_store_bytes_max);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'sealed store', name: path });
  return bytes;
}

function generationOf({ generation }: KeyHead): string {
  return generation === 0 ? '' : ` of generation ${generation}`;
}

function given(unsealKey: UnsealKey): string {
  return unsealKey.kind === 'site' ? ` of generation ${unsealKey.generation}` : '';
}

function nounOf({ kind }: UnsealKey): string {
  return kind === 'passphrase' ? 'passphrase' : 'key';
}

function locked(path: string, why: string): SelvedgeError {
  return new SelvedgeError('store_locked', { path, why });
}
