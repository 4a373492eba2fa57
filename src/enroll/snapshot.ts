/** Opening a snapshot that claims to be this node's: signature, shape, owner. Whether it is still fresh is its reader's decision. */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { openDocument } from '../identity/signed-document.ts';
import { checkSnapshot, type Envelope, readJson, type Snapshot } from './wire.ts';

export interface SnapshotReader {
  /** DER of the trust bundle. */
  readonly roots: readonly Uint8Array[];
  readonly cluster: string;
  readonly node: string;
  readonly now_ms: number;
}

/** @throws document_invalid, request_invalid, wrong_cluster, wrong_node */
export function openSnapshot(envelope: Envelope, { roots, cluster, node, now_ms }: SnapshotReader): Snapshot {
  const payload = openDocument('snapshot', envelope, { roots, now_ms, payload_bytes_max: limits.message_bytes_max });
  const snapshot = readJson(payload, limits.message_bytes_max, checkSnapshot);
  if (snapshot.cluster !== cluster) throw new SelvedgeError('wrong_cluster', { found: snapshot.cluster, expected: cluster });
  if (snapshot.node.id !== node) throw new SelvedgeError('wrong_node', { found: snapshot.node.id, expected: node });
  return snapshot;
}

/** An equal version that was issued later is newer too: it renews the time to live. */
export function isNewer(next: Snapshot, last: Snapshot): boolean {
  return next.version > last.version || (next.version === last.version && next.issued_ms > last.issued_ms);
}
