/**
 * A tower in one file: a copy of its database, made while it runs, with the sealed secrets and `tower.json` in a table of their own. What unseals the secrets is not in it.
 * A backup is checked whole before it is believed: the database's pages, each row of the audit chain, and a digest of each file.
 */
import { createHash } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { closed, Label } from '../../enroll/shapes.ts';
import { checker, readJson } from '../../enroll/wire.ts';
import { readFileBounded } from '../../identity/files.ts';
import { auditBreak } from '../audit/audit.ts';
import { stateFiles } from './state-files.ts';
import type { AuditRow, Store } from '../store/store.ts';

const Whole = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const FactsSchema = closed({ format: Type.Literal(1), cluster: Label, version: Whole, rows: Whole, at_ms: Whole });
/** What a backup says of itself. */
export type BackupFacts = Static<typeof FactsSchema>;
const checkFacts = checker(FactsSchema);

export const BACKUP_TABLE = 'backup_files';
const FACTS = 'backup.json';

/** Writes `file`, which must not be there yet, and returns when it is on disk. Whoever asked checks it. @throws file_exists, disk_full, permission_denied */
export async function writeBackup(given: { store: Store; state: string; file: string; cluster: string; clock: Clock; actor: string }): Promise<BackupFacts> {
  const { store, state, cluster, clock, actor } = given;
  const file = resolve(given.file);
  const at_ms = Math.floor(clock.wall());
  await reserve(file);
  try {
    const version = await store.note({ action: 'tower.backup', subject: cluster, detail: { file: basename(file) } }, { actor, at_ms });
    await store.copyTo(file);
    // After the rows: a certificate that was renewed in between is then in the sealed store, where the tower looks first.
    const contents = await Promise.all([stateFiles.sealed, stateFiles.tower].map(async (name) => [name, await contentOf(join(state, name))] as const));
    const rows = (await store.head())?.seq ?? 0;
    const facts: BackupFacts = { format: 1, cluster, version, rows, at_ms };
    addFiles(file, [...contents, [FACTS, new TextEncoder().encode(JSON.stringify(facts))]]);
    await syncFile(file);
    return facts;
  } catch (error) {
    await rm(file, { force: true });
    throw error;
  }
}

/** @throws backup_invalid, not_found */
export function checkBackup(file: string): BackupFacts {
  const database = openBackup(file);
  try {
    const why = database.prepare('pragma integrity_check(1)').get()?.integrity_check;
    if (why !== 'ok') throw new SelvedgeError('backup_invalid', { path: file, why: String(why) });
    const facts = readJson(fileIn(database, file, FACTS), limits.identity_file_bytes_max, checkFacts);
    for (const name of [stateFiles.sealed, stateFiles.tower]) fileIn(database, file, name);
    const last = walk(database, file);
    if (last === null || last.version < facts.version) throw new SelvedgeError('backup_invalid', { path: file, why: 'its audit log ends before it was made' });
    return facts;
  } catch (error) {
    throw asSelvedgeError(error, 'backup_invalid', { path: file });
  } finally {
    database.close();
  }
}

/** The name is taken, by a file that nobody else may read, before anything is written. */
async function reserve(file: string): Promise<void> {
  try {
    await (await open(file, 'wx', 0o600)).close();
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EEXIST') throw new SelvedgeError('file_exists', { path: file });
    throw asSelvedgeError(error, 'permission_denied', { what: `writing ${file}` });
  }
}

async function contentOf(path: string): Promise<Uint8Array> {
  const bytes = await readFileBounded(path, limits.sealed_store_bytes_max);
  if (bytes === null) throw new SelvedgeError('store_damaged', { path, why: 'it is not there' });
  return bytes;
}

function addFiles(file: string, contents: readonly (readonly [string, Uint8Array])[]): void {
  const database = new DatabaseSync(file);
  try {
    database.exec(`pragma journal_mode = delete; begin; create table ${BACKUP_TABLE} (name text primary key, content blob not null, sha256 text not null)`);
    const insert = database.prepare(`insert into ${BACKUP_TABLE} values (?, ?, ?)`);
    for (const [name, content] of contents) insert.run(name, content, sha256(content));
    database.exec('commit');
  } finally {
    database.close();
  }
}

function openBackup(file: string): DatabaseSync {
  try {
    return new DatabaseSync(file, { readOnly: true });
  } catch (error) {
    throw new SelvedgeError('not_found', { what: 'backup', name: file }, { cause: error });
  }
}

/** @throws backup_invalid */
export function fileIn(database: DatabaseSync, file: string, name: string): Uint8Array {
  const row = database.prepare(`select content, sha256 from ${BACKUP_TABLE} where name = ?`).get(name);
  if (!(row?.content instanceof Uint8Array)) throw new SelvedgeError('backup_invalid', { path: file, why: `${name} is not in it` });
  if (sha256(row.content) !== row.sha256) throw new SelvedgeError('backup_invalid', { path: file, why: `${name} in it was changed` });
  return row.content;
}

/** The last row of a chain that holds. */
function walk(database: DatabaseSync, file: string): AuditRow | null {
  let last: AuditRow | null = null;
  for (const row of database.prepare('select * from audit order by seq').iterate()) {
    const why = auditBreak(last, row as unknown as AuditRow);
    if (why !== null) throw new SelvedgeError('backup_invalid', { path: file, why });
    last = row as unknown as AuditRow;
  }
  return last;
}

export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
