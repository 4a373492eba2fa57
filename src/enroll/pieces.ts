/**
 * An envelope over a flow whose messages it may not fit in: cut into pieces, each an octet (1: more follows, 0: the last) and a part of it.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

const LAST = 0;
const MORE = 1;

export function* cutIntoPieces(bytes: Uint8Array): Generator<Uint8Array, void, undefined> {
  const size = limits.message_bytes_max - 1;
  for (let at = 0; at === 0 || at < bytes.length; at += size) {
    const part = bytes.subarray(at, at + size);
    const piece = new Uint8Array(part.length + 1);
    piece[0] = at + size < bytes.length ? MORE : LAST;
    piece.set(part, 1);
    yield piece;
  }
}

/** What came so far of the envelope that is on its way. */
export class Pieces {
  #parts: Uint8Array[] = [];
  #bytes = 0;

  /** The envelope that this piece completes, else null. @throws request_invalid, body_too_large */
  add(piece: Uint8Array): Uint8Array | null {
    const [kind] = piece;
    if (kind !== LAST && kind !== MORE) throw new SelvedgeError('request_invalid', { path: '/', why: 'a piece begins with 0 or 1' });
    this.#bytes += piece.length - 1;
    if (this.#bytes > limits.snapshot_envelope_bytes_max) throw new SelvedgeError('body_too_large', { max: limits.snapshot_envelope_bytes_max });
    this.#parts.push(piece.subarray(1));
    // An endless row of empty pieces is bounded too.
    if (this.#parts.length > limits.snapshot_pieces_max) throw new SelvedgeError('body_too_large', { max: limits.snapshot_envelope_bytes_max });
    if (kind === MORE) return null;
    const whole = new Uint8Array(this.#bytes);
    let at = 0;
    for (const part of this.#parts) {
      whole.set(part, at);
      at += part.length;
    }
    this.#parts = [];
    this.#bytes = 0;
    return whole;
  }
}
