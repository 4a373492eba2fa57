/** Versions, scopes and the audit row of a change: part of the transaction of the change itself, and written nowhere else. */
import type { Kysely, Transaction } from 'kysely';
import { AUDIT_ORIGIN, type AuditEntry, auditHash } from './audit.ts';
import type { Tables } from './migrations.ts';

/** What changes with anything at all. */
export const SCOPE_ALL = 'all';
/** What every snapshot shows. */
export const SCOPE_EVERYBODY = 'everybody';
export const scopeOfSite = (site: string) => `site:${site}`;
/** What one node's snapshot alone shows. */
export const scopeOfNode = (node: string) => `node:${node}`;
/** What the snapshots of an app network's members show. */
export const scopeOfApp = (network: string) => `app:${network}`;

interface Change {
  readonly at_ms: number;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: Readonly<Record<string, unknown>>;
  /** Whose snapshots it shows in; none: nobody's. */
  readonly scopes: readonly string[];
}

export async function recordChange(tx: Transaction<Tables>, change: Change): Promise<void> {
  const version = (await versionOf(tx, [SCOPE_ALL])) + 1;
  await tx
    .insertInto('versions')
    .values([SCOPE_ALL, ...change.scopes].map((scope) => ({ scope, version })))
    .onConflict((conflict) => conflict.column('scope').doUpdateSet({ version }))
    .execute();
  const last = await tx.selectFrom('audit').select(['seq', 'hash']).orderBy('seq', 'desc').limit(1).executeTakeFirst();
  const { at_ms, actor, action, subject } = change;
  const row: AuditEntry = {
    seq: Number(last?.seq ?? 0) + 1,
    version,
    at_ms,
    actor,
    action,
    subject,
    detail: JSON.stringify(change.detail),
    previous: last?.hash ?? AUDIT_ORIGIN,
  };
  await tx
    .insertInto('audit')
    .values({ ...row, hash: auditHash(row) })
    .execute();
}

export async function versionOf(db: Kysely<Tables>, scopes: readonly string[]): Promise<number> {
  const row = await db
    .selectFrom('versions')
    .select((select) => select.fn.max('version').as('version'))
    .where('scope', 'in', scopes)
    .executeTakeFirst();
  return Number(row?.version ?? 0);
}

/** The scopes of the app networks that a node is a member of. */
export async function appScopesOf(db: Kysely<Tables>, node: string): Promise<string[]> {
  const rows = await db.selectFrom('app_endpoints').select('network').where('node_id', '=', node).where('attachment', '=', '').execute();
  return rows.map((row) => scopeOfApp(row.network));
}

/** Whose snapshots show a node: those of its site, and of all that share an app network with it. */
export async function scopesOfNode(db: Kysely<Tables>, { id, site }: { readonly id: string; readonly site: string }): Promise<string[]> {
  return [scopeOfSite(site), ...(await appScopesOf(db, id))];
}
