/**
 * The schema and how it came about. A migration, once released, is never changed: a further one follows it. Column types are those that
 * SQLite and PostgreSQL both read as meant (`bigint` for milliseconds, text for hex, base64 and JSON).
 */
import { type Kysely, type Transaction, sql } from 'kysely';
import { SelvedgeError } from '../base/errors.ts';
import { leafRenewals } from './schema/leaf-renewals.ts';

export interface Tables {
  schema_version: { version: number };
  cluster: {
    one: number;
    cluster: string;
    root_fingerprint: string;
    tower_fingerprint: string;
    endpoints: string;
    created_ms: number;
    vtep_range: string;
  };
  versions: { scope: string; version: number };
  nodes: {
    id: string;
    name: string;
    site: string;
    fingerprint: string | null;
    leaf: string | null;
    csr_hash: string;
    spki_hash: string;
    endpoints: string;
    disabled: number;
    created_ms: number;
    seen_ms: number | null;
    /** JSON: leaves that are accepted beside the one in use. */
    renewal: string | null;
  };
  tokens: { id: string; hash: string; uses: number; uses_max: number; site: string | null; expires_ms: number; revoked_ms: number | null; created_ms: number };
  enrollments: { token_id: string; csr_hash: string; node_id: string; at_ms: number };
  app_networks: { name: string; vni: number; subnet4: string | null; subnet6: string | null; mtu: number | null; learning: number; created_ms: number };
  /** A node is a member of a network where it has an endpoint with an empty attachment. */
  app_endpoints: {
    network: string;
    node_id: string;
    attachment: string;
    mac: string;
    address4: string | null;
    address6: string | null;
    created_ms: number;
  };
  app_hosts: { node_id: string; vtep: string | null; keys: string; listen: string; underlay: string };
  app_keys: { key: string; node_id: string };
  /** The number of each pool that was given out last, in decimal. */
  app_cursors: { pool: string; last: string };
  audit: { seq: number; version: number; at_ms: number; actor: string; action: string; subject: string; detail: string; previous: string; hash: string };
}

type Migration = (db: Transaction<Tables>) => Promise<void>;

const migrations: readonly Migration[] = [first, appNetworks, leafRenewals];

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

async function first(db: Transaction<Tables>): Promise<void> {
  await db.schema
    .createTable('cluster')
    .addColumn('one', 'integer', (column) => column.primaryKey().check(sql`one = 1`))
    .addColumn('cluster', 'text', (column) => column.notNull())
    .addColumn('root_fingerprint', 'text', (column) => column.notNull())
    .addColumn('tower_fingerprint', 'text', (column) => column.notNull())
    .addColumn('endpoints', 'text', (column) => column.notNull())
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('versions')
    .addColumn('scope', 'text', (column) => column.primaryKey())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('nodes')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull().unique())
    .addColumn('site', 'text', (column) => column.notNull())
    .addColumn('fingerprint', 'text')
    .addColumn('leaf', 'text')
    .addColumn('csr_hash', 'text', (column) => column.notNull())
    .addColumn('spki_hash', 'text', (column) => column.notNull().unique())
    .addColumn('endpoints', 'text', (column) => column.notNull())
    .addColumn('disabled', 'integer', (column) => column.notNull())
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addColumn('seen_ms', 'bigint')
    .execute();
  await db.schema.createIndex('nodes_site').on('nodes').column('site').execute();
  await db.schema
    .createTable('tokens')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('hash', 'text', (column) => column.notNull())
    .addColumn('uses', 'integer', (column) => column.notNull())
    .addColumn('uses_max', 'integer', (column) => column.notNull())
    .addColumn('site', 'text')
    .addColumn('expires_ms', 'bigint', (column) => column.notNull())
    .addColumn('revoked_ms', 'bigint')
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addCheckConstraint('tokens_within_limit', sql`uses <= uses_max`)
    .execute();
  await db.schema
    .createTable('enrollments')
    .addColumn('token_id', 'text', (column) => column.notNull())
    .addColumn('csr_hash', 'text', (column) => column.notNull())
    .addColumn('node_id', 'text', (column) => column.notNull().references('nodes.id'))
    .addColumn('at_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('enrollments_once', ['token_id', 'csr_hash'])
    .execute();
  await db.schema
    .createTable('audit')
    .addColumn('seq', 'bigint', (column) => column.primaryKey())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .addColumn('at_ms', 'bigint', (column) => column.notNull())
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('action', 'text', (column) => column.notNull())
    .addColumn('subject', 'text', (column) => column.notNull())
    .addColumn('detail', 'text', (column) => column.notNull())
    .addColumn('previous', 'text', (column) => column.notNull())
    .addColumn('hash', 'text', (column) => column.notNull())
    .execute();
}

async function appNetworks(db: Transaction<Tables>): Promise<void> {
  await db.schema
    .alterTable('cluster')
    .addColumn('vtep_range', 'text', (column) => column.notNull().defaultTo('100.96.0.0/12'))
    .execute();
  await db.schema
    .createTable('app_networks')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('vni', 'integer', (column) => column.notNull().unique())
    .addColumn('subnet4', 'text')
    .addColumn('subnet6', 'text')
    .addColumn('mtu', 'integer')
    .addColumn('learning', 'integer', (column) => column.notNull())
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('app_endpoints')
    .addColumn('network', 'text', (column) => column.notNull().references('app_networks.name'))
    .addColumn('node_id', 'text', (column) => column.notNull().references('nodes.id'))
    .addColumn('attachment', 'text', (column) => column.notNull())
    .addColumn('mac', 'text', (column) => column.notNull())
    .addColumn('address4', 'text')
    .addColumn('address6', 'text')
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('app_endpoints_once', ['network', 'node_id', 'attachment'])
    .addUniqueConstraint('app_endpoints_mac', ['network', 'mac'])
    .addUniqueConstraint('app_endpoints_address4', ['network', 'address4'])
    .addUniqueConstraint('app_endpoints_address6', ['network', 'address6'])
    .execute();
  await db.schema.createIndex('app_endpoints_node').on('app_endpoints').columns(['node_id', 'attachment']).execute();
  await db.schema
    .createTable('app_hosts')
    .addColumn('node_id', 'text', (column) => column.primaryKey().references('nodes.id'))
    .addColumn('vtep', 'text', (column) => column.unique())
    .addColumn('keys', 'text', (column) => column.notNull())
    .addColumn('listen', 'text', (column) => column.notNull())
    .addColumn('underlay', 'text', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('app_keys')
    .addColumn('key', 'text', (column) => column.primaryKey())
    .addColumn('node_id', 'text', (column) => column.notNull().references('nodes.id'))
    .execute();
  await db.schema
    .createTable('app_cursors')
    .addColumn('pool', 'text', (column) => column.primaryKey())
    .addColumn('last', 'text', (column) => column.notNull())
    .execute();
}
