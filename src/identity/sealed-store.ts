/**
 * The sealed store: a node's or tower's secrets, named byte strings in one encrypted file (spec 3). Every change replaces the file
 * atomically; a damaged file is named and refused, and told apart from a wrong key. One process owns a store.
 *
 * Layout: head, ciphertext, digest. The head (magic, version, kind of key, scrypt's salt and cost, a salt and nonce of this write) is
 * authenticated with the ciphertext by AES-256-GCM. The digest, SHA-256 of all before it, needs no key: so damage is `store_damaged`,
 * and an intact file that does not open is `store_locked`. Each write has an encryption key of its own (HKDF of the store's key and a
 * fresh salt), so that no nonce ever meets a key twice.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { readFileBounded, removeLeftovers, writeFileAtomic } from './files.ts';
import type { SecretStore } from './signer.ts';
import { derivePassphraseKey, SCRYPT_COST, type ScryptCost, type UnsealKey } from './unseal.ts';

export class SealedStore implements SecretStore {
  readonly path: string;
  readonly #key: StoreKey;
  #entries: ReadonlyMap<string, Uint8Array>;
  /** Changes are made one after the other; never rejects. */
  #writing: Promise<unknown> = Promise.resolve();

  private constructor(path: string, key: StoreKey, entries: ReadonlyMap<string, Uint8Array>) {
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

  /** @throws not_found, store_damaged, store_locked, permission_denied */
  static async open(path: string, unsealKey: UnsealKey): Promise<SealedStore> {
    await removeLeftovers(path);
    const bytes = await readFileBounded(path, limits.sealed_store_bytes_max);
    if (bytes === null) throw new SelvedgeError('not_found', { what: 'sealed store', name: path });
    const { key, entries } = await unseal(path, bytes, unsealKey);
    return new SealedStore(path, key, entries);
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
  update(changes: Readonly<Record<string, Uint8Array | null>>): Promise<void> {
    const done = this.#writing.then(() => this.#write(changes));
    this.#writing = done.catch(() => undefined);
    return done;
  }

  async #write(changes: Readonly<Record<string, Uint8Array | null>>): Promise<void> {
    const entries = new Map(this.#entries);
    for (const [name, secret] of Object.entries(changes)) {
      if (secret === null) entries.delete(name);
      else entries.set(name, new Uint8Array(secret));
    }
    await writeFileAtomic(this.path, seal(this.#key, entries), { mode: 0o600 });
    this.#entries = entries;
  }
}

/** The store's own key, from which each write derives another, and what the head says of how to get it. */
interface StoreKey {
  readonly key: Uint8Array;
  readonly kind: number;
  readonly salt: Uint8Array;
  readonly cost: ScryptCost;
}

const MAGIC = new TextEncoder().encode('selvedge sealed\n');
const VERSION = 1;
const KIND_KEY = 0;
const KIND_PASSPHRASE = 1;
const SALT_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const DIGEST_BYTES = 32;
const HEAD_BYTES = MAGIC.length + 4 + 2 * SALT_BYTES + NONCE_BYTES;
const NO_COST: ScryptCost = { cost_log2: 0, passes: 0 };

async function newStoreKey(unsealKey: UnsealKey): Promise<StoreKey> {
  const salt = new Uint8Array(randomBytes(SALT_BYTES));
  if (unsealKey.kind === 'key') return { key: unsealKey.key, kind: KIND_KEY, salt, cost: NO_COST };
  return { key: await derivePassphraseKey(unsealKey.passphrase, salt, SCRYPT_COST), kind: KIND_PASSPHRASE, salt, cost: SCRYPT_COST };
}

function seal(storeKey: StoreKey, entries: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const writeSalt = randomBytes(SALT_BYTES);
  const nonce = randomBytes(NONCE_BYTES);
  const head = new ByteWriter().raw(MAGIC).u8(VERSION).u8(storeKey.kind).u8(storeKey.cost.cost_log2).u8(storeKey.cost.passes);
  head.raw(storeKey.salt).raw(writeSalt).raw(nonce);
  const cipher = createCipheriv('aes-256-gcm', writeKey(storeKey.key, writeSalt), nonce).setAAD(head.finish());
  const sealed = new ByteWriter(limits.sealed_store_name_bytes_max).raw(head.finish());
  sealed
    .raw(cipher.update(encodeEntries(entries)))
    .raw(cipher.final())
    .raw(cipher.getAuthTag());
  const bytes = sealed.raw(digestOf(sealed.finish())).finish();
  if (bytes.length > limits.sealed_store_bytes_max)
    throw new SelvedgeError('limit_reached', { limit: 'sealed_store_bytes_max', max: limits.sealed_store_bytes_max });
  return bytes;
}

async function unseal(path: string, bytes: Uint8Array, unsealKey: UnsealKey): Promise<{ key: StoreKey; entries: Map<string, Uint8Array> }> {
  const { storeHead, head, writeSalt, nonce, ciphertext, tag } = parseSealed(path, bytes);
  const key = { ...storeHead, key: await keyFor(path, storeHead, unsealKey) };
  const decipher = createDecipheriv('aes-256-gcm', writeKey(key.key, writeSalt), nonce).setAAD(head).setAuthTag(tag);
  let plain: Uint8Array;
  try {
    plain = Buffer.concat([decipher.update(ciphertext), decipher.final()]);
  } catch (error) {
    throw new SelvedgeError(
      'store_locked',
      { path, why: `the ${unsealKey.kind === 'key' ? 'key' : 'passphrase'} is not the one that it was sealed with` },
      { cause: error },
    );
  }
  return { key, entries: decodeEntries(path, plain) };
}

/** Everything that can be known without the key, checked from the outside in. */
function parseSealed(path: string, bytes: Uint8Array) {
  if (bytes.length < MAGIC.length || !equalBytes(bytes.subarray(0, MAGIC.length), MAGIC)) throw damaged(path, 'it does not begin like a sealed store');
  if (bytes.length < HEAD_BYTES + TAG_BYTES + DIGEST_BYTES) throw damaged(path, `it has only ${bytes.length} bytes`);
  const body = bytes.subarray(0, bytes.length - DIGEST_BYTES);
  if (!equalBytes(digestOf(body), bytes.subarray(body.length))) throw damaged(path, 'its checksum does not match its content');
  const reader = new ByteReader(body);
  reader.raw(MAGIC.length);
  const version = reader.u8();
  if (version !== VERSION) throw damaged(path, `it has version ${version}, this program knows ${VERSION}`);
  const kind = reader.u8();
  const cost = { cost_log2: reader.u8(), passes: reader.u8() };
  checkKind(path, kind, cost);
  const salt = reader.raw(SALT_BYTES).slice();
  const writeSalt = reader.raw(SALT_BYTES);
  const nonce = reader.raw(NONCE_BYTES);
  const ciphertext = reader.raw(reader.remaining - TAG_BYTES);
  return { storeHead: { kind, salt, cost }, head: body.subarray(0, HEAD_BYTES), writeSalt, nonce, ciphertext, tag: reader.rest() };
}

/** The cost is bounded before it is paid: a file is not yet authenticated here. */
function checkKind(path: string, kind: number, cost: ScryptCost): void {
  if (kind !== KIND_KEY && kind !== KIND_PASSPHRASE) throw damaged(path, `it names an unknown kind of key, ${kind}`);
  if (kind === KIND_KEY) return;
  if (cost.cost_log2 < 1 || cost.cost_log2 > limits.scrypt_cost_log2_max || cost.passes < 1 || cost.passes > limits.scrypt_passes_max) {
    throw damaged(
      path,
      `it asks for an scrypt cost of 2^${cost.cost_log2} × ${cost.passes}, at most 2^${limits.scrypt_cost_log2_max} × ${limits.scrypt_passes_max} allowed`,
    );
  }
}

async function keyFor(path: string, { kind, salt, cost }: Omit<StoreKey, 'key'>, unsealKey: UnsealKey): Promise<Uint8Array> {
  if (kind === KIND_KEY) {
    if (unsealKey.kind !== 'key') throw new SelvedgeError('store_locked', { path, why: 'it was sealed with a key file, not with a passphrase' });
    return unsealKey.key;
  }
  if (unsealKey.kind !== 'passphrase') throw new SelvedgeError('store_locked', { path, why: 'it was sealed with a passphrase, not with a key file' });
  return await derivePassphraseKey(unsealKey.passphrase, salt, cost);
}

function encodeEntries(entries: ReadonlyMap<string, Uint8Array>): Uint8Array {
  if (entries.size > limits.sealed_store_entries_max)
    throw new SelvedgeError('limit_reached', { limit: 'sealed_store_entries_max', max: limits.sealed_store_entries_max });
  const writer = new ByteWriter(4096).varint(entries.size);
  for (const [name, secret] of entries) {
    if (Buffer.byteLength(name) > limits.sealed_store_name_bytes_max)
      throw new SelvedgeError('limit_reached', { limit: 'sealed_store_name_bytes_max', max: limits.sealed_store_name_bytes_max });
    writer.text(name).block(secret);
  }
  return writer.finish();
}

function decodeEntries(path: string, plain: Uint8Array): Map<string, Uint8Array> {
  try {
    const reader = new ByteReader(plain);
    const entries = new Map<string, Uint8Array>();
    const count = reader.varint(limits.sealed_store_entries_max);
    for (let index = 0; index < count; index++) {
      entries.set(reader.text(limits.sealed_store_name_bytes_max), new Uint8Array(reader.block(limits.sealed_store_bytes_max)));
    }
    reader.end();
    return entries;
  } catch (error) {
    throw damaged(path, 'its content is not what this program writes', error);
  }
}

function writeKey(storeKey: Uint8Array, salt: Uint8Array): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', storeKey, salt, 'selvedge sealed store 1', 32));
}

function digestOf(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

function damaged(path: string, why: string, cause?: unknown): SelvedgeError {
  return new SelvedgeError('store_damaged', { path, why }, { cause });
}
