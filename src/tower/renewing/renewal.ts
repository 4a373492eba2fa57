/**
 * A node's leaf while it is being renewed, as a value: which leaves are accepted beside the one in use, and what changes when another is given out,
 * used, or has had its time. Pure; the store keeps what comes of it (../store/sql-renewal.ts).
 *
 * A node is never without a leaf that is accepted, whatever is lost or killed: the one in use stays until the node has shown the next one, and then
 * for as long as its channels need to move over (`limits.leaf_overlap_ms`).
 */
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';

/** A leaf as rows know it: hashes in hex, DER in base64. */
export interface LeafRow {
  readonly fingerprint: string;
  readonly leaf: string;
  readonly csrHash: string;
  readonly spkiHash: string;
}

export interface Renewal {
  /** Given out, not yet seen in use. */
  readonly next: LeafRow | null;
  /** Used before the present one, oldest first, and until when they are accepted. */
  readonly old: readonly { readonly fingerprint: string; readonly until_ms: number }[];
}

/** What of a node's row a renewal reads and writes. */
export interface Leaves {
  readonly fingerprint: string | null;
  readonly leaf: string | null;
  readonly csrHash: string;
  readonly spkiHash: string;
  readonly renewal: Renewal | null;
}

const NONE: Renewal = { next: null, old: [] };

/** Fingerprints that are accepted beside the one in use. */
export function otherLeaves(renewal: Renewal | null): string[] {
  const { next, old } = renewal ?? NONE;
  return [...(next === null ? [] : [next.fingerprint]), ...old.map(({ fingerprint }) => fingerprint)];
}

/**
 * Another leaf is given out. `holding` is the leaf that the node has on disk: if that is the one given out before, it was received, though nobody has
 * seen it used. @throws certificate_revoked where the node holds neither
 */
export function offered<Row extends Leaves>(row: Row, next: LeafRow, holding: string, at_ms: number): Row {
  const base = row.renewal?.next?.fingerprint === holding ? used(row, holding, at_ms) : row;
  if (base.fingerprint !== holding)
    throw new SelvedgeError('certificate_revoked', { peer: 'the node', why: 'it asks for the successor of a leaf that is not the recorded one' });
  return { ...base, renewal: { next, old: base.renewal?.old ?? [] } };
}

/** The node was seen with its next leaf: that is the one in use from now on. The same row where it was not the next one. */
export function used<Row extends Leaves>(row: Row, fingerprint: string, at_ms: number): Row {
  const { next, old } = row.renewal ?? NONE;
  if (next?.fingerprint !== fingerprint || row.fingerprint === null) return row;
  const kept = [...old, { fingerprint: row.fingerprint, until_ms: at_ms + limits.leaf_overlap_ms }].slice(-limits.leaf_old_max);
  return { ...row, ...next, renewal: { next: null, old: kept } };
}

/** Without the old leaves whose time is over. The same row where there are none. */
export function retired<Row extends Leaves>(row: Row, at_ms: number): Row {
  if (row.renewal === null) return row;
  const old = row.renewal.old.filter(({ until_ms }) => until_ms > at_ms);
  if (old.length === row.renewal.old.length) return row;
  return { ...row, renewal: row.renewal.next === null && old.length === 0 ? null : { ...row.renewal, old } };
}
