/**
 * The service `files`: receives files into the inbox. What has arrived is kept in a part file, so that a transfer goes on after any
 * interruption; a complete and verified file gets its name in one step, and never takes the place of another.
 */
import { createHash, type Hash } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, link, mkdir, open, readdir, stat, statfs, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Timers } from '../transport/system.ts';
import { isPartName, NAME_SUFFIXES_MAX, numberedName, partName, safeName } from './file-names.ts';
import { type Done, encodeWord, FILES_SERVICE, FILES_VERSION, type Header, refusalOf, WordReader, words } from './file-wire.ts';
import type { FlowHandle, ServiceMesh } from './mesh.ts';
import { PartWriter } from './part-writer.ts';

/** Hashed between two turns of the event loop: a fraction of a millisecond. */
const REHASH_BYTES = 128 * 1024;
/** How long a refused sender may take to hear it. */
const REFUSAL_MS_MAX = 5_000;
const DAY_MS = 86_400_000;

export interface FileReceiver {
  /** Ends every transfer; their part files stay. */
  close(): Promise<void>;
}

export interface FileReceiverOptions {
  /** Directory; made if it is missing. */
  readonly inbox: string;
  readonly timers: Timers;
  readonly onReceived?: (file: ReceivedFile) => void;
}

export interface ReceivedFile {
  readonly peer: string;
  readonly path: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Opens the inbox and serves it. */
export async function serveFiles(mesh: ServiceMesh, options: FileReceiverOptions): Promise<FileReceiver> {
  await mkdir(options.inbox, { recursive: true, mode: 0o700 });
  await removeOldParts(options.inbox, options.timers.clock.wall());
  const receiver = new Receiver(options);
  mesh.handle(FILES_SERVICE, (flow) => receiver.accept(flow));
  return receiver;
}

interface Active {
  readonly flow: FlowHandle;
  readonly ended: Promise<void>;
}

class Receiver implements FileReceiver {
  readonly #options: FileReceiverOptions;
  /** By peer and transfer: one flow at a time may write to a part file. */
  readonly #active = new Map<string, Active>();
  readonly #flows = new Map<FlowHandle, Promise<void>>();
  readonly #admitted = new Set<FlowHandle>();
  /** What each transfer under way has still to write: promised room on the disk. */
  readonly #promised = new Map<FlowHandle, number>();
  /** Transfers that are done, for a sender that did not hear of it and asks again; oldest first. */
  readonly #done = new Map<string, Done>();
  #turn: Promise<unknown> = Promise.resolve();
  #isClosed = false;

  constructor(options: FileReceiverOptions) {
    this.#options = options;
  }

  accept(flow: FlowHandle): void {
    const ended = this.#serve(flow).finally(() => this.#flows.delete(flow));
    this.#flows.set(flow, ended);
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const flow of this.#flows.keys()) flow.reset('shutting_down', 'the receiver is shutting down');
    await Promise.all(this.#flows.values());
  }

  /** Never rejects: what goes wrong is told to the sender. */
  async #serve(flow: FlowHandle): Promise<void> {
    try {
      if (this.#isClosed) throw new SelvedgeError('shutting_down');
      this.#admit(flow);
      const reader = new WordReader(flow);
      const header = await reader.word(words.header);
      if (header.v !== FILES_VERSION) throw new SelvedgeError('version_unsupported', { found: header.v, expected: FILES_VERSION });
      const done = await this.#receive(flow, reader, header);
      flow.write(encodeWord(done));
      flow.end();
      await flow.closed;
    } catch (error) {
      this.#admitted.delete(flow);
      await this.#refuse(flow, error);
    } finally {
      this.#admitted.delete(flow);
    }
  }

  /** One peer cannot take all the places, nor can flows that were refused and have not ended. */
  #admit(flow: FlowHandle): void {
    let ofPeer = 0;
    for (const other of this.#admitted) if (other.peer === flow.peer) ofPeer++;
    for (const limit of ['transfers_at_once_max', 'transfers_per_peer_max'] as const) {
      const count = limit === 'transfers_at_once_max' ? this.#admitted.size : ofPeer;
      if (count >= limits[limit]) throw new SelvedgeError('limit_reached', { limit, max: limits[limit] });
    }
    this.#admitted.add(flow);
  }

  async #receive(flow: FlowHandle, reader: WordReader, header: Header): Promise<Done> {
    const key = `${flow.peer} ${header.transfer}`;
    const before = this.#done.get(key);
    if (before !== undefined && header.again) return before;
    // The sender opened another flow before this end noticed that the old one is dead.
    for (let other = this.#active.get(key); other !== undefined; other = this.#active.get(key)) {
      other.flow.reset('replaced', 'the transfer goes on over another flow');
      await other.ended;
    }
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    this.#active.set(key, { flow, ended });
    try {
      const done = await this.#receiveInto(flow, reader, header);
      this.#remember(key, done);
      return done;
    } finally {
      this.#active.delete(key);
      end();
    }
  }

  async #receiveInto(flow: FlowHandle, reader: WordReader, header: Header): Promise<Done> {
    const directory = this.#options.inbox;
    const name = safeName(header.name);
    const path = join(directory, partName(name, flow.peer, header.transfer));
    const file = await openPart(path);
    try {
      const hash = createHash('sha256');
      const have = await this.#rehash(flow, file, hash, header.size);
      this.#promised.set(flow, header.size - have);
      await checkSpace(
        directory,
        [...this.#promised.values()].reduce((sum, bytes) => sum + bytes, 0),
      );
      // What is claimed must survive a crash of this machine, since the sender forgets it.
      await file.datasync();
      flow.write(encodeWord({ have }));
      await this.#receiveContent(reader, file, hash, have, header.size, (left) => this.#promised.set(flow, left));
      const { sha256 } = await reader.word(words.trailer);
      const found = hash.digest('hex');
      if (found !== sha256) {
        await unlink(path);
        throw new SelvedgeError('digest_mismatch', { what: name, found, expected: sha256 });
      }
      await file.sync();
      const placed = await place(directory, path, name);
      this.#options.onReceived?.({ peer: flow.peer, path: join(directory, placed), bytes: header.size, sha256 });
      return { done: true, sha256, name: placed };
    } catch (error) {
      // Nothing to go on from: it would only use up a file of the disk.
      if ((await file.stat()).size === 0) await unlink(path).catch(() => undefined);
      throw asDiskError(error, path);
    } finally {
      this.#promised.delete(flow);
      await file.close();
    }
  }

  /** Feeds what is there into the hash; more than the file's size cannot be of this transfer, and is cut. @returns how much there is */
  async #rehash(flow: FlowHandle, file: FileHandle, hash: Hash, size: number): Promise<number> {
    const { size: there } = await file.stat();
    if (there > size) await file.truncate(size);
    const have = Math.min(there, size);
    const buffer = Buffer.allocUnsafeSlow(Math.min(REHASH_BYTES, have));
    let isGone = false;
    void flow.closed.then(() => {
      isGone = true;
    });
    for (let position = 0; position < have; ) {
      if (isGone) throw new SelvedgeError('flow_lost', { why: 'it ended while what is here was read' });
      const { bytesRead } = await this.#inTurn(async () => {
        const read = await file.read(buffer, 0, Math.min(buffer.length, have - position), position);
        hash.update(buffer.subarray(0, read.bytesRead));
        return read;
      });
      if (bytesRead === 0) throw new SelvedgeError('store_damaged', { path: 'part file', why: 'shorter than it says' });
      position += bytesRead;
    }
    return have;
  }

  /** One piece at a time, of all transfers: many that are resumed at once must not hold up the keystrokes that this host carries. */
  #inTurn<T>(piece: () => Promise<T>): Promise<T> {
    const done = this.#turn.then(piece);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #receiveContent(reader: WordReader, file: FileHandle, hash: Hash, from: number, size: number, onWritten: (left: number) => void): Promise<void> {
    const writer = new PartWriter({ file, hash, timers: this.#options.timers, position: from, onWritten: (bytes) => onWritten(size - from - bytes) });
    try {
      for (let left = size - from; left > 0; ) {
        await writer.room();
        const count = reader.takeInto(writer.free(left));
        if (count === 0) {
          await reader.more();
          continue;
        }
        writer.added(count);
        left -= count;
      }
      await writer.finish();
    } finally {
      await writer.close();
    }
  }

  #remember(key: string, done: Done): void {
    this.#done.set(key, done);
    for (const oldest of this.#done.keys()) {
      if (this.#done.size <= limits.transfers_remembered_max) break;
      this.#done.delete(oldest);
    }
  }

  /** Says why, gives the sender a moment to hear it, and ends the flow. */
  async #refuse(flow: FlowHandle, error: unknown): Promise<void> {
    const refusal = refusalOf(error);
    let cancel = () => {};
    try {
      flow.write(encodeWord(refusal));
      flow.end();
      const patience = new Promise<void>((resolve) => {
        cancel = this.#options.timers.after(REFUSAL_MS_MAX, resolve);
      });
      await Promise.race([flow.closed, patience]);
    } catch {
      // The flow itself is what ended; its sender knows.
    } finally {
      cancel();
      flow.reset('flow_reset', refusal.error.code);
    }
  }
}

/** A part file is this daemon's alone: not a link, and not also a received file (a crash between `link` and `unlink` leaves that). */
async function openPart(path: string): Promise<FileHandle> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW;
  const file = await open(path, flags, 0o600);
  const { nlink } = await file.stat();
  if (nlink === 1) return file;
  await file.close();
  await unlink(path);
  return await open(path, flags | constants.O_EXCL, 0o600);
}

/** Room for `bytes`, and something left: files from others never fill the disk, neither by their size nor, being empty, by their number. */
async function checkSpace(directory: string, bytes: number): Promise<void> {
  const { bavail, bsize, files, ffree } = await statfs(directory);
  // A file system that makes inodes as it needs them says that it has none.
  const isOutOfFiles = files > 0 && ffree < limits.transfer_disk_reserve_files;
  if (isOutOfFiles || bavail * bsize < bytes + limits.transfer_disk_reserve_bytes) throw new SelvedgeError('disk_full', { path: directory });
}

/** Gives the file its name, or the next free one: `link` refuses to replace. @returns the name */
async function place(directory: string, part: string, name: string): Promise<string> {
  for (let number = 0; number < NAME_SUFFIXES_MAX; number++) {
    const candidate = numberedName(name, number);
    try {
      await link(part, join(directory, candidate));
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') continue;
      throw error;
    }
    await unlink(part);
    await syncDirectory(directory);
    return candidate;
  }
  throw new SelvedgeError('file_exists', { path: join(directory, name) });
}

async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

async function removeOldParts(directory: string, now_ms: number): Promise<void> {
  for (const name of await readdir(directory)) {
    if (!isPartName(name)) continue;
    const path = join(directory, name);
    const facts = await stat(path).catch(() => null);
    if (facts !== null && now_ms - facts.mtimeMs > limits.transfer_part_days_max * DAY_MS) await unlink(path).catch(() => undefined);
  }
}

function errnoOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}

function asDiskError(error: unknown, path: string): unknown {
  const errno = errnoOf(error);
  if (errno === 'ENOSPC' || errno === 'EDQUOT') return new SelvedgeError('disk_full', { path }, { cause: error });
  if (errno === 'EACCES' || errno === 'EPERM' || errno === 'EROFS')
    return new SelvedgeError('permission_denied', { what: `writing ${path}` }, { cause: error });
  return error;
}
