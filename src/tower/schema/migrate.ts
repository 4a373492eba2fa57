/**
 * How the schema comes about. A migration, once released, is never changed: a further one follows it, in a file of its own with the tables and columns that it
 * makes. Column types are those that SQLite and PostgreSQL both read as meant (`bigint` for milliseconds, text for hex, base64 and JSON).
 */
import type { Kysely, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import { access } from './access.ts';
import { appNetworks } from './app-networks.ts';
import { first } from './first.ts';
import { grantBinding } from './grant-binding.ts';
import { grants } from './grants.ts';
import { leafRenewals } from './leaf-renewals.ts';
import { leaving } from './leaving.ts';
import { operatorRenewal } from './operator-renewal.ts';
import { renewing } from './renewing.ts';
import { resources } from './resources.ts';
import type { Tables } from './tables.ts';
import { trust } from './trust.ts';
import { unseal } from './unseal.ts';

type Migration = (db: Transaction<Tables>) => Promise<void>;

/** In the order of their numbers, from 1. A step sees the tables of all, though those of later ones are not there yet. */
const migrations: readonly Migration[] = [
  (db) => first(db as unknown as Parameters<typeof first>[0]),
  (db) => appNetworks(db as unknown as Parameters<typeof appNetworks>[0]),
  (db) => resources(db as unknown as Parameters<typeof resources>[0]),
  (db) => grants(db as unknown as Parameters<typeof grants>[0]),
  (db) => access(db as unknown as Parameters<typeof access>[0]),
  unseal,
  (db) => leafRenewals(db as unknown as Parameters<typeof leafRenewals>[0]),
  (db) => operatorRenewal(db as unknown as Parameters<typeof operatorRenewal>[0]),
  (db) => leaving(db as unknown as Parameters<typeof leaving>[0]),
  (db) => grantBinding(db as unknown as Parameters<typeof grantBinding>[0]),
  (db) => renewing(db as unknown as Parameters<typeof renewing>[0]),
  (db) => trust(db as unknown as Parameters<typeof trust>[0]),
];

/** Brings the schema to what this program knows, in one transaction. @throws store_damaged on a schema of a newer program */
export async function migrate(db: Kysely<Tables>, path: string): Promise<void> {
  await db.schema
    .createTable('schema_version')
    .ifNotExists()
    .addColumn('version', 'integer', (column) => column.notNull())
    .execute();
  await db.transaction().execute(async (tx) => {
    const found = (await tx.selectFrom('schema_version').select('version').executeTakeFirst())?.version ?? 0;
    if (found > migrations.length)
      throw new SelvedgeError('store_damaged', { path, why: `its schema ${found} is newer than this program's ${migrations.length}` });
    for (const step of migrations.slice(found)) await step(tx);
    await tx.deleteFrom('schema_version').execute();
    await tx.insertInto('schema_version').values({ version: migrations.length }).execute();
  });
}
