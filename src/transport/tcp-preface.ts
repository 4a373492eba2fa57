/**
 * The first 20 octets of each connection of a TCP session, from the dialer, right after the TLS handshake:
 * [u8 version][u8 lane][u16 zero][16 octets session id]. The id is the dialer's random choice and a secret between both ends: with
 * the same leaf certificate it shows that two connections are one session.
 */
import { SelvedgeError } from '../base/errors.ts';
import type { LaneName } from './session.ts';

export const SESSION_ID_BYTES = 16;
const PREFACE_BYTES = 4 + SESSION_ID_BYTES;
const VERSION = 1;
const LANES: readonly LaneName[] = ['urgent', 'bulk'];

export interface Preface {
  readonly lane: LaneName;
  readonly session: Uint8Array;
}

export function encodePreface({ lane, session }: Preface): Uint8Array {
  const bytes = new Uint8Array(PREFACE_BYTES);
  bytes[0] = VERSION;
  bytes[1] = LANES.indexOf(lane);
  bytes.set(session, 4);
  return bytes;
}

/** @throws version_unsupported, frame_invalid */
export function decodePreface(bytes: Uint8Array): Preface {
  const [version, lane, zero1, zero2] = bytes;
  if (version !== VERSION) throw new SelvedgeError('version_unsupported', { found: version ?? 'none', expected: VERSION });
  const name = LANES[lane ?? LANES.length];
  if (name === undefined || zero1 !== 0 || zero2 !== 0 || bytes.length !== PREFACE_BYTES) throw new SelvedgeError('frame_invalid', { why: 'not a preface' });
  return { lane: name, session: bytes.slice(4) };
}
