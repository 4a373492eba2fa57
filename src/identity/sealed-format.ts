/**
 * The bytes of a sealed store. Format 2 (written), all numbers big-endian:
 *
 *   head        magic (16), format, mode, scrypt's cost and passes (one octet each), generation of the site token (4)
 *   salts       of the store's key (32), of this write (32), nonce (12)
 *   record      the secrets, encrypted
 *   tag         AES-256-GCM over all before it
 *   checksums   the first 8 octets of the SHA-256 of head, salts, record, tag
 *   digest      SHA-256 of all before it (32)
 *
 * Digest and checksums need no key: so damage is `store_damaged`, says where, and is told apart from a wrong key (`store_locked`). They protect from disks, not from
 * people: what a person changed is found by the tag. Format 1 has neither generation nor checksums; it is read, and becomes format 2 with the next write.
 *
 * Each write has an encryption key of its own (HKDF of the store's key and a fresh salt), so that no nonce ever meets a key twice.
 */
import { createCipheriv, createDecipheriv, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { type KeyHead, SALT_BYTES, type UnsealMode } from './unseal/mode.ts';
import { unsealModes } from './unseal.ts';

export type Entries = ReadonlyMap<string, Uint8Array>;

/** What a store says of itself without its key. */
export interface StoreHead {
  readonly format: number;
  readonly mode: UnsealMode;
  readonly key: KeyHead;
}

/** A store as it stands in its file: whole, as far as can be known without the key. */
export interface SealedBytes extends StoreHead {
  /** Head and salts: what the tag covers beside the record. */
  readonly covered: Uint8Array;
  readonly writeSalt: Uint8Array;
  readonly nonce: Uint8Array;
  readonly record: Uint8Array;
  readonly tag: Uint8Array;
}

export const SEALED_FORMAT = 2;

const MAGIC = new TextEncoder().encode('selvedge sealed\n');
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const DIGEST_BYTES = 32;
const CHECKSUM_BYTES = 8;
const SALTS_BYTES = 2 * SALT_BYTES + NONCE_BYTES;
const PARTS = ['head', 'salts', 'record', 'tag'] as const;

/** Of each format that is read: octets of its head, and of its checksums. */
const layouts: ReadonlyMap<number, { readonly head: number; readonly checksums: number }> = new Map([
  [1, { head: MAGIC.length + 4, checksums: 0 }],
  [SEALED_FORMAT, { head: MAGIC.length + 8, checksums: PARTS.length * CHECKSUM_BYTES }],
]);

/** @throws limit_reached */
export function sealEntries(mode: UnsealMode, head: KeyHead, key: Uint8Array, entries: Entries): Uint8Array {
  const writeSalt = randomBytes(SALT_BYTES);
  const nonce = randomBytes(NONCE_BYTES);
  const start = new ByteWriter().raw(MAGIC).u8(SEALED_FORMAT).u8(mode.number).u8(head.cost_log2).u8(head.passes).u32(head.generation).finish();
  const salts = Buffer.concat([head.salt, writeSalt, nonce]);
  const writeKey = writeKeyOf(key, writeSalt, SEALED_FORMAT);
  const plain = encodeEntries(entries);
  const cipher = createCipheriv('aes-256-gcm', writeKey, nonce).setAAD(Buffer.concat([start, salts]));
  const record = Buffer.concat([cipher.update(plain), cipher.final()]);
  plain.fill(0);
  writeKey.fill(0);
  const parts = [start, salts, record, cipher.getAuthTag()];
  const body = Buffer.concat([...parts, ...parts.map(checksumOf)]);
  const bytes = new Uint8Array(Buffer.concat([body, digestOf(body)]));
  if (bytes.length > limits.sealed_store_bytes_max)
    throw new SelvedgeError('limit_reached', { limit: 'sealed_store_bytes_max', max: limits.sealed_store_bytes_max });
  return bytes;
}

/** Everything that can be known without the key, checked from the outside in. @throws store_damaged, store_format_unknown */
export function parseSealed(path: string, bytes: Uint8Array): SealedBytes {
  if (bytes.length <= MAGIC.length || !equalBytes(bytes.subarray(0, MAGIC.length), MAGIC)) throw damaged(path, 'head', 'it does not begin like a sealed store');
  const format = bytes[MAGIC.length] ?? 0;
  const layout = layouts.get(format);
  if (layout === undefined) throw checkDigest(path, bytes, null) ?? new SelvedgeError('store_format_unknown', { path, found: format, expected: SEALED_FORMAT });
  const shortest = layout.head + SALTS_BYTES + TAG_BYTES + layout.checksums + DIGEST_BYTES;
  if (bytes.length < shortest) throw damaged(path, 'end', `it has only ${bytes.length} bytes, a store has at least ${shortest}`);
  const parts = cut(bytes, layout);
  const fault = checkDigest(path, bytes, layout.checksums === 0 ? null : parts);
  if (fault !== null) throw fault;
  return read(path, format, parts);
}

/** Null: the key is not the one. @throws store_damaged */
export function openRecord(path: string, sealed: SealedBytes, key: Uint8Array): Map<string, Uint8Array> | null {
  const writeKey = writeKeyOf(key, sealed.writeSalt, sealed.format);
  const decipher = createDecipheriv('aes-256-gcm', writeKey, sealed.nonce).setAAD(sealed.covered).setAuthTag(sealed.tag);
  writeKey.fill(0);
  const plain = decipher.update(sealed.record);
  try {
    decipher.final();
  } catch {
    plain.fill(0);
    return null;
  }
  try {
    return decodeEntries(path, plain);
  } finally {
    plain.fill(0);
  }
}

interface Parts {
  readonly pieces: readonly Uint8Array[];
  readonly checksums: Uint8Array;
}

function cut(bytes: Uint8Array, layout: { readonly head: number; readonly checksums: number }): Parts {
  const checksumsAt = bytes.length - DIGEST_BYTES - layout.checksums;
  const ends = [0, layout.head, layout.head + SALTS_BYTES, checksumsAt - TAG_BYTES, checksumsAt];
  const pieces = PARTS.map((_name, index) => bytes.subarray(ends[index], ends[index + 1]));
  return { pieces, checksums: bytes.subarray(checksumsAt, bytes.length - DIGEST_BYTES) };
}

/** Where digest or checksums do not fit, which of its parts it is. */
function checkDigest(path: string, bytes: Uint8Array, parts: Parts | null): SelvedgeError | null {
  const at = Math.max(0, bytes.length - DIGEST_BYTES);
  const fits = equalBytes(digestOf(bytes.subarray(0, at)), bytes.subarray(at));
  if (parts === null) return fits ? null : damaged(path, 'unknown part', 'its digest does not match its content');
  const wrong = PARTS.filter((_name, index) => {
    const sum = parts.checksums.subarray(index * CHECKSUM_BYTES, (index + 1) * CHECKSUM_BYTES);
    return !equalBytes(checksumOf(parts.pieces[index] ?? NOTHING), sum);
  });
  if (wrong.length === 0) return fits ? null : damaged(path, 'digest', 'its parts are whole, the digest at its end is not');
  // A part that was cut or lengthened moves all the rest.
  if (wrong.length >= PARTS.length - 1) return damaged(path, 'end', 'bytes are missing or too many: none of its checksums fits');
  return damaged(path, wrong.join(' and '), `its ${wrong.join(' and ')} changed since it was written`);
}

function read(path: string, format: number, { pieces }: Parts): SealedBytes {
  const [start = NOTHING, salts = NOTHING, record = NOTHING, tag = NOTHING] = pieces;
  const head = new ByteReader(start.subarray(MAGIC.length + 1));
  const number = head.u8();
  const cost_log2 = head.u8();
  const passes = head.u8();
  const generation = format === 1 ? 0 : head.u32();
  const mode = unsealModes.find((one) => one.number === number);
  if (mode === undefined) throw damaged(path, 'head', `it names an unknown kind of key, ${number}`);
  const salt = salts.slice(0, SALT_BYTES);
  const key = { salt, cost_log2, passes, generation };
  // The cost is bounded before it is paid: the file is not yet authenticated here.
  const objection = mode.objection(key);
  if (objection !== null) throw damaged(path, 'head', objection);
  const covered = new Uint8Array(Buffer.concat([start, salts]));
  return { format, mode, key, covered, writeSalt: salts.subarray(SALT_BYTES, 2 * SALT_BYTES), nonce: salts.subarray(2 * SALT_BYTES), record, tag };
}

const NOTHING = new Uint8Array();

function encodeEntries(entries: Entries): Uint8Array {
  if (entries.size > limits.sealed_store_entries_max)
    throw new SelvedgeError('limit_reached', { limit: 'sealed_store_entries_max', max: limits.sealed_store_entries_max });
  let bytes = 16;
  for (const [name, secret] of entries) {
    const name_bytes = Buffer.byteLength(name);
    if (name_bytes > limits.sealed_store_name_bytes_max)
      throw new SelvedgeError('limit_reached', { limit: 'sealed_store_name_bytes_max', max: limits.sealed_store_name_bytes_max });
    bytes += name_bytes + secret.length + 16;
  }
  if (bytes > 2 * limits.sealed_store_bytes_max)
    throw new SelvedgeError('limit_reached', { limit: 'sealed_store_bytes_max', max: limits.sealed_store_bytes_max });
  // Large enough at once: a writer that grows leaves copies of secrets behind.
  const writer = new ByteWriter(bytes).varint(entries.size);
  for (const [name, secret] of entries) writer.text(name).block(secret);
  return writer.finish();
}

function decodeEntries(path: string, plain: Uint8Array): Map<string, Uint8Array> {
  const entries = new Map<string, Uint8Array>();
  let at = 'their number';
  try {
    const reader = new ByteReader(plain);
    const count = reader.varint(limits.sealed_store_entries_max);
    for (let index = 0; index < count; index++) {
      at = `number ${index + 1} of ${count}`;
      entries.set(reader.text(limits.sealed_store_name_bytes_max), new Uint8Array(reader.block(limits.sealed_store_bytes_max)));
    }
    at = 'their end';
    reader.end();
    return entries;
  } catch (error) {
    throw damaged(path, 'record', `its secrets are not what this program writes, at ${at}`, error);
  }
}

function writeKeyOf(storeKey: Uint8Array, salt: Uint8Array, format: number): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', storeKey, salt, `selvedge sealed store ${format}`, 32));
}

function digestOf(bytes: Uint8Array): Uint8Array {
  return createHash('sha256').update(bytes).digest();
}

function checksumOf(part: Uint8Array): Uint8Array {
  return digestOf(part).subarray(0, CHECKSUM_BYTES);
}

/** `part`: of the file, as the head of this source names them. */
function damaged(path: string, part: string, why: string, cause?: unknown): SelvedgeError {
  return new SelvedgeError('store_damaged', { path, part, why }, { cause });
}
