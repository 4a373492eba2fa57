/**
 * Writing DER (X.690, section 10): the few types that a certificate of ours is made of. A leaf is written anew for every enrollment and renewal; the general encoder behind
 * `der.ts` takes longer for it than signing does. What is written here is read back by that encoder, and by strict-der.ts, in tests.
 */
const CONTEXT = 0x80;
const CONSTRUCTED = 0x20;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
/** RFC 5280, section 4.1.2.5: dates through 2049 are UTCTime. */
const GENERALIZED_FROM_YEAR = 2050;

/** One element: tag, length, and its content in pieces. */
export function element(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const length = content.reduce((sum, { length: each }) => sum + each, 0);
  const head = headOf(tag, length);
  const whole = new Uint8Array(head.length + length);
  whole.set(head);
  let at = head.length;
  for (const piece of content) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function headOf(tag: number, length: number): number[] {
  if (length < 0x80) return [tag, length];
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256);
  return [tag, 0x80 | bytes.length, ...bytes];
}

export const sequence = (...content: readonly Uint8Array[]): Uint8Array => element(0x30, ...content);
export const set = (...content: readonly Uint8Array[]): Uint8Array => element(0x31, ...content);
export const octetString = (...content: readonly Uint8Array[]): Uint8Array => element(0x04, ...content);
/** Of whole octets. */
export const bitString = (content: Uint8Array): Uint8Array => element(0x03, Uint8Array.of(0), content);
/** `content`: two's complement, big-endian, without needless octets. */
export const integer = (content: Uint8Array): Uint8Array => element(0x02, content);
export const utf8String = (text: string): Uint8Array => element(0x0c, new TextEncoder().encode(text));
/** [n], around what it holds. */
export const explicit = (tag: number, content: Uint8Array): Uint8Array => element(CONTEXT | CONSTRUCTED | tag, content);
/** [n], in the place of the tag of a string or other value that holds no element. */
export const implicit = (tag: number, content: Uint8Array): Uint8Array => element(CONTEXT | tag, content);

/** To the second; what is less is cut off. */
export function time(ms: number): Uint8Array {
  const text = new Date(ms).toISOString().replace(/[-:T]|\.\d+/g, '');
  const isLate = new Date(ms).getUTCFullYear() >= GENERALIZED_FROM_YEAR;
  return element(isLate ? GENERALIZED_TIME : UTC_TIME, new TextEncoder().encode(isLate ? text : text.slice(2)));
}

/** As dotted text (X.690, section 8.19). */
export function objectIdentifier(dotted: string): Uint8Array {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  return element(0x06, Uint8Array.from([first * 40 + second, ...rest].flatMap(base128)));
}

function base128(value: number): number[] {
  const octets = [value % 128];
  for (let rest = Math.floor(value / 128); rest > 0; rest = Math.floor(rest / 128)) octets.unshift(0x80 | (rest % 128));
  return octets;
}
