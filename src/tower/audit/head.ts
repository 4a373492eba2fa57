/**
 * The head of the audit chain: the row that was last at some moment, signed by the cluster's authority. The chain alone cannot tell that its end was cut off, or that an
 * older copy of all of it was put in its place; whoever holds a later head can. The tower keeps one beside its database, and compares at each start; an operator may keep
 * others elsewhere (docs/operations.md).
 */
import { type Static, Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { closed, Label } from '../../enroll/shapes.ts';
import { checkEnvelope, checker, type Envelope, readJson } from '../../enroll/wire.ts';
import type { Authority } from '../../identity/authority.ts';
import { readFileBounded, writeFileAtomic } from '../../identity/files.ts';
import { openDocument, signDocument } from '../../identity/signed-document.ts';
import type { AuditRow, Store } from '../store/store.ts';

const Whole = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
export const AuditHeadSchema = closed({ cluster: Label, seq: Whole, version: Whole, hash: Type.String({ pattern: '^[0-9a-f]{64}$' }), at_ms: Whole });
export type AuditHead = Static<typeof AuditHeadSchema>;
const checkHead = checker(AuditHeadSchema);

export async function signHead(row: AuditRow, cluster: string, authority: Authority, at_ms: number): Promise<Envelope> {
  const head: AuditHead = { cluster, seq: row.seq, version: row.version, hash: row.hash, at_ms: Math.floor(at_ms) };
  const { payload, signature, chain } = await signDocument('audit-head', new TextEncoder().encode(JSON.stringify(head)), authority);
  return { payload, signature, chain: [...chain] };
}

/** @throws document_invalid, request_invalid, wrong_cluster */
export function openHead(envelope: Envelope, { roots, cluster, now_ms }: { roots: readonly Uint8Array[]; cluster: string; now_ms: number }): AuditHead {
  const bytes = openDocument('audit-head', envelope, { roots, now_ms, payload_bytes_max: limits.audit_head_bytes_max });
  const head = readJson(bytes, limits.audit_head_bytes_max, checkHead);
  if (head.cluster !== cluster) throw new SelvedgeError('wrong_cluster', { found: head.cluster, expected: cluster });
  return head;
}

/** Why the chain in `store` cannot be the one that this head was of, or null if it can. */
export async function headObjection(store: Pick<Store, 'audit'>, { seq, hash }: Pick<AuditHead, 'seq' | 'hash'>): Promise<string | null> {
  if (seq === 0) return null;
  const [row] = await store.audit(seq - 1, 1);
  if (row === undefined || row.seq !== seq) return `its audit log ends before row ${seq}, which a signed head names`;
  return row.hash === hash ? null : `audit row ${seq} is not the one that a signed head names`;
}

/** Null where there is none yet. @throws store_damaged, permission_denied */
export async function readHeadFile(path: string): Promise<Envelope | null> {
  const bytes = await readFileBounded(path, limits.audit_head_file_bytes_max);
  if (bytes === null) return null;
  try {
    return readJson(bytes, limits.audit_head_file_bytes_max, checkEnvelope);
  } catch (error) {
    throw new SelvedgeError('store_damaged', { path, why: 'it is no signed head of an audit log' }, { cause: error });
  }
}

export async function writeHeadFile(path: string, envelope: Envelope): Promise<void> {
  await writeFileAtomic(path, Buffer.from(`${JSON.stringify(envelope)}\n`));
}
