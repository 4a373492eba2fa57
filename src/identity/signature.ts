/** ECDSA signatures of P-256: the two numbers side by side, as tokens give them, and DER (`ECDSA-Sig-Value`), as X.509 wants them. */
import { SelvedgeError } from '../base/errors.ts';

const NUMBER_BYTES = 32;

/** @throws signer_unavailable on what is no such signature */
export function derSignature(raw: Uint8Array): Uint8Array {
  if (raw.length !== 2 * NUMBER_BYTES)
    throw new SelvedgeError('signer_unavailable', { what: 'a signature', why: `it has ${raw.length} octets, expected ${2 * NUMBER_BYTES}` });
  const numbers = [integer(raw.subarray(0, NUMBER_BYTES)), integer(raw.subarray(NUMBER_BYTES))];
  const body = Buffer.concat(numbers);
  return new Uint8Array(Buffer.concat([Uint8Array.of(0x30, body.length), body]));
}

/** Positive and as short as it goes. */
function integer(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start++;
  const short = bytes.subarray(start);
  const padded = (short[0] ?? 0) & 0x80 ? Uint8Array.of(0, ...short) : short;
  return Uint8Array.of(0x02, padded.length, ...padded);
}
