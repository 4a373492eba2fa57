/**
 * SQLite below the store: opens the file (WAL, full sync, this process alone), gives kysely a database, and turns SQLite's result codes
 * into codes of the table. It holds no query of the product.
 */
import { open } from 'node:fs/promises';
import { backup, DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { Kysely, type SqliteDatabase, SqliteDialect } from 'kysely';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { migrate } from '../schema/migrate.ts';
import type { Tables } from '../schema/tables.ts';
import type { Store } from './store.ts';
import { SqlStore } from './sql.ts';

export interface SqliteOptions {
  readonly path: string;
  /** Pages of 4 KiB that the file may grow to; for tests of a full disk. */
  readonly pages_max?: number;
}

/** Opens or makes the database. @throws store_damaged, state_in_use, disk_full, permission_denied */
export async function openSqliteStore(options: SqliteOptions): Promise<Store> {
  const { path } = options;
  const rule = (error: unknown) => sqliteError(error, path);
  await makePrivate(path);
  let database: DatabaseSync;
  try {
    database = new DatabaseSync(path, { timeout: 0, enableForeignKeyConstraints: true });
  } catch (error) {
    throw rule(error);
  }
  const db = new Kysely<Tables>({ dialect: new SqliteDialect({ database: forKysely(database) }) });
  try {
    // Exclusive: two towers on one file would each keep a memory of their own of what is in it. The lock ends with the process.
    database.exec('pragma locking_mode = exclusive; pragma journal_mode = wal; pragma synchronous = full');
    database.exec(`pragma max_page_count = ${options.pages_max ?? limits.tower_database_pages_max}`);
    checkWhole(database, path);
    await migrate(db, path);
  } catch (error) {
    database.close();
    throw rule(error);
  }
  return new SqlStore({ db, path, isGrouped: true, rule, copy: async (file) => void (await backup(database, file, { rate: BACKUP_PAGES })) });
}

/** Copied in one step, off the event loop: between steps SQLite would begin anew whenever something was written. */
const BACKUP_PAGES = limits.tower_database_pages_max;

/** SQLite makes files by the umask, and its further files with the mode of the first. */
async function makePrivate(path: string): Promise<void> {
  try {
    await (await open(path, 'a', 0o600)).close();
  } catch (error) {
    throw asSelvedgeError(error, 'permission_denied', { what: `opening ${path}` });
  }
}

function checkWhole(database: DatabaseSync, path: string): void {
  const why = database.prepare('pragma quick_check(1)').get()?.quick_check;
  if (why !== 'ok') throw new SelvedgeError('store_damaged', { path, why: String(why) });
}

/** Statements that are kept ready; the oldest go. The texts of the store are fewer, but for lists of many lengths. */
const STATEMENTS_MAX = 256;

/** The few verbs that kysely's SQLite driver calls, on `node:sqlite`. To prepare a statement takes as long as to run it: they are kept. */
function forKysely(database: DatabaseSync): SqliteDatabase {
  const prepared = new Map<string, { readonly statement: StatementSync; readonly reader: boolean }>();
  const prepare = (text: string): { readonly statement: StatementSync; readonly reader: boolean } => {
    const known = prepared.get(text);
    if (known !== undefined) return known;
    const statement = database.prepare(text);
    const made = { statement, reader: statement.columns().length > 0 };
    prepared.set(text, made);
    const [oldest] = prepared.keys();
    if (prepared.size > STATEMENTS_MAX && oldest !== undefined) prepared.delete(oldest);
    return made;
  };
  return {
    close: () => database.close(),
    prepare(text) {
      // SQLite has already rolled back after a full disk; a second rollback would hide the error that caused it.
      if (text === 'rollback' && !database.isTransaction) return NOTHING;
      const { statement, reader } = prepare(text);
      return {
        reader,
        all: (values) => statement.all(...(values as SQLInputValue[])),
        run: (values) => statement.run(...(values as SQLInputValue[])),
        // Rows come one by one, while others may run the same.
        iterate: (values) => database.prepare(text).iterate(...(values as SQLInputValue[])),
      };
    },
  };
}

const NOTHING: ReturnType<SqliteDatabase['prepare']> = {
  reader: false,
  all: () => [],
  run: () => ({ changes: 0, lastInsertRowid: 0 }),
  iterate: () => [].values(),
};

/** Primary result codes of SQLite (https://sqlite.org/rescode.html); an extended code has the primary one in its low octet. */
const SQLITE = { perm: 3, busy: 5, readonly: 8, ioerr: 10, corrupt: 11, full: 13, cantopen: 14, notadb: 26 } as const;

function sqliteError(error: unknown, path: string): unknown {
  if (error instanceof SelvedgeError || !(error instanceof Error) || !('errcode' in error)) return error;
  const why = error.message;
  switch (Number(error.errcode) & 0xff) {
    case SQLITE.full:
      return new SelvedgeError('disk_full', { path }, { cause: error });
    case SQLITE.corrupt:
    case SQLITE.notadb:
    case SQLITE.ioerr:
      return new SelvedgeError('store_damaged', { path, why }, { cause: error });
    case SQLITE.busy:
      return new SelvedgeError('state_in_use', { path }, { cause: error });
    case SQLITE.perm:
    case SQLITE.readonly:
    case SQLITE.cantopen:
      return new SelvedgeError('permission_denied', { what: `opening ${path}: ${why}` }, { cause: error });
    default:
      return error;
  }
}
