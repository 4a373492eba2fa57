/**
 * The text of an enrollment token: `svt_ID_PAYLOAD`. ID is public and names the grant at the tower; PAYLOAD (base64url) says what the token is for (cluster,
 * tenant, purpose, uses, end, source networks) and holds 24 random octets. The tower keeps only the payload's SHA-256 and decides by its own record: what
 * stands in the text is for whoever holds it. A token is printed once and never logged.
 */
import { createHash } from 'node:crypto';
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { SelvedgeError } from '../base/errors.ts';
import { checkLabel, isLabel, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';

/** What a token says of itself. */
export interface TokenTerms {
  readonly cluster: string;
  readonly tenant: string | null;
  readonly purpose: 'enroll' | 'preflight';
  readonly usesMax: number;
  readonly expires_ms: number;
  readonly sources: readonly string[];
}

export interface TokenFacts {
  readonly id: string;
  readonly cluster: string;
  /** SHA-256 of the payload, hex: what the tower compares. */
  readonly hash: string;
  /** Null in a token of format 1, which says no more than its cluster. */
  readonly terms: TokenTerms | null;
}

const FORMAT_BARE = 1;
const FORMAT = 2;
const ID_BYTES = 6;
const SECRET_BYTES = 24;
const LABEL_BYTES_MAX = 63;
const NETWORK_BYTES_MAX = 43;
const SHAPE = /^svt_([0-9a-f]{12})_([A-Za-z0-9_-]+)$/;
const purposes = ['enroll', 'preflight'] as const;

export function makeToken(terms: TokenTerms, random: Random): TokenFacts & { text: string } {
  const { cluster, tenant, purpose, usesMax, expires_ms, sources } = terms;
  const writer = new ByteWriter().u8(FORMAT).text(checkLabel('cluster', cluster)).raw(random.bytes(SECRET_BYTES));
  writer
    .text(tenant === null ? '' : checkLabel('tenant', tenant))
    .u8(purposes.indexOf(purpose))
    .varint(usesMax)
    .varint(expires_ms)
    .varint(sources.length);
  for (const network of sources) writer.text(network);
  const payload = writer.finish();
  const id = toHex(random.bytes(ID_BYTES));
  return { id, cluster, hash: hashOf(payload), terms, text: `svt_${id}_${Buffer.from(payload).toString('base64url')}` };
}

/** @throws token_invalid, without a word of the token in it */
export function readToken(text: string): TokenFacts {
  const match = text.length <= limits.token_chars_max ? SHAPE.exec(text.trim()) : null;
  const [, id, encoded] = match ?? [];
  if (id === undefined || encoded === undefined) throw new SelvedgeError('token_invalid', { why: 'not of the form svt_ID_PAYLOAD' });
  const payload = new Uint8Array(Buffer.from(encoded, 'base64url'));
  return { id, hash: hashOf(payload), ...readPayload(payload) };
}

function readPayload(payload: Uint8Array): Pick<TokenFacts, 'cluster' | 'terms'> {
  const reader = new ByteReader(payload);
  try {
    const format = reader.u8();
    if (format !== FORMAT && format !== FORMAT_BARE) throw new SelvedgeError('token_invalid', { why: `its format ${format} is not known here` });
    const cluster = reader.text(LABEL_BYTES_MAX);
    reader.raw(SECRET_BYTES);
    const terms = format === FORMAT ? readTerms(reader, cluster) : null;
    reader.end();
    if (isLabel(cluster)) return { cluster, terms };
  } catch (error) {
    if (error instanceof SelvedgeError && error.code === 'token_invalid') throw error;
  }
  throw damaged();
}

function readTerms(reader: ByteReader, cluster: string): TokenTerms {
  const tenant = reader.text(LABEL_BYTES_MAX);
  const purpose = purposes[reader.u8()];
  const usesMax = reader.varint(limits.token_uses_max);
  const expires_ms = reader.varint();
  const sources = Array.from({ length: reader.varint(limits.grant_sources_max) }, () => reader.text(NETWORK_BYTES_MAX));
  if ((tenant !== '' && !isLabel(tenant)) || purpose === undefined) throw damaged();
  return { cluster, tenant: tenant === '' ? null : tenant, purpose, usesMax, expires_ms, sources };
}

function damaged(): SelvedgeError {
  return new SelvedgeError('token_invalid', { why: 'its payload is damaged' });
}

function hashOf(payload: Uint8Array): string {
  return createHash('sha256').update(payload).digest('hex');
}
