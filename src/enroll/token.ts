/**
 * The text of an enrollment token: `svt_ID_PAYLOAD`. ID is public and names the row at the tower; PAYLOAD (base64url) holds the format's
 * version, the cluster and 24 random octets. The tower keeps only the payload's SHA-256. A token is printed once and never logged.
 */
import { createHash } from 'node:crypto';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { SelvedgeError } from '../base/errors.ts';
import { checkLabel, isLabel, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';

export interface TokenFacts {
  readonly id: string;
  readonly cluster: string;
  /** SHA-256 of the payload, hex: what the tower compares. */
  readonly hash: string;
}

const FORMAT_VERSION = 1;
const ID_BYTES = 6;
const SECRET_BYTES = 24;
const CLUSTER_CHARS_MAX = 63;
const SHAPE = /^svt_([0-9a-f]{12})_([A-Za-z0-9_-]+)$/;

export function makeToken(cluster: string, random: Random): TokenFacts & { text: string } {
  const payload = new ByteWriter().u8(FORMAT_VERSION).text(checkLabel('cluster', cluster)).raw(random.bytes(SECRET_BYTES)).finish();
  const id = toHex(random.bytes(ID_BYTES));
  return { id, cluster, hash: hashOf(payload), text: `svt_${id}_${Buffer.from(payload).toString('base64url')}` };
}

/** @throws token_invalid, without a word of the token in it */
export function readToken(text: string): TokenFacts {
  const match = text.length <= limits.token_chars_max ? SHAPE.exec(text.trim()) : null;
  const [, id, encoded] = match ?? [];
  if (id === undefined || encoded === undefined) throw new SelvedgeError('token_invalid', { why: 'not of the form svt_ID_PAYLOAD' });
  const payload = new Uint8Array(Buffer.from(encoded, 'base64url'));
  return { id, cluster: clusterOf(payload), hash: hashOf(payload) };
}

function clusterOf(payload: Uint8Array): string {
  const reader = new ByteReader(payload);
  try {
    const version = reader.u8();
    if (version !== FORMAT_VERSION) throw new SelvedgeError('token_invalid', { why: `its format ${version} is not known here` });
    const cluster = reader.text(CLUSTER_CHARS_MAX);
    reader.raw(SECRET_BYTES);
    reader.end();
    if (isLabel(cluster)) return cluster;
  } catch (error) {
    if (error instanceof SelvedgeError && error.code === 'token_invalid') throw error;
  }
  throw new SelvedgeError('token_invalid', { why: 'its payload is damaged' });
}

function hashOf(payload: Uint8Array): string {
  return createHash('sha256').update(payload).digest('hex');
}
