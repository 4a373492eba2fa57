/**
 * Bounded reading and writing of the wire's integers and byte strings. Integers are QUIC's variable-length integers (RFC 9000,
 * section 16), here up to 2^53 - 1, since a JavaScript number holds no more exactly.
 */
import { SelvedgeError } from './errors.ts';

const utf8Encoder = new TextEncoder();
const utf8Decoder = new TextDecoder('utf-8', { fatal: true });

/** Of one UTF-16 code unit. */
const UTF8_BYTES_MAX = 3;
/** Names are short, and nearly all of ASCII: up to here they are read and written octet by octet, which costs half of what an encoder and the views for it do. */
const SHORT_TEXT_BYTES_MAX = 32;

/** Up to here octets are copied one by one: a view to copy them from costs more. */
const SHORT_COPY_BYTES_MAX = 128;

/** Octets that `value` takes as a varint: 1, 2, 4 or 8. */
export function varintLength(value: number): 1 | 2 | 4 | 8 {
  if (value < 0x40) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x4000_0000) return 4;
  return 8;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes `value` at `at`, where there must be room for it; returns the index behind it. */
export function putVarint(bytes: Uint8Array, at: number, value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`varint of ${value}`);
  const size = varintLength(value);
  if (size === 1) bytes[at] = value;
  else if (size === 2) {
    bytes[at] = (value >> 8) | 0x40;
    bytes[at + 1] = value;
  } else if (size === 4) putU32(bytes, at, value | 0x8000_0000);
  else {
    putU32(bytes, at, Math.floor(value / 0x1_0000_0000) | 0xc000_0000);
    putU32(bytes, at + 4, value);
  }
  return at + size;
}

/** Writes into a buffer that grows; `finish` hands the octets over. */
export class ByteWriter {
  #bytes: Uint8Array;
  #length = 0;

  constructor(capacity = 128) {
    this.#bytes = new Uint8Array(capacity);
  }

  #reserve(count: number): number {
    const at = this.#length;
    const need = at + count;
    if (need > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(need, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    this.#length = need;
    return at;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#bytes[at] = value;
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    putU32(this.#bytes, at, value);
    return this;
  }

  f64(value: number): this {
    const at = this.#reserve(8);
    new DataView(this.#bytes.buffer, at).setFloat64(0, value);
    return this;
  }

  varint(value: number): this {
    const at = this.#reserve(varintLength(value));
    putVarint(this.#bytes, at, value);
    return this;
  }

  raw(bytes: Uint8Array): this {
    const at = this.#reserve(bytes.length);
    this.#bytes.set(bytes, at);
    return this;
  }

  /** A byte string behind its length. */
  block(bytes: Uint8Array): this {
    return this.varint(bytes.length).raw(bytes);
  }

  /** UTF-8 behind its length, written in place: an array of its own costs ten times as much. */
  text(value: string): this {
    if (value.length <= SHORT_TEXT_BYTES_MAX && this.#ascii(value)) return this;
    const most = UTF8_BYTES_MAX * value.length;
    const at = this.#reserve(varintLength(most) + most);
    const from = at + varintLength(most);
    const { written } = utf8Encoder.encodeInto(value, this.#bytes.subarray(from));
    const begin = putVarint(this.#bytes, at, written);
    if (begin < from) this.#bytes.copyWithin(begin, from, from + written);
    this.#length = begin + written;
    return this;
  }

  /** False, and nothing written, if it is not of ASCII alone. */
  #ascii(value: string): boolean {
    const from = this.#reserve(1 + value.length);
    for (let index = 0; index < value.length; index++) {
      const code = value.charCodeAt(index);
      if (code > 0x7f) {
        this.#length = from;
        return false;
      }
      this.#bytes[from + 1 + index] = code;
    }
    this.#bytes[from] = value.length;
    return true;
  }

  /** Begins anew in the same buffer: what `finish` handed over is overwritten. */
  restart(): this {
    this.#length = 0;
    return this;
  }

  get length(): number {
    return this.#length;
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Puts what was written to `at` in `target`, where there must be room for it; returns the index behind it. */
  copyTo(target: Uint8Array, at: number): number {
    if (this.#length > SHORT_COPY_BYTES_MAX) target.set(this.finish(), at);
    else for (let index = 0; index < this.#length; index++) target[at + index] = this.#bytes[index] as number;
    return at + this.#length;
  }
}

/** Reads what a peer sent: every read is checked against the end, every length against a maximum; else `frame_invalid`. */
export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;
  #isShort = false;

  /** From `begin` on, up to before `end`: a view of a part costs more than to read it in place. */
  constructor(bytes: Uint8Array, begin = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = begin;
    this.#end = end;
  }

  get remaining(): number {
    return this.#end - this.#at;
  }

  /** Whether a read failed because octets were missing, and not because of what they said. */
  get isShort(): boolean {
    return this.#isShort;
  }

  #take(count: number): number {
    const at = this.#at;
    if (count > this.remaining) {
      this.#isShort = true;
      throw new SelvedgeError('frame_invalid', { why: `${count} more octets expected, ${this.remaining} there` });
    }
    this.#at = at + count;
    return at;
  }

  /** An octet whose presence was checked. */
  #octet(at: number): number {
    return this.#bytes[at] as number;
  }

  #u24(at: number): number {
    return (this.#octet(at) << 16) | (this.#octet(at + 1) << 8) | this.#octet(at + 2);
  }

  u8(): number {
    return this.#octet(this.#take(1));
  }

  u32(): number {
    const at = this.#take(4);
    return this.#octet(at) * 0x1_000000 + this.#u24(at + 1);
  }

  /** A finite double; NaN and infinities are refused. */
  f64(): number {
    const value = new DataView(this.#bytes.buffer, this.#bytes.byteOffset + this.#take(8)).getFloat64(0);
    if (!Number.isFinite(value)) throw new SelvedgeError('frame_invalid', { why: 'number is not finite' });
    return value;
  }

  varint(max: number = Number.MAX_SAFE_INTEGER): number {
    const first = this.u8();
    const prefix = first >> 6;
    let value = first & 0x3f;
    if (prefix === 1) value = (value << 8) | this.u8();
    else if (prefix === 2) value = value * 0x1_000000 + this.#u24(this.#take(3));
    else if (prefix === 3) value = (value * 0x1_000000 + this.#u24(this.#take(3))) * 0x1_0000_0000 + this.u32();
    if (value > max) throw new SelvedgeError('frame_invalid', { why: `number ${value} above its maximum ${max}` });
    return value;
  }

  /** The next `count` octets, as a view into what was given. */
  raw(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.subarray(at, at + count);
  }

  /** The same, as octets of their own. */
  copy(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.slice(at, at + count);
  }

  rest(): Uint8Array {
    return this.raw(this.remaining);
  }

  block(lengthMax: number): Uint8Array {
    return this.raw(this.varint(lengthMax));
  }

  text(lengthMax: number): string {
    const length = this.varint(lengthMax);
    const short = length <= SHORT_TEXT_BYTES_MAX && length <= this.remaining ? this.#ascii(length) : null;
    if (short !== null) return short;
    try {
      return utf8Decoder.decode(this.raw(length));
    } catch (error) {
      if (error instanceof SelvedgeError) throw error;
      throw new SelvedgeError('frame_invalid', { why: 'text is not UTF-8' });
    }
  }

  /** Null, and nothing read, if they are not of ASCII alone. */
  #ascii(length: number): string | null {
    let text = '';
    for (let at = this.#at; at < this.#at + length; at++) {
      const octet = this.#octet(at);
      if (octet > 0x7f) return null;
      text += String.fromCharCode(octet);
    }
    this.#at += length;
    return text;
  }

  /** Nothing may follow. */
  end(): void {
    if (this.remaining !== 0) throw new SelvedgeError('frame_invalid', { why: `${this.remaining} octets too many` });
  }
}
