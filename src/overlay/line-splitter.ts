/** Lines out of chunks of bytes, bounded before they are kept. Pure. */
import { SelvedgeError } from '../base/errors.ts';

const NEWLINE = 0x0a;
const KEPT_BYTES_MIN = 4_096;

export class LineSplitter {
  readonly #bytes_max: number;
  /** The line that has begun: its first `#length` octets. It grows by doubling, so that a line in single octets costs no more than one in one piece. */
  #kept = new Uint8Array(KEPT_BYTES_MIN);
  #length = 0;

  constructor(bytes_max: number) {
    this.#bytes_max = bytes_max;
  }

  /** The lines that `chunk` completes. @throws frame_too_large; request_invalid for what is not UTF-8 */
  *take(chunk: Uint8Array): Generator<string> {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.subarray(start, end));
      start = end + 1;
      const line = decode(this.#kept.subarray(0, this.#length));
      this.#length = 0;
      if (this.#kept.length > KEPT_BYTES_MIN) this.#kept = new Uint8Array(KEPT_BYTES_MIN);
      yield line;
    }
    this.#keep(chunk.subarray(start));
  }

  #keep(part: Uint8Array): void {
    const length = this.#length + part.length;
    if (length > this.#bytes_max) throw new SelvedgeError('frame_too_large', { found: length, max: this.#bytes_max });
    if (length > this.#kept.length) {
      const larger = new Uint8Array(Math.min(this.#bytes_max, Math.max(length, 2 * this.#kept.length)));
      larger.set(this.#kept.subarray(0, this.#length));
      this.#kept = larger;
    }
    this.#kept.set(part, this.#length);
    this.#length = length;
  }
}

function decode(line: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(line);
  } catch {
    throw new SelvedgeError('request_invalid', { path: '/', why: 'not UTF-8' });
  }
}
