/** Mode `key-file`: 32 random bytes in a file, best on another disk than the store: whoever has both has the secrets. */
import { randomBytes } from 'node:crypto';
import { mkdir, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { writeFileAtomic } from '../files.ts';
import { newHead, UNSEAL_KEY_BYTES, type UnsealKey, type UnsealMode } from './mode.ts';
import { isMissing, readPrivateKey } from './private-file.ts';

export const keyFileMode: UnsealMode = {
  kind: 'key',
  number: 0,
  name: 'key-file',
  what: 'a key file',
  begin: () => newHead(),
  objection: () => null,
  derive: async (key) => (key.kind === 'key' ? key.key : null),
};

/** @throws unseal_key_invalid */
export async function loadKeyFile(path: string): Promise<UnsealKey> {
  return { kind: 'key', key: await readPrivateKey(path) };
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
