/**
 * The file that is being sent: read in large pieces, hashed once however often parts of it are sent again, and watched for changes
 * under our hands.
 */
import { createHash } from 'node:crypto';
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { basename } from 'node:path';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

/** Large enough that system calls do not count, small enough that a file starts to flow at once. */
const READ_BYTES = 256 * 1024;

export class FileSource {
  readonly path: string;
  readonly name: string;
  readonly size: number;
  /** The same for the same unchanged file, so that a later run resumes what an earlier one began. */
  readonly transfer: string;
  readonly #file: FileHandle;
  readonly #stat: BigIntStats;
  readonly #hash = createHash('sha256');
  #hashed = 0;
  #digest: string | null = null;

  private constructor(path: string, file: FileHandle, stat: BigIntStats) {
    this.path = path;
    this.name = basename(path);
    this.size = Number(stat.size);
    this.#file = file;
    this.#stat = stat;
    this.transfer = createHash('sha256').update(`${path}\0${stat.dev}\0${stat.ino}\0${stat.size}\0${stat.mtimeNs}`).digest('hex').slice(0, 32);
  }

  /** @throws not_found, permission_denied, argument_invalid */
  static async open(path: string): Promise<FileSource> {
    // Without waiting: a FIFO or device must be refused, not waited for.
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: unknown) => {
      throw asReadError(error, path);
    });
    try {
      const stat = await file.stat({ bigint: true });
      if (!stat.isFile()) throw new SelvedgeError('argument_invalid', { name: 'file', why: `${path} is not a regular file` });
      if (stat.size > BigInt(limits.transfer_file_bytes_max)) {
        throw new SelvedgeError('limit_reached', { limit: 'transfer_file_bytes_max', max: limits.transfer_file_bytes_max });
      }
      return new FileSource(path, file, stat);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The piece at `position`, in a buffer of its own; empty at the end. @throws file_changed */
  async read(position: number): Promise<Uint8Array> {
    const want = Math.min(READ_BYTES, this.size - position);
    if (want <= 0) return new Uint8Array(0);
    const buffer = Buffer.allocUnsafeSlow(want);
    const { bytesRead } = await this.#file.read(buffer, 0, want, position);
    if (bytesRead === 0) throw new SelvedgeError('file_changed', { path: this.path });
    const piece = buffer.subarray(0, bytesRead);
    this.#feed(position, piece);
    return piece;
  }

  /** Hashes what the receiver has already, which will not be read for sending. */
  async skipTo(position: number): Promise<void> {
    for (let at = this.#hashed; at < position; at = this.#hashed) await this.read(at);
  }

  /** The digest of the whole, once all of it was read. @throws file_changed */
  async digest(): Promise<string> {
    await this.skipTo(this.size);
    const now = await this.#file.stat({ bigint: true });
    if (now.size !== this.#stat.size || now.mtimeNs !== this.#stat.mtimeNs) throw new SelvedgeError('file_changed', { path: this.path });
    this.#digest ??= this.#hash.digest('hex');
    return this.#digest;
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #feed(position: number, piece: Uint8Array): void {
    const known = this.#hashed - position;
    if (known < 0 || known >= piece.length) return;
    this.#hash.update(piece.subarray(known));
    this.#hashed = position + piece.length;
  }
}

function asReadError(error: unknown, path: string): unknown {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ENOTDIR') return new SelvedgeError('not_found', { what: 'file', name: path }, { cause: error });
  if (code === 'EACCES' || code === 'EPERM') return new SelvedgeError('permission_denied', { what: `reading ${path}` }, { cause: error });
  return error;
}
