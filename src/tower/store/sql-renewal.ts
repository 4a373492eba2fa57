/** The rows of leaves that are being renewed; what they mean is in renewal.ts. Each is part of the transaction that it is given. */
import type { Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Tables } from '../schema/tables.ts';
import { type LeafRow, offered, retired, used } from '../renewing/renewal.ts';
import { recordChange } from './sql-change.ts';
import { checkKey } from './sql-keys.ts';
import { mustFind, nodeRow, scopesOf } from './sql-nodes.ts';
import type { NodeRow } from './store.ts';

export async function offerLeaf(tx: Transaction<Tables>, id: string, next: LeafRow, holding: string, at_ms: number): Promise<NodeRow> {
  const row = await mustFind(tx, id);
  const now = offered(row, next, holding, at_ms);
  if (next.spkiHash === row.spkiHash || next.spkiHash === now.spkiHash) throw new SelvedgeError('csr_invalid', { why: 'a renewed leaf has a new key' });
  await checkKey(tx, next.spkiHash, { kind: 'node', id });
  const detail = { now: now.fingerprint, next: next.fingerprint };
  return await write(tx, now, { at_ms, action: 'node.renew', detail });
}

export async function useLeaf(tx: Transaction<Tables>, id: string, fingerprint: string, at_ms: number): Promise<NodeRow> {
  const row = await mustFind(tx, id);
  const now = used(row, fingerprint, at_ms);
  if (now === row) return row;
  return await write(tx, now, { at_ms, action: 'node.renewed', detail: { before: row.fingerprint, now: fingerprint } });
}

export async function retireLeaves(tx: Transaction<Tables>, at_ms: number): Promise<NodeRow[]> {
  const rows = (await tx.selectFrom('nodes').selectAll().where('renewal', 'is not', null).orderBy('id').execute()).map(nodeRow);
  const done: NodeRow[] = [];
  for (const row of rows) {
    const now = retired(row, at_ms);
    if (now !== row) done.push(await write(tx, now, { at_ms, action: 'node.leaf-retired', detail: { now: now.fingerprint } }));
  }
  return done;
}

interface Told {
  readonly at_ms: number;
  readonly action: string;
  readonly detail: Readonly<Record<string, unknown>>;
}

async function write(tx: Transaction<Tables>, row: NodeRow, { at_ms, action, detail }: Told): Promise<NodeRow> {
  const { id, fingerprint, leaf, csrHash, spkiHash, renewal } = row;
  // Of what is a node's already, too: two may have been offered one key by an earlier program.
  await checkKey(tx, spkiHash, { kind: 'node', id });
  const actor = action === 'node.leaf-retired' ? 'tower' : `node:${id}`;
  const revision = await recordChange(tx, { at_ms, actor, action, subject: id, detail, scopes: await scopesOf(tx, row) });
  await tx
    .updateTable('nodes')
    .set({ fingerprint, leaf, csr_hash: csrHash, spki_hash: spkiHash, renewal: renewal === null ? null : JSON.stringify(renewal), revision })
    .where('id', '=', id)
    .execute();
  return { ...row, revision };
}
