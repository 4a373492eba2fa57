/** Which roots the cluster trusts, and of which bundle of them a node said that it holds it. */
import type { Transaction } from 'kysely';
import type { FirstTables } from './first.ts';

export interface TrustTables {
  /** One row, once a root was ever rotated. */
  trust: {
    one: number;
    version: number;
    phase: string;
    /** JSON: DER in base64, the one in use first. */
    roots: string;
    previous: string | null;
    threshold_percent: number;
    since_ms: number;
  };
  node_trust: { node_id: string; version: number };
}

export async function trust(db: Transaction<FirstTables>): Promise<void> {
  await db.schema
    .createTable('trust')
    .addColumn('one', 'integer', (column) => column.primaryKey())
    .addColumn('version', 'bigint', (column) => column.notNull())
    .addColumn('phase', 'text', (column) => column.notNull())
    .addColumn('roots', 'text', (column) => column.notNull())
    .addColumn('previous', 'text')
    .addColumn('threshold_percent', 'integer', (column) => column.notNull())
    .addColumn('since_ms', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('node_trust')
    .addColumn('node_id', 'text', (column) => column.primaryKey().references('nodes.id'))
    .addColumn('version', 'bigint', (column) => column.notNull())
    .execute();
}
