/** Reading a file that only its owner may read, bounded, and never waiting for one. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { fromHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import { fromBase64 } from '../base64.ts';
import { UNSEAL_KEY_BYTES } from './mode.ts';

/** @throws unseal_key_invalid */
export async function readPrivateFile(path: string): Promise<Uint8Array> {
  try {
    // A fifo in this place must not hang the daemon.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const facts = await file.stat();
      if (!facts.isFile()) throw invalidSource(path, 'it is not a regular file');
      if ((facts.mode & 0o077) !== 0)
        throw invalidSource(path, `others may read or write it (mode ${(facts.mode & 0o777).toString(8).padStart(4, '0')}): run chmod 600 on it`);
      const bytes = new Uint8Array(limits.unseal_file_bytes_max + 1);
      const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
      if (bytesRead > limits.unseal_file_bytes_max) throw invalidSource(path, `it is longer than ${limits.unseal_file_bytes_max} bytes`);
      return bytes.subarray(0, bytesRead);
    } finally {
      await file.close();
    }
  } catch (error) {
    if (isMissing(error)) throw invalidSource(path, 'there is no such file');
    throw asSelvedgeError(error, 'unseal_key_invalid', { path });
  }
}

/** A key of 32 bytes as text in hex or base64. The text is wiped. @throws unseal_key_invalid */
export async function readPrivateKey(path: string): Promise<Uint8Array> {
  const bytes = await readPrivateFile(path);
  const text = Buffer.from(bytes).toString('latin1').trim();
  bytes.fill(0);
  const key = text.length === 2 * UNSEAL_KEY_BYTES ? fromHex(text) : fromBase64(text, UNSEAL_KEY_BYTES);
  if (key?.length !== UNSEAL_KEY_BYTES) throw invalidSource(path, `it does not hold ${UNSEAL_KEY_BYTES} bytes in hex or base64`);
  return key;
}

export function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}

export function invalidSource(path: string, why: string): SelvedgeError {
  return new SelvedgeError('unseal_key_invalid', { path, why });
}
