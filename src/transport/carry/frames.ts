/**
 * The frames of a carried path: sealed packets in a stream of octets, each behind its length, 16 bits big-endian. The gate follows them through pieces that are cut
 * anywhere, and lets whole frames through or keeps whole frames out, without copying one. It never looks into a packet: that is WireGuard's to judge.
 *
 * A frame of one octet is no packet but a word from daemon to daemon; it never reaches a tunnel.
 */
import { SelvedgeError } from '../../base/errors.ts';

/** The smallest sealed packet is WireGuard's keepalive. */
export const PACKET_BYTES_MIN = 32;
const HEAD_BYTES = 2;
const WORD_BYTES = 1;
const NO_OCTET = -1;

/** What the two daemons tell each other beside the packets. */
export interface CarryWord {
  /** This end sends by the carried path, and wants it kept. */
  readonly wants: boolean;
  /** This end hears the other by UDP. */
  readonly hears: boolean;
}

const WANTS = 1;
const HEARS = 2;

export function encodeWord({ wants, hears }: CarryWord): Uint8Array {
  return new Uint8Array([0, WORD_BYTES, (wants ? WANTS : 0) | (hears ? HEARS : 0)]);
}

export interface FrameGateOptions {
  /** Asked at the head of each packet's frame, with the octets of the whole frame: whether it goes through. */
  readonly admit: (frameBytes: number) => boolean;
  /** Null: words are a violation here. */
  readonly onWord: ((word: CarryWord) => void) | null;
}

export class FrameGate {
  readonly #options: FrameGateOptions;
  /** The first octet of a length that was cut in two. */
  #first = NO_OCTET;
  /** Octets of the frame under way that have not come yet. */
  #left = 0;
  #isAdmitted = false;
  #isWord = false;

  constructor(options: FrameGateOptions) {
    this.#options = options;
  }

  /** Part of a packet's frame has gone through and the rest has not: nothing may be put in between. */
  get isMidFrame(): boolean {
    return this.#left > 0 && this.#isAdmitted;
  }

  /** Hands on what goes through, in order, in as few pieces as can be; they lie in `bytes`. @throws frame_invalid */
  push(bytes: Uint8Array, handOn: (piece: Uint8Array) => void): void {
    // [from, at) goes through and was not handed on yet.
    let from = 0;
    let at = 0;
    const handOnUpTo = (end: number) => {
      if (end > from) handOn(from === 0 && end === bytes.length ? bytes : bytes.subarray(from, end));
    };
    while (at < bytes.length) {
      if (this.#left > 0) {
        const count = Math.min(this.#left, bytes.length - at);
        this.#left -= count;
        if (this.#isWord) this.#hear(bytes[at] as number);
        at += count;
        if (!this.#isAdmitted) from = at;
        continue;
      }
      const octet = bytes[at] as number;
      if (this.#first === NO_OCTET && at + 1 === bytes.length) {
        handOnUpTo(at);
        this.#first = octet;
        return;
      }
      const first = this.#first;
      const isCut = first !== NO_OCTET;
      const size = isCut ? first * 256 + octet : octet * 256 + (bytes[at + 1] as number);
      this.#first = NO_OCTET;
      this.#begin(size);
      // A cut length lies at the start of a piece, before which nothing waits.
      if (isCut && this.#isAdmitted) handOn(Uint8Array.of(first));
      if (!this.#isAdmitted) handOnUpTo(at);
      at += isCut ? HEAD_BYTES - 1 : HEAD_BYTES;
      if (!this.#isAdmitted) from = at;
    }
    handOnUpTo(at);
  }

  #begin(size: number): void {
    const { admit, onWord } = this.#options;
    this.#isWord = size === WORD_BYTES && onWord !== null;
    if (!this.#isWord && size < PACKET_BYTES_MIN) throw new SelvedgeError('frame_invalid', { why: `a carried packet of ${size} octets` });
    this.#isAdmitted = !this.#isWord && admit(HEAD_BYTES + size);
    this.#left = size;
  }

  #hear(octet: number): void {
    if ((octet & ~(WANTS | HEARS)) !== 0) throw new SelvedgeError('frame_invalid', { why: `unknown word ${octet} on a carried path` });
    this.#options.onWord?.({ wants: (octet & WANTS) !== 0, hears: (octet & HEARS) !== 0 });
  }
}
