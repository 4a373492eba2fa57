/** Rows of nodes, as the store's other queries need them too. */
import type { Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../base/errors.ts';
import type { Endpoint } from '../enroll/wire.ts';
import type { Tables } from './migrations.ts';
import type { Renewal } from './renewal.ts';
import type { NodeRow } from './store.ts';

/** @throws not_found */
export async function mustFind(tx: Transaction<Tables>, id: string): Promise<NodeRow> {
  const row = await tx.selectFrom('nodes').selectAll().where('id', '=', id).executeTakeFirst();
  if (row === undefined) throw new SelvedgeError('not_found', { what: 'node', name: id });
  return nodeRow(row);
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
    created_ms: Number(row.created_ms),
    seen_ms: row.seen_ms === null ? null : Number(row.seen_ms),
  };
}
