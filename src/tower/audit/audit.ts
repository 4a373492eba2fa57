/**
 * The audit chain: each row's hash covers the row before it, and the last row carries the store's version, so that a row changed,
 * removed or cut from the end shows. It proves that the log is whole as far as whoever holds a later hash can tell; it is no signature.
 */
import { createHash } from 'node:crypto';
import type { AuditRow } from '../store/store.ts';

/** What the first row has in the place of the hash of the row before. */
export const AUDIT_ORIGIN = '0'.repeat(64);

export type AuditEntry = Omit<AuditRow, 'hash'>;

export function auditHash(row: AuditEntry): string {
  const covered = [row.seq, row.version, row.at_ms, row.actor, row.action, row.subject, row.detail, row.previous];
  return createHash('sha256').update(JSON.stringify(covered)).digest('hex');
}

/** Why `row` cannot follow `previous` (null: be the first), or null if it can. */
export function auditBreak(previous: AuditRow | null, row: AuditRow): string | null {
  if (row.seq !== (previous?.seq ?? 0) + 1) return `audit row ${row.seq} follows ${previous?.seq ?? 'nothing'}`;
  // After a restore versions leap (backup.ts), and never go back.
  if (row.version <= (previous?.version ?? 0)) return `audit row ${row.seq} has version ${row.version} after ${previous?.version ?? 0}`;
  if (row.previous !== (previous?.hash ?? AUDIT_ORIGIN)) return `audit row ${row.seq} does not follow from the one before`;
  if (row.hash !== auditHash(row)) return `audit row ${row.seq} was changed`;
  return null;
}
