/** An operator has a next leaf beside the one in use. */
import type { Transaction } from 'kysely';
import type { AccessTables } from './access.ts';

export interface OperatorRenewalTables {
  operators: {
    /** JSON: the leaf that it was given and has not shown yet. */
    next_leaf: string | null;
  };
}

export async function operatorRenewal(db: Transaction<AccessTables>): Promise<void> {
  await db.schema.alterTable('operators').addColumn('next_leaf', 'text').execute();
}
