/**
 * Operators, each with the one bundle by which it redeems its certificate, and API sessions. Of bundles and session tokens only hashes are kept.
 */
import type { Transaction } from 'kysely';

export interface AccessTables {
  operators: {
    id: string;
    name: string;
    /** The name while it is taken: null once the operator is revoked, so that another may have it. */
    live_name: string | null;
    /** JSON. */
    scopes: string;
    fingerprint: string | null;
    leaf: string | null;
    spki_hash: string | null;
    not_after_ms: number | null;
    bundle_hash: string | null;
    bundle_expires_ms: number | null;
    /** SHA-256 of the request that redeemed the bundle. */
    bundle_csr_hash: string | null;
    created_ms: number;
    revoked_ms: number | null;
  };
  api_sessions: {
    id: string;
    hash: string;
    actor: string;
    /** JSON. */
    scopes: string;
    /** How it came about: the certificate of an operator or a node, or a JWT of an issuer. At most one is not null. */
    operator_id: string | null;
    node_id: string | null;
    issuer: string | null;
    created_ms: number;
    expires_ms: number;
  };
}

export async function access(db: Transaction<AccessTables>): Promise<void> {
  await db.schema
    .createTable('operators')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('live_name', 'text', (column) => column.unique())
    .addColumn('scopes', 'text', (column) => column.notNull())
    .addColumn('fingerprint', 'text')
    .addColumn('leaf', 'text')
    .addColumn('spki_hash', 'text')
    .addColumn('not_after_ms', 'bigint')
    .addColumn('bundle_hash', 'text')
    .addColumn('bundle_expires_ms', 'bigint')
    .addColumn('bundle_csr_hash', 'text')
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addColumn('revoked_ms', 'bigint')
    .execute();
  await db.schema
    .createTable('api_sessions')
    .addColumn('id', 'text', (column) => column.primaryKey())
    .addColumn('hash', 'text', (column) => column.notNull().unique())
    .addColumn('actor', 'text', (column) => column.notNull())
    .addColumn('scopes', 'text', (column) => column.notNull())
    .addColumn('operator_id', 'text', (column) => column.references('operators.id'))
    .addColumn('node_id', 'text')
    .addColumn('issuer', 'text')
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addColumn('expires_ms', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema.createIndex('api_sessions_actor').on('api_sessions').columns(['actor', 'created_ms']).execute();
  await db.schema.createIndex('api_sessions_expiry').on('api_sessions').column('expires_ms').execute();
}
