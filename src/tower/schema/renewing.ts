/** The nodes whose leaf is being renewed, few of many: found without reading the others. */
import { type Kysely, sql } from 'kysely';

export async function renewing(db: Kysely<{ nodes: { id: string; renewal: string | null } }>): Promise<void> {
  await db.schema.createIndex('nodes_renewing').on('nodes').column('id').where(sql.ref('renewal'), 'is not', null).execute();
}
