/** Rows of operators in SQL, on the same engines as the rest of the store. A bundle is part of its operator's row: there is one at most. */
import type { Kysely, Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Scope } from '../../api/access.ts';
import { equalBytes } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Tables } from '../schema/tables.ts';
import { recordChange } from '../store/sql-change.ts';
import { checkKey } from '../store/sql-keys.ts';
import type { By, PageRequest } from '../resources/resource-store.ts';
import type { BundleProof, CutOff, NewBundle, NewLeaf, OperatorRow } from './access-store.ts';
import { endSessionsOf } from './store-sql-sessions.ts';

type Tx = Transaction<Tables>;
type Row = Selectable<Tables['operators']>;

export async function createOperator(
  tx: Tx,
  { id, name, scopes }: Pick<OperatorRow, 'id' | 'name' | 'scopes'>,
  bundle: NewBundle,
  by: By,
): Promise<OperatorRow> {
  const { count } = await tx
    .selectFrom('operators')
    .select((select) => select.fn.countAll().as('count'))
    .executeTakeFirstOrThrow();
  if (Number(count) >= limits.operators_max) throw new SelvedgeError('limit_reached', { limit: 'operators', max: limits.operators_max });
  const row: Row = {
    id,
    name,
    live_name: name,
    scopes: JSON.stringify(scopes),
    fingerprint: null,
    leaf: null,
    spki_hash: null,
    not_after_ms: null,
    next_leaf: null,
    bundle_hash: bundle.hash,
    bundle_expires_ms: bundle.expires_ms,
    bundle_csr_hash: null,
    created_ms: by.at_ms,
    revoked_ms: null,
  };
  const done = await tx
    .insertInto('operators')
    .values(row)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  if (done.numInsertedOrUpdatedRows !== 1n) throw new SelvedgeError('operator_exists', { name });
  await recordOperator(tx, 'operator.create', id, { name, scopes, expires_ms: bundle.expires_ms }, by);
  return operatorRow(row);
}

export async function setBundle(tx: Tx, id: string, bundle: NewBundle, by: By): Promise<OperatorRow> {
  const found = await mustFindOperator(tx, id);
  if (found.revoked_ms !== null) throw new SelvedgeError('operator_revoked', { name: found.name });
  const columns = { bundle_hash: bundle.hash, bundle_expires_ms: bundle.expires_ms, bundle_csr_hash: null };
  await tx.updateTable('operators').set(columns).where('id', '=', id).execute();
  await recordOperator(tx, 'operator.bundle', id, { expires_ms: bundle.expires_ms }, by);
  return operatorRow({ ...found, ...columns });
}

export async function operatorPage(db: Kysely<Tables>, { after, limit }: PageRequest): Promise<readonly OperatorRow[]> {
  const all = db.selectFrom('operators').selectAll().orderBy('id').limit(limit);
  return (await (after === null ? all : all.where('id', '>', after)).execute()).map(operatorRow);
}

export async function findOperator(db: Kysely<Tables>, id: string): Promise<OperatorRow | null> {
  const row = await db.selectFrom('operators').selectAll().where('id', '=', id).executeTakeFirst();
  return row === undefined ? null : operatorRow(row);
}

export async function admitBundle(db: Kysely<Tables>, proof: BundleProof, csrHash: string, at_ms: number) {
  const found = await believe(db, proof);
  const isAnswered = checkOpen(found, csrHash, at_ms);
  return { row: operatorRow(found), isAnswered };
}

export async function redeemBundle(tx: Tx, proof: BundleProof, leaf: NewLeaf, at_ms: number): Promise<CutOff> {
  const found = await believe(tx, proof);
  if (checkOpen(found, leaf.csrHash, at_ms)) return { row: operatorRow(found), ended: [] };
  await checkKey(tx, leaf.spkiHash, { kind: 'operator', id: found.id });
  const columns = {
    fingerprint: leaf.fingerprint,
    leaf: leaf.leaf,
    spki_hash: leaf.spkiHash,
    not_after_ms: leaf.notAfter_ms,
    next_leaf: null,
    bundle_csr_hash: leaf.csrHash,
  };
  // The update itself carries the condition, so that of two at once one alone passes, whatever the engine's isolation.
  const taken = await tx
    .updateTable('operators')
    .set(columns)
    .where('id', '=', found.id)
    .where('bundle_hash', '=', proof.hash)
    .where('bundle_csr_hash', 'is', null)
    .where('revoked_ms', 'is', null)
    .executeTakeFirst();
  if (taken.numUpdatedRows !== 1n) throw new SelvedgeError('bundle_redeemed');
  const ended = await endSessionsOf(tx, found.id);
  const detail = { fingerprint: leaf.fingerprint, before: found.fingerprint, not_after_ms: leaf.notAfter_ms, sessions: ended.length };
  await recordOperator(tx, 'operator.redeem', found.id, detail, { actor: `operator:${found.id}`, at_ms });
  return { row: operatorRow({ ...found, ...columns }), ended };
}

export async function revokeOperator(tx: Tx, id: string, by: By): Promise<CutOff> {
  const found = await mustFindOperator(tx, id);
  if (found.revoked_ms !== null) return { row: operatorRow(found), ended: [] };
  const columns = {
    live_name: null,
    fingerprint: null,
    leaf: null,
    next_leaf: null,
    bundle_hash: null,
    bundle_expires_ms: null,
    bundle_csr_hash: null,
    revoked_ms: by.at_ms,
  };
  await tx.updateTable('operators').set(columns).where('id', '=', id).execute();
  const ended = await endSessionsOf(tx, id);
  const detail = { name: found.name, fingerprint: found.fingerprint, bundle: isWaiting(found), sessions: ended.length };
  await recordOperator(tx, 'operator.revoke', id, detail, by);
  return { row: operatorRow({ ...found, ...columns }), ended };
}

/** Whose bundle this is. Unknown, wrong, replaced and revoked read the same from outside. */
async function believe(db: Kysely<Tables>, { operator, hash }: BundleProof): Promise<Row> {
  const row = await db.selectFrom('operators').selectAll().where('id', '=', operator).executeTakeFirst();
  const encoder = new TextEncoder();
  if (row === undefined || row.bundle_hash === null || !equalBytes(encoder.encode(row.bundle_hash), encoder.encode(hash))) {
    throw new SelvedgeError('bundle_invalid', { why: 'no bundle that waits to be redeemed in this cluster' });
  }
  return row;
}

/** Whether this very request has redeemed it. @throws bundle_redeemed, bundle_expired */
function checkOpen({ bundle_csr_hash, bundle_expires_ms }: Row, csrHash: string, at_ms: number): boolean {
  if (bundle_csr_hash === csrHash) return true;
  if (bundle_csr_hash !== null) throw new SelvedgeError('bundle_redeemed');
  if (Number(bundle_expires_ms) <= at_ms) throw new SelvedgeError('bundle_expired', { expires: new Date(Number(bundle_expires_ms)).toISOString() });
  return false;
}

export async function mustFindOperator(tx: Tx, id: string): Promise<Row> {
  const row = await tx.selectFrom('operators').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw new SelvedgeError('not_found', { what: 'operator', name: id });
  return row;
}

export async function recordOperator(tx: Tx, action: string, subject: string, detail: Readonly<Record<string, unknown>>, { actor, at_ms }: By): Promise<void> {
  await recordChange(tx, { at_ms, actor, action, subject, detail, scopes: [] });
}

const isWaiting = ({ bundle_hash, bundle_csr_hash }: Row) => bundle_hash !== null && bundle_csr_hash === null;

// `bigint` columns come back as text from some drivers; the rest is a matter of names.

const timeOf = (value: number | null) => (value === null ? null : Number(value));

export function operatorRow(row: Row): OperatorRow {
  return {
    id: row.id,
    name: row.name,
    scopes: JSON.parse(row.scopes) as Scope[],
    fingerprint: row.fingerprint,
    leaf: row.leaf,
    notAfter_ms: timeOf(row.not_after_ms),
    next: row.next_leaf === null ? null : (JSON.parse(row.next_leaf) as NewLeaf),
    bundleExpires_ms: isWaiting(row) ? timeOf(row.bundle_expires_ms) : null,
    created_ms: Number(row.created_ms),
    revoked_ms: timeOf(row.revoked_ms),
  };
}
