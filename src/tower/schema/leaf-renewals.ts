/** A node has a next leaf, and for a while old ones, beside the one in use. */
import type { Transaction } from 'kysely';
import type { FirstTables } from './first.ts';

export interface LeafRenewalTables {
  nodes: {
    /** JSON: leaves that are accepted beside the one in use. */
    renewal: string | null;
  };
}

export async function leafRenewals(db: Transaction<FirstTables>): Promise<void> {
  await db.schema.alterTable('nodes').addColumn('renewal', 'text').execute();
}
