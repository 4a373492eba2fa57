/** A key is one identity's: no node, no leaf that was offered to a node or an operator, and no operator has that of another. */
import type { Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Tables } from '../schema/tables.ts';

/** Who is to have the key: what it has already is no objection. */
export interface KeyOwner {
  readonly kind: 'node' | 'operator';
  readonly id: string;
}

/** `spkiHash`: SHA-256 of the key's SPKI, hex. Part of the transaction that gives the key. @throws csr_invalid */
export async function checkKey(tx: Transaction<Tables>, spkiHash: string, { kind, id }: KeyOwner): Promise<void> {
  // Within the JSON of a leaf that waits to be shown; hex needs no escape.
  const offered = `%"spkiHash":"${spkiHash}"%`;
  const others = tx
    .selectFrom('nodes')
    .select('id')
    .where('id', '!=', kind === 'node' ? id : '');
  // Each by its own index: at any time few nodes of many are renewing.
  const node =
    (await others.where('spki_hash', '=', spkiHash).executeTakeFirst()) ??
    (await others.where('renewal', 'is not', null).where('renewal', 'like', offered).executeTakeFirst());
  if (node !== undefined) throw new SelvedgeError('csr_invalid', { why: `its key is that of node ${node.id} already` });
  const operator = await tx
    .selectFrom('operators')
    .select('id')
    .where((where) => where.or([where('spki_hash', '=', spkiHash), where('next_leaf', 'like', offered)]))
    .where('id', '!=', kind === 'operator' ? id : '')
    .executeTakeFirst();
  if (operator !== undefined) throw new SelvedgeError('csr_invalid', { why: 'its key is that of an operator already' });
}
