/** An operator's next leaf, in SQL: given beside the one in use, so that a lost answer locks nobody out, and in its place once it was shown. */
import type { Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Tables } from '../schema/tables.ts';
import { checkKey } from '../store/sql-keys.ts';
import type { NewLeaf, OperatorRow } from './access-store.ts';
import { mustFindOperator, operatorRow, recordOperator } from './store-sql-operators.ts';

type Tx = Transaction<Tables>;

export async function renewOperator(tx: Tx, id: string, leaf: NewLeaf, at_ms: number): Promise<OperatorRow> {
  const found = await mustFindOperator(tx, id);
  const { name, fingerprint, next } = operatorRow(found);
  if (fingerprint === null) throw new SelvedgeError('operator_revoked', { name });
  if (next?.csrHash === leaf.csrHash) return operatorRow(found);
  await checkKey(tx, leaf.spkiHash, { kind: 'operator', id });
  const columns = { next_leaf: JSON.stringify(leaf) };
  await tx.updateTable('operators').set(columns).where('id', '=', id).execute();
  const detail = { fingerprint: leaf.fingerprint, before: fingerprint, not_after_ms: leaf.notAfter_ms };
  await recordOperator(tx, 'operator.renew', id, detail, { actor: `operator:${id}`, at_ms });
  return operatorRow({ ...found, ...columns });
}

export async function useNextLeaf(tx: Tx, id: string, fingerprint: string, at_ms: number): Promise<void> {
  const { next, fingerprint: before } = operatorRow(await mustFindOperator(tx, id));
  if (next?.fingerprint !== fingerprint) return;
  const { leaf, spkiHash: spki_hash, notAfter_ms: not_after_ms } = next;
  await tx.updateTable('operators').set({ fingerprint, leaf, spki_hash, not_after_ms, next_leaf: null }).where('id', '=', id).execute();
  await recordOperator(tx, 'operator.leaf', id, { fingerprint, before }, { actor: `operator:${id}`, at_ms });
}
