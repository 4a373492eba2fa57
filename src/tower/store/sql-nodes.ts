/** Rows of nodes, as the store's other queries need them too. */
import type { Kysely, Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Endpoint } from '../../enroll/wire.ts';
import type { Renewal } from '../renewing/renewal.ts';
import { completeSpec, kinds, type SiteSettings, type Use } from '../resources/kinds.ts';
import type { By, Match } from '../resources/resource-store.ts';
import type { Tables } from '../schema/tables.ts';
import { appScopesOf, epochOf, recordChange, SCOPE_RULES, scopeOfNode, scopeOfSite } from './sql-change.ts';
import { checkKey } from './sql-keys.ts';
import { checkMatch } from './sql-resources.ts';
import { setUses } from './sql-uses.ts';
import type { NodeRow, NodeSettings } from './store.ts';

/** @throws not_found */
export async function mustFind(tx: Transaction<Tables>, id: string): Promise<NodeRow> {
  const row = await tx.selectFrom('nodes').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw new SelvedgeError('not_found', { what: 'node', name: id });
  return nodeRow(row);
}

/**
 * A node as it came to be by enrolling. A site that nobody has made comes with its first node. @throws name_taken, csr_invalid (the key is somebody else's), not_found (its tenant
 * or a role)
 */
export async function insertNode(tx: Transaction<Tables>, node: NodeRow): Promise<void> {
  const { id, name, site, fingerprint, leaf, csrHash, spkiHash, endpoints, created_ms, seen_ms, tenant, roles, revision } = node;
  const row = {
    id,
    name,
    site,
    fingerprint,
    leaf,
    csr_hash: csrHash,
    spki_hash: spkiHash,
    endpoints: JSON.stringify(endpoints),
    disabled: 0,
    created_ms,
    seen_ms,
    tenant,
    roles: JSON.stringify(roles),
    revision,
    renewal: null,
    leaving_ms: null,
  };
  await checkKey(tx, spkiHash, { kind: 'node', id });
  const done = await tx
    .insertInto('nodes')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (done.numInsertedOrUpdatedRows !== 1n) throw new SelvedgeError('name_taken', { name });
  await makeSite(tx, site, created_ms, revision);
  await setUses(tx, { kind: 'node', name: id }, usesOfNode(node));
}

/** @throws not_found, changed_meanwhile */
export async function changeNode(tx: Transaction<Tables>, id: string, said: Partial<NodeSettings>, match: Match, { actor, at_ms }: By): Promise<NodeRow> {
  const found = await mustFind(tx, id);
  checkMatch('node', found.name, found.revision, match);
  const row = { ...found, ...said };
  const { disabled, tenant, roles } = row;
  if (JSON.stringify({ disabled, tenant, roles }) === JSON.stringify({ disabled: found.disabled, tenant: found.tenant, roles: found.roles })) return found;
  const action = disabled === found.disabled ? 'node.change' : disabled ? 'node.disable' : 'node.enable';
  const isSelectedAnew = tenant !== found.tenant || JSON.stringify(roles) !== JSON.stringify(found.roles);
  const scopes = [...(await scopesOf(tx, found)), ...(isSelectedAnew ? [epochOf(scopeOfNode(id)), SCOPE_RULES] : [])];
  const revision = await recordChange(tx, { at_ms, actor, action, subject: id, detail: { disabled, tenant, roles }, scopes });
  await tx
    .updateTable('nodes')
    .set({ disabled: disabled ? 1 : 0, tenant, roles: JSON.stringify(roles), revision })
    .where('id', '=', id)
    .execute();
  await setUses(tx, { kind: 'node', name: id }, usesOfNode(row));
  return { ...row, revision };
}

/** @throws not_found */
export async function setLeaving(tx: Transaction<Tables>, id: string, leaving_ms: number, { actor, at_ms }: By): Promise<NodeRow> {
  const found = await mustFind(tx, id);
  if (found.fingerprint === null || (found.leaving_ms !== null && found.leaving_ms <= leaving_ms)) return found;
  const revision = await recordChange(tx, { at_ms, actor, action: 'node.drain', subject: id, detail: { leaving_ms }, scopes: await scopesOf(tx, found) });
  await tx.updateTable('nodes').set({ leaving_ms, revision }).where('id', '=', id).execute();
  return { ...found, leaving_ms, revision };
}

/** The settings of a site, also of one that nobody has made yet. */
export async function siteSettingsOf(db: Kysely<Tables>, site: string): Promise<SiteSettings> {
  const row = await db.selectFrom('resources').select('spec').where('kind', '=', 'site').where('name', '=', site).executeTakeFirst();
  return completeSpec(kinds.site, row === undefined ? {} : (JSON.parse(row.spec) as object));
}

/** Whose snapshots show a node: those of its site, and of all that share an app network with it. */
export async function scopesOf(tx: Transaction<Tables>, { id, site }: NodeRow): Promise<string[]> {
  return [scopeOfSite(site), ...(await appScopesOf(tx, id))];
}

function usesOfNode({ site, tenant, roles }: NodeRow): Use[] {
  const uses: Use[] = [{ kind: 'site', name: site }, ...roles.map((name): Use => ({ kind: 'role', name }))];
  return tenant === null ? uses : [...uses, { kind: 'tenant', name: tenant }];
}

async function makeSite(tx: Transaction<Tables>, name: string, at_ms: number, revision: number): Promise<void> {
  await tx
    .insertInto('resources')
    .values({ kind: 'site', name, spec: '{}', revision, created_ms: at_ms, changed_ms: at_ms })
    .onConflict((conflict) => conflict.doNothing())
    .execute();
}

// `bigint` columns come back as text from some drivers; the rest is a matter of names.

export function nodeRow(row: Selectable<Tables['nodes']>): NodeRow {
  return {
    id: row.id,
    name: row.name,
    site: row.site,
    fingerprint: row.fingerprint,
    leaf: row.leaf,
    csrHash: row.csr_hash,
    spkiHash: row.spki_hash,
    renewal: row.renewal === null ? null : (JSON.parse(row.renewal) as Renewal),
    endpoints: JSON.parse(row.endpoints) as Endpoint[],
    disabled: row.disabled !== 0,
    leaving_ms: row.leaving_ms === null ? null : Number(row.leaving_ms),
    created_ms: Number(row.created_ms),
    seen_ms: row.seen_ms === null ? null : Number(row.seen_ms),
    tenant: row.tenant,
    roles: JSON.parse(row.roles) as string[],
    revision: Number(row.revision),
  };
}
