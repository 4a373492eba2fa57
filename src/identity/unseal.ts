/**
 * Where the key of a sealed store comes from: a key file of 32 random bytes, or a passphrase in a file. Both are read from files of mode
 * 0600, never from an argument, so that neither shows in a process list (spec 3.1).
 */
import { randomBytes, scrypt } from 'node:crypto';
import { constants } from 'node:fs';
import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { fromHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { keepSecrets } from '../native.ts';
import { fromBase64 } from './base64.ts';
import { writeFileAtomic } from './files.ts';

/** What opens a sealed store. The bytes are secret. */
export type UnsealKey = { readonly kind: 'key'; readonly key: Uint8Array } | { readonly kind: 'passphrase'; readonly passphrase: Uint8Array };

/** Which of the two was asked for; at most one. */
export interface UnsealSource {
  readonly keyFile?: string;
  readonly passphraseFile?: string;
}

export const DEFAULT_KEY_FILE = '/etc/selvedge/unseal.key';
export const UNSEAL_KEY_BYTES = 32;

/**
 * Reads what `source` names, else the default key file. Whoever holds a key keeps it out of core dumps, which on many systems are kept, or sent
 * away, by a program that knows nothing of them. @throws unseal_key_invalid, argument_invalid, native_missing
 */
export async function loadUnsealKey(source: UnsealSource): Promise<UnsealKey> {
  if (source.keyFile !== undefined && source.passphraseFile !== undefined) {
    throw new SelvedgeError('argument_invalid', { name: 'passphrase-file', why: 'give a key file or a passphrase file, not both' });
  }
  keepSecrets();
  if (source.passphraseFile === undefined) return { kind: 'key', key: await readKeyFile(source.keyFile ?? DEFAULT_KEY_FILE) };
  return { kind: 'passphrase', passphrase: await readPassphraseFile(source.passphraseFile) };
}

/** As `loadUnsealKey`, but makes the key file where there is none: for `tower init` and `join`. A passphrase file is never made up. */
export async function loadOrCreateUnsealKey(source: UnsealSource): Promise<UnsealKey> {
  if (source.passphraseFile === undefined) await createKeyFile(source.keyFile ?? DEFAULT_KEY_FILE);
  return await loadUnsealKey(source);
}

/** True if a new key was written, false if the file is already there. */
export async function createKeyFile(path: string): Promise<boolean> {
  try {
    await (await open(path, 'r')).close();
    return false;
  } catch (error) {
    if (!isMissing(error)) throw asSelvedgeError(error, 'unseal_key_invalid', { path });
  }
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  } catch (error) {
    throw new SelvedgeError('permission_denied', { what: `making directory ${dirname(path)} for the key file (--key-file names another)` }, { cause: error });
  }
  await writeFileAtomic(path, Buffer.from(`${randomBytes(UNSEAL_KEY_BYTES).toString('hex')}\n`), { mode: 0o600 });
  return true;
}

/** Cost of scrypt: 2^cost_log2 blocks of 1 KiB, `passes` times. */
export interface ScryptCost {
  readonly cost_log2: number;
  readonly passes: number;
}

/** 32 MiB for some 0.2 s: what OWASP recommends for a machine that cannot spare 128 MiB. */
export const SCRYPT_COST: ScryptCost = { cost_log2: 15, passes: 3 };

export function derivePassphraseKey(passphrase: Uint8Array, salt: Uint8Array, { cost_log2, passes }: ScryptCost): Promise<Uint8Array> {
  const cost = 2 ** cost_log2;
  const options = { N: cost, r: SCRYPT_BLOCK_FACTOR, p: passes, maxmem: 2 * 128 * SCRYPT_BLOCK_FACTOR * cost };
  return new Promise((resolve, reject) => {
    scrypt(passphrase, salt, UNSEAL_KEY_BYTES, options, (error, key) => (error ? reject(error) : resolve(new Uint8Array(key))));
  });
}

const SCRYPT_BLOCK_FACTOR = 8;
const PASSPHRASE_BYTES_MIN = 8;

async function readKeyFile(path: string): Promise<Uint8Array> {
  const text = Buffer.from(await readPrivateFile(path))
    .toString('latin1')
    .trim();
  const key = text.length === 2 * UNSEAL_KEY_BYTES ? fromHex(text) : fromBase64(text, UNSEAL_KEY_BYTES);
  if (key?.length !== UNSEAL_KEY_BYTES) throw invalid(path, `it does not hold ${UNSEAL_KEY_BYTES} bytes in hex or base64`);
  return key;
}

async function readPassphraseFile(path: string): Promise<Uint8Array> {
  const bytes = await readPrivateFile(path);
  // An editor ends the last line; that is not part of the passphrase.
  let length = bytes.length;
  while (length > 0 && (bytes[length - 1] === 0x0a || bytes[length - 1] === 0x0d)) length--;
  if (length < PASSPHRASE_BYTES_MIN) throw invalid(path, `its passphrase has ${length} bytes, at least ${PASSPHRASE_BYTES_MIN} are needed`);
  return bytes.slice(0, length);
}

async function readPrivateFile(path: string): Promise<Uint8Array> {
  try {
    // A fifo in this place must not hang the daemon.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const facts = await file.stat();
      if (!facts.isFile()) throw invalid(path, 'it is not a regular file');
      if ((facts.mode & 0o077) !== 0)
        throw invalid(path, `others may read or write it (mode ${(facts.mode & 0o777).toString(8).padStart(4, '0')}): run chmod 600 on it`);
      const bytes = new Uint8Array(limits.unseal_file_bytes_max + 1);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      if (bytesRead > limits.unseal_file_bytes_max) throw invalid(path, `it is longer than ${limits.unseal_file_bytes_max} bytes`);
      return bytes.slice(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isMissing(error)) throw invalid(path, 'there is no such file');
    throw asSelvedgeError(error, 'unseal_key_invalid', { path });
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

function invalid(path: string, why: string): SelvedgeError {
  return new SelvedgeError('unseal_key_invalid', { path, why });
}
