/** What names what: kept with each change, so that nothing is removed that is still needed, and nothing named that is not there. */
import type { Kysely, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Use } from '../resources/kinds.ts';
import type { Tables } from '../schema/tables.ts';

/** How many users a refusal names. */
const NAMED_MAX = 3;

/** `user` names these from now on, and no others. @throws not_found for one that is not there */
export async function setUses(tx: Transaction<Tables>, user: Use, uses: readonly Use[]): Promise<void> {
  await tx.deleteFrom('resource_uses').where('kind', '=', user.kind).where('name', '=', user.name).execute();
  const rows = new Map(uses.map((use) => [`${use.kind}/${use.name}`, { ...user, of_kind: use.kind, of_name: use.name }]));
  for (const row of rows.values()) {
    if (!(await isThere(tx, { kind: row.of_kind, name: row.of_name }))) throw new SelvedgeError('not_found', { what: row.of_kind, name: row.of_name });
    await tx.insertInto('resource_uses').values(row).execute();
  }
}

/** @throws resource_in_use */
export async function checkUnused(tx: Transaction<Tables>, { kind, name }: Use): Promise<void> {
  const query = tx.selectFrom('resource_uses').select(['kind', 'name']).where('of_kind', '=', kind).where('of_name', '=', name);
  const users = (
    await query
      .orderBy('kind')
      .orderBy('name')
      .limit(NAMED_MAX + 2)
      .execute()
  ).filter((user) => user.kind !== kind || user.name !== name);
  if (users.length === 0) return;
  const named = users.slice(0, NAMED_MAX).map((user) => `${user.kind} ${user.name}`);
  const by = users.length > NAMED_MAX ? `${named.join(', ')} and more` : named.join(', ');
  throw new SelvedgeError('resource_in_use', { what: kind, name, by });
}

/** Names of the users of one kind. */
export async function usersOf(db: Kysely<Tables>, kind: Use['kind'], used: Use): Promise<string[]> {
  const query = db.selectFrom('resource_uses').select('name').where('of_kind', '=', used.kind).where('of_name', '=', used.name).where('kind', '=', kind);
  return (await query.orderBy('name').execute()).map((row) => row.name);
}

async function isThere(tx: Transaction<Tables>, { kind, name }: Use): Promise<boolean> {
  const found =
    kind === 'node'
      ? await tx.selectFrom('nodes').select('id').where('id', '=', name).executeTakeFirst()
      : await tx.selectFrom('resources').select('name').where('kind', '=', kind).where('name', '=', name).executeTakeFirst();
  return found !== undefined;
}
