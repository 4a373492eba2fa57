/** A node may be revoked with time to finish: until when. */
import type { Transaction } from 'kysely';
import type { FirstTables } from './first.ts';

export interface LeavingTables {
  nodes: {
    /** Milliseconds since the epoch; null: it is not being revoked. */
    leaving_ms: number | null;
  };
}

export async function leaving(db: Transaction<FirstTables>): Promise<void> {
  await db.schema.alterTable('nodes').addColumn('leaving_ms', 'bigint').execute();
}
