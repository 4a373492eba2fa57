/** What a tower began with: the cluster, versions, nodes, tokens, audit. */
import { sql, type Transaction } from 'kysely';

export interface FirstTables {
  schema_version: { version: number };
  cluster: {
    one: number;
    cluster: string;
    root_fingerprint: string;
    tower_fingerprint: string;
    endpoints: string;
    created_ms: number;
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
  };
  tokens: { id: string; hash: string; uses: number; uses_max: number; site: string | null; expires_ms: number; revoked_ms: number | null; created_ms: number };
  enrollments: { token_id: string; csr_hash: string; node_id: string; at_ms: number };
  audit: { seq: number; version: number; at_ms: number; actor: string; action: string; subject: string; detail: string; previous: string; hash: string };
}

export async function first(db: Transaction<FirstTables>): Promise<void> {
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
