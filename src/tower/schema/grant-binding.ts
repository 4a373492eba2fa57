/** What an x509 grant is bound to stands in a column of its own: whoever shows a certificate of some authority is compared with the authorities, and with no other grant. */
import { sql, type Transaction } from 'kysely';
import type { GrantTables } from './grants.ts';

export interface GrantBindingTables {
  grants: {
    /** `binding` of its detail; null where the kind has none. */
    binding: string | null;
  };
}

export async function grantBinding(db: Transaction<GrantTables>): Promise<void> {
  await db.schema.alterTable('grants').addColumn('binding', 'text').execute();
  for (const binding of ['host-id', 'site', 'system-ca'])
    await sql`update grants set binding = ${binding} where kind = 'x509' and detail like ${`%"binding":"${binding}"%`}`.execute(db);
  await db.schema.createIndex('grants_binding').on('grants').column('binding').execute();
}
