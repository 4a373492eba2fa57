/** Site tokens, each sealed under a key of the tower's sealed store; and of each node its boot identity and what it holds. */
import type { Transaction } from 'kysely';
import type { Tables } from './tables.ts';

export interface UnsealTables {
  site_tokens: { site: string; generation: number; sealed: string; created_ms: number };
  node_boot: {
    node_id: string;
    /** SHA-256 of the boot leaf, hex; `previous` counts until the node says that it has this one. */
    fingerprint: string;
    previous: string | null;
    csr_hash: string;
    /** DER of leaf and intermediate in base64, as JSON: the answer to the same request again. */
    chain: string;
  };
  /** What a node said last of the generations that it holds, and that its store is sealed with (0: in another way). */
  node_seals: { node_id: string; have: number; sealed: number };
}

export async function unseal(db: Transaction<Tables>): Promise<void> {
  await db.schema
    .createTable('site_tokens')
    .addColumn('site', 'text', (column) => column.notNull())
    .addColumn('generation', 'integer', (column) => column.notNull())
    .addColumn('sealed', 'text', (column) => column.notNull())
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('site_tokens_once', ['site', 'generation'])
    .execute();
  await db.schema
    .createTable('node_boot')
    .addColumn('node_id', 'text', (column) => column.primaryKey().references('nodes.id'))
    .addColumn('fingerprint', 'text', (column) => column.notNull())
    .addColumn('previous', 'text')
    .addColumn('csr_hash', 'text', (column) => column.notNull())
    .addColumn('chain', 'text', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('node_seals')
    .addColumn('node_id', 'text', (column) => column.primaryKey().references('nodes.id'))
    .addColumn('have', 'integer', (column) => column.notNull())
    .addColumn('sealed', 'integer', (column) => column.notNull())
    .execute();
}
