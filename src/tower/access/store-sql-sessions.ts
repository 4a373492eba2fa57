/** Rows of API sessions in SQL. A session is found by the hash of its token alone, and is none once its operator or node is cut off. */
import type { Kysely, Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Scope } from '../../api/access.ts';
import { limits } from '../../base/limits.ts';
import type { Tables } from '../schema/tables.ts';
import { recordChange } from '../store/sql-change.ts';
import type { By, PageRequest } from '../resources/resource-store.ts';
import type { NewSession, SessionRow } from './access-store.ts';

type Tx = Transaction<Tables>;
type Row = Selectable<Tables['api_sessions']>;

export async function createSession(tx: Tx, { hash, ...session }: NewSession, { actor, at_ms }: By): Promise<{ row: SessionRow; ended: readonly string[] }> {
  if (session.operator !== null) await checkShown(tx, session.operator);
  await tx.deleteFrom('api_sessions').where('expires_ms', '<=', at_ms).execute();
  const ended = await makeRoom(tx, session.actor);
  const { count } = await tx
    .selectFrom('api_sessions')
    .select((select) => select.fn.countAll().as('count'))
    .executeTakeFirstOrThrow();
  if (Number(count) >= limits.api_sessions_max) throw new SelvedgeError('limit_reached', { limit: 'API sessions', max: limits.api_sessions_max });
  const { id, scopes, operator, node, issuer, expires_ms } = session;
  const row: Row = {
    id,
    hash,
    actor: session.actor,
    scopes: JSON.stringify(scopes),
    operator_id: operator?.id ?? null,
    node_id: node,
    issuer,
    created_ms: at_ms,
    expires_ms,
  };
  await tx.insertInto('api_sessions').values(row).execute();
  await recordChange(tx, { at_ms, actor, action: 'session.create', subject: id, detail: { scopes, expires_ms, ended }, scopes: [] });
  return { row: sessionRow(row), ended };
}

export async function findSession(db: Kysely<Tables>, hash: string, at_ms: number): Promise<SessionRow | null> {
  const row = await db.selectFrom('api_sessions').selectAll().where('hash', '=', hash).where('expires_ms', '>', at_ms).executeTakeFirst();
  if (row === undefined) return null;
  if (row.operator_id !== null) {
    const operator = await db.selectFrom('operators').select('fingerprint').where('id', '=', row.operator_id).executeTakeFirst();
    if (operator?.fingerprint == null) return null;
  }
  if (row.node_id !== null) {
    const node = await db.selectFrom('nodes').select(['fingerprint', 'disabled']).where('id', '=', row.node_id).executeTakeFirst();
    if (node === undefined || node.fingerprint === null || node.disabled !== 0) return null;
  }
  return sessionRow(row);
}

export async function sessionPage(db: Kysely<Tables>, { after, limit }: PageRequest, at_ms: number): Promise<readonly SessionRow[]> {
  const all = db.selectFrom('api_sessions').selectAll().where('expires_ms', '>', at_ms).orderBy('id').limit(limit);
  return (await (after === null ? all : all.where('id', '>', after)).execute()).map(sessionRow);
}

export async function endSession(tx: Tx, id: string, action: 'session.logout' | 'session.revoke', { actor, at_ms }: By): Promise<SessionRow> {
  const found = await tx.selectFrom('api_sessions').selectAll().where('id', '=', id).executeTakeFirst();
  if (found === undefined) throw new SelvedgeError('not_found', { what: 'session', name: id });
  await tx.deleteFrom('api_sessions').where('id', '=', id).execute();
  await recordChange(tx, { at_ms, actor, action, subject: id, detail: { actor: found.actor }, scopes: [] });
  return sessionRow(found);
}

/** For the transaction that cuts an operator off, which has the audit row. @returns their ids */
export async function endSessionsOf(tx: Tx, operator: string): Promise<readonly string[]> {
  const rows = await tx.selectFrom('api_sessions').select('id').where('operator_id', '=', operator).execute();
  await tx.deleteFrom('api_sessions').where('operator_id', '=', operator).execute();
  return rows.map(({ id }) => id);
}

/** Between showing a certificate and this, its owner may have been cut off, or have another. @throws certificate_revoked */
async function checkShown(tx: Tx, { id, fingerprint }: { readonly id: string; readonly fingerprint: string }): Promise<void> {
  const row = await tx.selectFrom('operators').select('fingerprint').where('id', '=', id).executeTakeFirst();
  if (row?.fingerprint !== fingerprint) throw new SelvedgeError('certificate_revoked', { peer: `operator ${id}`, why: 'it was cut off meanwhile' });
}

/** So that a program which never logs out locks nobody out, least of all itself. @returns the ids that ended */
async function makeRoom(tx: Tx, actor: string): Promise<readonly string[]> {
  const rows = await tx.selectFrom('api_sessions').select('id').where('actor', '=', actor).orderBy('created_ms', 'desc').orderBy('id').execute();
  const surplus = rows.slice(limits.api_sessions_per_actor_max - 1).map(({ id }) => id);
  if (surplus.length > 0) await tx.deleteFrom('api_sessions').where('id', 'in', surplus).execute();
  return surplus;
}

function sessionRow(row: Row): SessionRow {
  return {
    id: row.id,
    actor: row.actor,
    scopes: JSON.parse(row.scopes) as Scope[],
    operator: row.operator_id,
    node: row.node_id,
    issuer: row.issuer,
    created_ms: Number(row.created_ms),
    expires_ms: Number(row.expires_ms),
  };
}
