/**
 * A snapshot as the payload of its envelope, and opening one that claims to be this node's: signature, shape, owner. Whether it is still fresh is its
 * reader's decision. The payload is JSON, compressed: a member of many app networks is told the same few names and addresses over and over.
 */
import { promisify } from 'node:util';
import { gunzipSync, gzip } from 'node:zlib';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
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

/** The default takes three times as long for a tenth less. */
const GZIP_LEVEL = 2;

const gzipAside = promisify(gzip);

/** @throws limit_reached where it is larger than a reader takes */
export async function packSnapshot(snapshot: Snapshot): Promise<Uint8Array> {
  const text = new TextEncoder().encode(JSON.stringify(snapshot));
  if (text.length > limits.snapshot_bytes_max) throw new SelvedgeError('limit_reached', { limit: 'snapshot in bytes', max: limits.snapshot_bytes_max });
  return await gzipAside(text, { level: GZIP_LEVEL });
}

/** @throws document_invalid, request_invalid, wrong_cluster, wrong_node */
export function openSnapshot(envelope: Envelope, { roots, cluster, node, now_ms }: SnapshotReader): Snapshot {
  const payload = openDocument('snapshot', envelope, { roots, now_ms, payload_bytes_max: limits.snapshot_bytes_max });
  const snapshot = readJson(unpack(payload), limits.snapshot_bytes_max, checkSnapshot);
  if (snapshot.cluster !== cluster) throw new SelvedgeError('wrong_cluster', { found: snapshot.cluster, expected: cluster });
  if (snapshot.node.id !== node) throw new SelvedgeError('wrong_node', { found: snapshot.node.id, expected: node });
  return snapshot;
}

/** What a node kept from before payloads were compressed begins as JSON does. */
const BRACE = 0x7b;

/** Bounded before a byte of it is believed to be small. @throws document_invalid */
function unpack(payload: Uint8Array): Uint8Array {
  if (payload[0] === BRACE) return payload;
  try {
    return gunzipSync(payload, { maxOutputLength: limits.snapshot_bytes_max });
  } catch (error) {
    throw asSelvedgeError(error, 'document_invalid', { what: 'snapshot', why: 'its payload is no JSON, and does not unpack to as much as a snapshot may be' });
  }
}

/** An equal version that was issued later is newer too: it renews the time to live. */
export function isNewer(next: Snapshot, last: Snapshot): boolean {
  return next.version > last.version || (next.version === last.version && next.issued_ms > last.issued_ms);
}
