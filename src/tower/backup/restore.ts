/** A tower from a backup: a state directory of its own, which goes on where no node has been yet. */
import { copyFile, mkdir, rm } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { authoritySecrets } from '../../identity/authority.ts';
import { toBase64 } from '../../identity/base64.ts';
import { writeFileAtomic } from '../../identity/files.ts';
import { SealedStore } from '../../identity/sealed-store.ts';
import type { UnsealKey } from '../../identity/unseal.ts';
import { BACKUP_TABLE, type BackupFacts, checkBackup, fileIn, syncFile } from './backup.ts';
import { checkEmpty, makeBeside, moveTo, syncDirectory } from '../init.ts';
import { stateFiles } from './state-files.ts';
import { openSqliteStore } from '../store/sqlite.ts';
import { firstTrust } from '../trust/phases.ts';

export interface RestoreRequest {
  readonly file: string;
  /** Directory; made, and may exist only if it is empty. */
  readonly state: string;
  /** What unseals the sealed store in this directory. */
  readonly unseal: (directory: string) => Promise<UnsealKey>;
  readonly clock: Clock;
}

/** A state directory from a backup, ready to run. @throws backup_invalid, not_found, file_exists, store_locked */
export async function restoreTower({ file, state: place, unseal, clock }: RestoreRequest): Promise<BackupFacts & { readonly restored_version: number }> {
  const state = resolve(place);
  const facts = checkBackup(file);
  await checkEmpty(state);
  const making = await makeBeside(state);
  try {
    const path = join(making, stateFiles.database);
    await copyFile(file, path);
    for (const [name, bytes] of takeFiles(path, file)) await writeFileAtomic(join(making, name), bytes);
    // Whoever cannot unseal it learns it now, not when the tower is needed.
    const sealed = await SealedStore.open(join(making, stateFiles.sealed), await unseal(making));
    const root = sealed.get(authoritySecrets.rootCertificate);
    await sealed.close();
    if (root === null) throw new SelvedgeError('store_damaged', { path: join(making, stateFiles.sealed), why: 'it holds no authority' });
    const restored_version = await leap(path, facts, root, clock);
    await mkdir(join(making, stateFiles.inbox), { mode: 0o700 });
    await syncFile(path);
    await syncDirectory(making);
    await moveTo(making, state);
    return { ...facts, restored_version };
  } catch (error) {
    await rm(making, { recursive: true, force: true });
    throw ofBackup(error, making, file);
  }
}

/** What is wrong with a file that was made out of the backup is told of the backup: the other is gone. */
function ofBackup(error: unknown, making: string, file: string): unknown {
  if (!(error instanceof SelvedgeError) || !String(error.facts.path).startsWith(`${making}/`)) return error;
  return new SelvedgeError(error.code, { ...error.facts, path: `${relative(making, String(error.facts.path))} of ${file}` }, { cause: error });
}

/** Changes in a millisecond that no tower makes: each is a commit that waits for the disk. */
const CHANGES_PER_MS_MAX = 1_000;

/**
 * Nodes take only snapshots that are newer than theirs, and may have some that were made after the backup. So versions go on from the time of day, in units that no tower
 * can have used up: above whatever was told before, of this restore and of those before it.
 * The trust bundle's too: a root that was begun after the backup, and is lost with it, is in bundles that nodes hold; one of the same version and other roots would be taken by
 * none of them, and believed to be held by all.
 */
async function leap(path: string, facts: BackupFacts, root: Uint8Array, clock: Clock): Promise<number> {
  const store = await openSqliteStore({ path });
  try {
    const at_ms = Math.floor(clock.wall());
    const version_min = Math.max(at_ms, facts.at_ms) * CHANGES_PER_MS_MAX;
    const detail = { backup_at_ms: facts.at_ms, backup_version: facts.version };
    const trust = (await store.trust.get()) ?? firstTrust(toBase64(root), limits.trust_threshold_percent, at_ms);
    await store.trust.set({ ...trust, version: version_min }, { action: 'trust.restore', detail: {} }, { actor: 'local', at_ms });
    return await store.note({ action: 'tower.restore', subject: facts.cluster, detail, version_min }, { actor: 'local', at_ms });
  } finally {
    await store.close();
  }
}

/** Takes the files out of a copy of a backup, which is the tower's database then. */
function takeFiles(path: string, file: string): [string, Uint8Array][] {
  const database = new DatabaseSync(path);
  try {
    const names = [stateFiles.sealed, stateFiles.tower];
    const contents = names.map((name): [string, Uint8Array] => [name, fileIn(database, file, name)]);
    database.exec(`drop table ${BACKUP_TABLE}; vacuum`);
    return contents;
  } finally {
    database.close();
  }
}
