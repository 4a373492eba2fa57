/** Rows of grants: reading them, whether one may be used, and taking a use of one. */
import { type Kysely, type Selectable, sql, type Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Claim, Grant, ProofKind } from '../../enroll/proof.ts';
import type { Tables } from '../schema/tables.ts';
import type { Requested } from './proof-store.ts';
import type { NodeRow } from './store.ts';
import { nodeRow } from './sql-nodes.ts';

export async function findGrant(db: Kysely<Tables>, kind: ProofKind, id: string): Promise<Grant | null> {
  const row = await db.selectFrom('grants').selectAll().where('kind', '=', kind).where('id', '=', id).executeTakeFirst();
  return row === undefined ? null : grantRow(row);
}

/** @throws not_found */
export async function mustFindGrant(db: Kysely<Tables>, kind: ProofKind, id: string): Promise<Grant> {
  const grant = await findGrant(db, kind, id);
  if (grant === null) throw new SelvedgeError('not_found', { what: kind === 'token' ? 'token' : `${kind} grant`, name: id });
  return grant;
}

/** What a use is counted under: the grant, or the node that returns. */
export function usedBy(claim: Claim): { kind: ProofKind; id: string; subject: string | null } {
  if ('returning' in claim) return { kind: 'fingerprint', id: claim.returning.id, subject: null };
  return { kind: claim.grant.kind, id: claim.grant.id, subject: claim.subject };
}

/**
 * The node that this request made before. @throws token_invalid, proof_invalid where it was revoked since, or has another key: its leaf is of no use to whoever asks with the old
 * one, and whoever kept that key is not the node any more
 */
export async function answeredBefore(db: Kysely<Tables>, claim: Claim, { csrHash, spkiHash }: Requested): Promise<NodeRow | null> {
  const { kind, id } = usedBy(claim);
  const row = await db
    .selectFrom('grant_uses')
    .innerJoin('nodes', 'nodes.id', 'grant_uses.node_id')
    .selectAll('nodes')
    .where('grant_uses.kind', '=', kind)
    .where('grant_uses.grant_id', '=', id)
    .where('grant_uses.csr_hash', '=', csrHash)
    .executeTakeFirst();
  if (row === undefined) return null;
  const node = nodeRow(row);
  if (node.leaf !== null && node.spkiHash === spkiHash) return node;
  const why = `the node ${node.name} that it made ${node.leaf === null ? 'was revoked' : 'has another key by now'}`;
  throw kind === 'token' ? new SelvedgeError('token_invalid', { why }) : new SelvedgeError('proof_invalid', { kind, why });
}

/** The grant that a pre-flight with this token and request made before. */
export async function preparedBefore(db: Kysely<Tables>, { kind, id }: Grant, csrHash: string): Promise<Grant | null> {
  const row = await db
    .selectFrom('grant_uses')
    .innerJoin('grants', 'grants.node_id', 'grant_uses.node_id')
    .selectAll('grants')
    .where('grant_uses.kind', '=', kind)
    .where('grant_uses.grant_id', '=', id)
    .where('grant_uses.csr_hash', '=', csrHash)
    .executeTakeFirst();
  return row === undefined ? null : grantRow(row);
}

/** Whether a grant of any kind may be used now for this site. @throws token_… for tokens, proof_… for the others */
function checkUsable(grant: Grant, site: string | null, at_ms: number): void {
  const { kind, expires_ms } = grant;
  const isToken = kind === 'token';
  if (grant.revoked_ms !== null) throw isToken ? new SelvedgeError('token_revoked') : new SelvedgeError('proof_revoked', { kind });
  if (expires_ms !== null && expires_ms <= at_ms) {
    const expires = new Date(expires_ms).toISOString();
    throw isToken ? new SelvedgeError('token_expired', { expires }) : new SelvedgeError('proof_expired', { kind, expires });
  }
  if (grant.uses >= grant.usesMax) throw exhausted(grant);
  if (grant.site !== null && grant.site !== site) {
    const why = `it is for site ${grant.site}, not ${site}`;
    throw isToken ? new SelvedgeError('token_invalid', { why }) : new SelvedgeError('proof_invalid', { kind, why });
  }
}

/** One that was removed a moment ago is as good as revoked. */
async function findUsable(db: Kysely<Tables>, kind: ProofKind, id: string, site: string | null, at_ms: number): Promise<Grant> {
  return mustBeUsable(await findGrant(db, kind, id), kind, site, at_ms);
}

export function mustBeUsable(grant: Grant | null, kind: ProofKind, site: string | null, at_ms: number): Grant {
  if (grant === null) throw kind === 'token' ? new SelvedgeError('token_revoked') : new SelvedgeError('proof_revoked', { kind });
  checkUsable(grant, site ?? grant.site, at_ms);
  return grant;
}

/** The update itself carries the limit, so that two at once cannot both pass, whatever the engine's isolation. */
export async function takeUse(tx: Transaction<Tables>, { kind, id }: Grant, site: string, at_ms: number): Promise<Grant> {
  const grant = await findUsable(tx, kind, id, site, at_ms);
  const taken = await tx
    .updateTable('grants')
    .set((set) => ({ uses: set('uses', '+', 1) }))
    .where('kind', '=', kind)
    .where('id', '=', id)
    .where('revoked_ms', 'is', null)
    .whereRef('uses', '<', 'uses_max')
    .executeTakeFirst();
  if (taken.numUpdatedRows === 1n) return grant;
  await findUsable(tx, kind, id, site, at_ms);
  throw exhausted(grant);
}

function exhausted({ kind, usesMax }: Grant): SelvedgeError {
  if (kind === 'token') return new SelvedgeError('token_exhausted', { limit: usesMax });
  // Whether it is unknown or in use is nobody's business who only tries ids.
  if (kind === 'host-id') return new SelvedgeError('host_refused');
  return new SelvedgeError('proof_exhausted', { kind, limit: usesMax });
}

export async function countOf(
  db: Kysely<Tables>,
  table: 'nodes' | 'grants',
  where: { readonly site?: string; readonly kind?: ProofKind } = {},
): Promise<number> {
  const all = db.selectFrom(table).select((select) => select.fn.countAll().as('count'));
  const some = Object.entries(where).reduce((query, [column, value]) => query.where(sql.ref(column), '=', value), all);
  return Number((await some.executeTakeFirstOrThrow()).count);
}

// `bigint` columns come back as text from some drivers; the rest is a matter of names.

export function grantRow(row: Selectable<Tables['grants']>): Grant {
  return {
    kind: row.kind as ProofKind,
    id: row.id,
    hash: row.hash,
    tenant: row.tenant,
    site: row.site,
    name: row.name,
    node: row.node_id,
    purpose: row.purpose === 'preflight' ? 'preflight' : 'enroll',
    uses: row.uses,
    usesMax: row.uses_max,
    sources: JSON.parse(row.sources) as string[],
    detail: JSON.parse(row.detail) as Record<string, string>,
    expires_ms: row.expires_ms === null ? null : Number(row.expires_ms),
    revoked_ms: row.revoked_ms === null ? null : Number(row.revoked_ms),
    created_ms: Number(row.created_ms),
  };
}
