/**
 * Tokens become one kind of grant among several, each use of a grant is a row, and what a node's host said of itself is kept, by which it may be known again.
 */
import { type Kysely, type Transaction, sql } from 'kysely';
import type { Tables } from './tables.ts';

export interface GrantTables {
  grants: {
    kind: string;
    id: string;
    hash: string | null;
    tenant: string | null;
    site: string | null;
    name: string | null;
    node_id: string | null;
    purpose: string;
    uses: number;
    uses_max: number;
    sources: string;
    detail: string;
    expires_ms: number | null;
    revoked_ms: number | null;
    created_ms: number;
  };
  /** A request that was answered, and with which node. `subject`: who of those that the grant is for; once each. */
  grant_uses: { kind: string; grant_id: string; csr_hash: string; subject: string | null; node_id: string; at_ms: number };
  node_facts: { node_id: string; machine: string; macs: string; addresses: string; peer: string };
}

export async function grants(db: Transaction<Tables>): Promise<void> {
  await makeGrants(db);
  await makeUses(db);
  await db.schema
    .createTable('node_facts')
    .addColumn('node_id', 'text', (column) => column.primaryKey().references('nodes.id'))
    .addColumn('machine', 'text', (column) => column.notNull())
    .addColumn('macs', 'text', (column) => column.notNull())
    .addColumn('addresses', 'text', (column) => column.notNull())
    .addColumn('peer', 'text', (column) => column.notNull())
    .execute();
  await db.schema.createIndex('node_facts_machine').on('node_facts').column('machine').execute();
}

async function makeGrants(db: Kysely<Tables>): Promise<void> {
  await db.schema
    .createTable('grants')
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('id', 'text', (column) => column.notNull())
    .addColumn('hash', 'text')
    .addColumn('tenant', 'text')
    .addColumn('site', 'text')
    .addColumn('name', 'text')
    .addColumn('node_id', 'text', (column) => column.unique())
    .addColumn('purpose', 'text', (column) => column.notNull())
    .addColumn('uses', 'integer', (column) => column.notNull())
    .addColumn('uses_max', 'integer', (column) => column.notNull())
    .addColumn('sources', 'text', (column) => column.notNull())
    .addColumn('detail', 'text', (column) => column.notNull())
    .addColumn('expires_ms', 'bigint')
    .addColumn('revoked_ms', 'bigint')
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('grants_once', ['kind', 'id'])
    .addCheckConstraint('grants_within_limit', sql`uses <= uses_max`)
    .execute();
  await db.schema.createIndex('grants_name').on('grants').column('name').execute();
  await sql`insert into grants (kind, id, hash, site, purpose, uses, uses_max, sources, detail, expires_ms, revoked_ms, created_ms)
    select 'token', id, hash, site, 'enroll', uses, uses_max, '[]', '{}', expires_ms, revoked_ms, created_ms from tokens`.execute(db);
  await db.schema.dropTable('tokens').execute();
}

async function makeUses(db: Kysely<Tables>): Promise<void> {
  await db.schema
    .createTable('grant_uses')
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('grant_id', 'text', (column) => column.notNull())
    .addColumn('csr_hash', 'text', (column) => column.notNull())
    .addColumn('subject', 'text')
    .addColumn('node_id', 'text', (column) => column.notNull())
    .addColumn('at_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('grant_uses_once', ['kind', 'grant_id', 'csr_hash'])
    .addUniqueConstraint('grant_uses_subject', ['kind', 'grant_id', 'subject'])
    .execute();
  await sql`insert into grant_uses (kind, grant_id, csr_hash, node_id, at_ms) select 'token', token_id, csr_hash, node_id, at_ms from enrollments`.execute(db);
  await db.schema.dropTable('enrollments').execute();
}
