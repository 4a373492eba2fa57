/** Versions, scopes and the audit row of a change: part of the transaction of the change itself, and written nowhere else. */
import type { Kysely, Transaction } from 'kysely';
import { AUDIT_ORIGIN, type AuditEntry, auditHash } from '../audit/audit.ts';
import type { Tables } from '../schema/tables.ts';

/** What changes with anything at all. */
export const SCOPE_ALL = 'all';
/** What roles, policies, routes and services there are: in nobody's snapshot as such. */
export const SCOPE_RULES = 'rules';
/** What every snapshot shows. */
export const SCOPE_EVERYBODY = 'everybody';
export const scopeOfSite = (site: string) => `site:${site}`;
/** What one node's snapshot alone shows. */
export const scopeOfNode = (node: string) => `node:${node}`;
/** What the snapshots of an app network's members show. */
export const scopeOfApp = (network: string) => `app:${network}`;

/** What the snapshots of a role's or a tenant's nodes show. */
export const scopeOfRole = (role: string) => `role:${role}`;
export const scopeOfTenant = (tenant: string) => `tenant:${tenant}`;

/** Which version a rule that shows in this scope was changed by last: what a node must have heard of before others let it begin a channel (`route_epoch_stale`). */
export const epochPrefix = 'epoch:';
export const epochOf = (scope: string) => `${epochPrefix}${scope}`;

/** How a part of the store reaches the database: to change something in one transaction, and to read by several queries at one moment. */
export interface Given {
  readonly write: <Result>(change: (tx: Transaction<Tables>) => Promise<Result>) => Promise<Result>;
  readonly look: <Result>(query: (tx: Transaction<Tables>) => Promise<Result>) => Promise<Result>;
}

interface Change {
  readonly at_ms: number;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly detail: Readonly<Record<string, unknown>>;
  /** Whose snapshots it shows in; none: nobody's. */
  readonly scopes: readonly string[];
  /** Versions go on from there, if they are below. */
  readonly version_min?: number;
}

/** The version that it makes. */
export async function recordChange(tx: Transaction<Tables>, change: Change): Promise<number> {
  const version = Math.max((await versionOf(tx, [SCOPE_ALL])) + 1, change.version_min ?? 0);
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
  return version;
}

export async function versionOf(db: Kysely<Tables>, scopes: readonly string[]): Promise<number> {
  const row = await db
    .selectFrom('versions')
    .select((select) => select.fn.max('version').as('version'))
    .where('scope', 'in', scopes)
    .executeTakeFirst();
  return Number(row?.version ?? 0);
}

/** Of all scopes that begin so. */
export async function versionsOf(db: Kysely<Tables>, prefix: string): Promise<ReadonlyMap<string, number>> {
  // The next text after all that begin with the prefix.
  const end = `${prefix.slice(0, -1)}${String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)}`;
  const rows = await db.selectFrom('versions').selectAll().where('scope', '>=', prefix).where('scope', '<', end).execute();
  return new Map(rows.map(({ scope, version }) => [scope, Number(version)]));
}

/** The scopes of the app networks that a node is a member of. */
export async function appScopesOf(db: Kysely<Tables>, node: string): Promise<string[]> {
  const rows = await db.selectFrom('app_endpoints').select('network').where('node_id', '=', node).where('attachment', '=', '').execute();
  return rows.map((row) => scopeOfApp(row.network));
}

/** The scopes of a node's roles and tenant. */
export async function ruleScopesOf(db: Kysely<Tables>, node: string): Promise<string[]> {
  const used = db.selectFrom('resource_uses').select(['of_kind', 'of_name']).where('kind', '=', 'node').where('name', '=', node);
  const rows = await used.where('of_kind', 'in', ['role', 'tenant']).execute();
  return rows.map((row) => (row.of_kind === 'role' ? scopeOfRole(row.of_name) : scopeOfTenant(row.of_name)));
}
