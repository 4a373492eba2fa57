/**
 * What one end says when it ends a session: the wire number of a code of the error table, two octets, and a reason in UTF-8 of at most
 * `limits.reason_bytes_max`. The same on every transport that has to carry it itself.
 */
import { codeOfWire, type ErrorCode, errorTable, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export const CLOSE_BYTES_MAX = 2 + limits.reason_bytes_max;

/** The reason in UTF-8, cut at a character's edge. */
export function boundReason(reason: string): Uint8Array {
  const bytes = new Uint8Array(limits.reason_bytes_max);
  return bytes.subarray(0, encoder.encodeInto(reason, bytes).written);
}

export function encodeClose(code: ErrorCode, reason: string): Uint8Array {
  const text = boundReason(reason);
  const bytes = new Uint8Array(2 + text.length);
  new DataView(bytes.buffer).setUint16(0, errorTable[code].wire);
  bytes.set(text, 2);
  return bytes;
}

/** What the peer gave as its reason. Anything is understood: these are its last words. */
export function decodeClose(bytes: Uint8Array, peer: string): SelvedgeError {
  const wire = bytes.length < 2 ? 0 : new DataView(bytes.buffer, bytes.byteOffset).getUint16(0);
  return closeError(codeOfWire(wire), decoder.decode(bytes.subarray(2, CLOSE_BYTES_MAX)), peer);
}

/** What the other end is told of a refusal: its message, or, where the code means that it shall come back, after how many milliseconds. */
export function reasonOf(error: SelvedgeError): string {
  return error.code === 'peer_busy' ? String(error.facts.ms) : error.message;
}

/** The error that both ends of a session are told when one of them closes it. */
export function closeError(code: ErrorCode, reason: string, peer: string): SelvedgeError {
  if (code === 'peer_busy') return new SelvedgeError(code, { peer, ms: /^\d{1,9}$/.test(reason) ? Number(reason) : 0 });
  return new SelvedgeError(code, { why: reason, peer });
}
