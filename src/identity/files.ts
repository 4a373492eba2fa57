/**
 * Files that are whole or not there: the atomic replacement that every state file of the product goes through, and the bounded
 * read beside it. After a kill at any moment a reader finds the old content or the new, never a mixture (spec 3.3).
 *
 * Two processes may replace one path at the same time; the last rename wins, whole. Keeping a second daemon away is not done here.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, readdir, rename, unlink } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { SelvedgeError } from '../base/errors.ts';
import { fromHex } from '../base/ids.ts';

export interface WriteOptions {
  /** Permission bits, whatever the umask says. 0600 unless told. */
  readonly mode?: number;
}

/**
 * Replaces `path` by `bytes` and returns when both the content and the name are on disk.
 * @throws disk_full, permission_denied; the old content is intact then
 */
export async function writeFileAtomic(path: string, bytes: Uint8Array, options: WriteOptions = {}): Promise<void> {
  // A name of its own for each write: a shared one would let two writers rename each other's half.
  const temporary = `${path}.${randomBytes(TEMPORARY_RANDOM_BYTES).toString('hex')}${TEMPORARY_SUFFIX}`;
  let created = false;
  try {
    const file = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW, 0o600);
    created = true;
    try {
      await file.chmod(options.mode ?? 0o600);
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    created = false;
    await syncDirectory(dirname(path));
  } catch (error) {
    if (created) await unlink(temporary).catch(() => undefined);
    throw asFileError(error, path);
  }
}

/**
 * The content of `path`, or null if there is no such file.
 * @throws store_damaged if it is longer than `bytesMax` or not a regular file, permission_denied
 */
export async function readFileBounded(path: string, bytesMax: number): Promise<Uint8Array | null> {
  let file: FileHandle;
  try {
    // Opening a FIFO would wait for a writer; without waiting, what it is can be looked at.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw asFileError(error, path);
  }
  try {
    const facts = await file.stat();
    if (!facts.isFile()) throw new SelvedgeError('store_damaged', { path, why: 'not a regular file' });
    if (facts.size > bytesMax) throw new SelvedgeError('store_damaged', { path, why: `${facts.size} bytes long, at most ${bytesMax} expected` });
    return await readUpTo(file, bytesMax, path);
  } catch (error) {
    throw asFileError(error, path);
  } finally {
    await file.close();
  }
}

/** Removes what writers of `path` left behind when they were killed. For the one owner of the path, before its first write. */
export async function removeLeftovers(path: string): Promise<void> {
  const directory = dirname(path);
  const prefix = `${basename(path)}.`;
  for (const name of await readdir(directory).catch(() => [])) {
    if (!name.startsWith(prefix) || !name.endsWith(TEMPORARY_SUFFIX)) continue;
    const middle = name.slice(prefix.length, -TEMPORARY_SUFFIX.length);
    if (fromHex(middle)?.length === TEMPORARY_RANDOM_BYTES) await unlink(join(directory, name)).catch(() => undefined);
  }
}

const TEMPORARY_RANDOM_BYTES = 6;
const TEMPORARY_SUFFIX = '.tmp';

/** The size may grow between `stat` and the read, so the read has its own bound. */
async function readUpTo(file: FileHandle, bytesMax: number, path: string): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const chunk = new Uint8Array(64 * 1024);
    const { bytesRead } = await file.read(chunk, 0, chunk.length, null);
    if (bytesRead === 0) return new Uint8Array(Buffer.concat(chunks));
    length += bytesRead;
    if (length > bytesMax) throw new SelvedgeError('store_damaged', { path, why: `longer than ${bytesMax} bytes` });
    chunks.push(chunk.subarray(0, bytesRead));
  }
}

/** A rename is durable only once its directory is. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** What the operating system said, as a code of the table where there is one; anything else stays what it is. */
function asFileError(error: unknown, path: string): unknown {
  switch (errnoOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new SelvedgeError('disk_full', { path }, { cause: error });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return new SelvedgeError('permission_denied', { what: `access to ${path}` }, { cause: error });
    case 'ENOENT':
    case 'ENOTDIR':
      return new SelvedgeError('not_found', { what: 'directory', name: dirname(path) }, { cause: error });
    default:
      return error;
  }
}
