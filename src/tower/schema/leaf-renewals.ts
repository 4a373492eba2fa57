/** A node has a next leaf, and for a while an old one, beside the one in use. */
import type { Transaction } from 'kysely';
import type { Tables } from '../migrations.ts';

export async function leafRenewals(db: Transaction<Tables>): Promise<void> {
  await db.schema.alterTable('nodes').addColumn('renewal', 'text').execute();
}
