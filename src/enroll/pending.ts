/** A key and its certificate request, as they wait in the sealed store until the request has become a certificate. */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

export interface PendingRequest {
  /** PKCS#8 DER. */
  readonly key: Uint8Array;
  readonly csr: Uint8Array;
}

const KEY_BYTES_MAX = 1_024;

export function encodePending({ key, csr }: PendingRequest): Uint8Array {
  return new ByteWriter().block(key).block(csr).finish();
}

/** @throws store_damaged */
export function decodePending(path: string, bytes: Uint8Array): PendingRequest {
  try {
    const reader = new ByteReader(bytes);
    const key = reader.block(KEY_BYTES_MAX);
    const csr = reader.block(limits.csr_bytes_max);
    reader.end();
    return { key, csr };
  } catch (error) {
    throw new SelvedgeError('store_damaged', { path, why: 'its pending request cannot be read' }, { cause: error });
  }
}
