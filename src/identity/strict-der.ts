/**
 * Whether a certificate is DER to the last octet (X.690, sections 8 and 10). Path building reads only what it needs and is lenient about the rest; here
 * nothing is skipped, so that no two readers can see different things in one certificate. What stands in it is judged elsewhere.
 */
import { p256Objection } from './keys.ts';

/** Why it is not the one encoding of a certificate with a positive serial and a point of P-256; null if it is. */
export function encodingObjection(der: Uint8Array): string | null {
  try {
    const certificate = only(der, 0, der.length);
    check(der, certificate, 0);
    const [tbs] = elementsOf(der, certificate);
    const parts = tbs === undefined ? [] : elementsOf(der, tbs);
    const [, serial, , , , , key] = parts;
    const extensions = parts.at(-1);
    if (serial === undefined || key === undefined || extensions?.tag !== EXTENSIONS) return 'it is not a certificate of version 3';
    const list = elementsOf(der, extensions).flatMap((each) => elementsOf(der, each));
    for (const extension of list) checkExtension(der, extension);
    return serialObjection(der.subarray(serial.begin, serial.end)) ?? p256Objection(der.subarray(key.start, key.end));
  } catch (error) {
    if (!(error instanceof NotDer)) throw error;
    return `it is not strict DER: ${error.message}`;
  }
}

/** The parts of a structure that is DER to its last octet; null where it is none. Each is given with its tag and length. */
export function strictParts(der: Uint8Array): readonly Uint8Array[] | null {
  try {
    const whole = only(der, 0, der.length);
    check(der, whole, 0);
    return elementsOf(der, whole).map(({ start, end }) => der.subarray(start, end));
  } catch (error) {
    if (!(error instanceof NotDer)) throw error;
    return null;
  }
}

class NotDer extends Error {}

/** One element: where it starts, where its content begins and ends. */
interface Span {
  readonly tag: number;
  readonly start: number;
  readonly begin: number;
  readonly end: number;
}

const BOOLEAN = 0x01;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const OCTET_STRING = 0x04;
const NULL = 0x05;
const OBJECT_IDENTIFIER = 0x06;
const SEQUENCE = 0x30;
const SET = 0x31;
const CONSTRUCTED = 0x20;
const CLASS = 0xc0;
const CONTEXT_CLASS = 0x80;
const LONG_TAG = 0x1f;
/** [3], of a TBSCertificate. */
const EXTENSIONS = 0xa3;

/** Deeper than any certificate of ours, and too shallow to hurt. */
const DEPTH_MAX = 16;
/** RFC 5280, section 4.1.2.2. */
const SERIAL_BYTES_MAX = 20;

function check(der: Uint8Array, span: Span, depth: number): void {
  if (depth > DEPTH_MAX) throw new NotDer(`more than ${DEPTH_MAX} levels`);
  if ((span.tag & CONSTRUCTED) === 0) return checkPrimitive(span.tag, der.subarray(span.begin, span.end));
  for (const child of elementsOf(der, span)) check(der, child, depth + 1);
}

function checkPrimitive(tag: number, content: Uint8Array): void {
  const [first = 0, second = 0] = content;
  switch (tag) {
    case BOOLEAN:
      // Each boolean of a certificate is false unless it is there.
      if (content.length !== 1 || first !== 0xff) throw new NotDer('a boolean that is not TRUE');
      return;
    case INTEGER:
      if (content.length === 0) throw new NotDer('a number of no octets');
      if (content.length > 1 && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) throw new NotDer('a number with needless octets');
      return;
    case BIT_STRING:
      if (content.length === 0 || first > 7 || (content.length === 1 && first > 0)) throw new NotDer('a bit string without its head');
      if (((content.at(-1) ?? 0) & ((1 << first) - 1)) !== 0 && content.length > 1) throw new NotDer('a bit string whose unused bits are not zero');
      return;
    case NULL:
      if (content.length > 0) throw new NotDer('a NULL that holds something');
      return;
    case OBJECT_IDENTIFIER:
      if (content.length === 0 || (content.at(-1) ?? 0) >= 0x80) throw new NotDer('an object identifier without its end');
      return;
  }
}

/** What an extension holds is one element more, inside an octet string. */
function checkExtension(der: Uint8Array, extension: Span): void {
  const value = elementsOf(der, extension).at(-1);
  if (value?.tag !== OCTET_STRING) throw new NotDer('an extension without a value');
  check(der, only(der, value.begin, value.end), 0);
}

function only(der: Uint8Array, start: number, end: number): Span {
  const span = read(der, start, end);
  if (span.end !== end) throw new NotDer('octets behind the end');
  return span;
}

function elementsOf(der: Uint8Array, { tag, begin, end }: Span): Span[] {
  if ((tag & CONSTRUCTED) === 0) throw new NotDer('a value where a structure belongs');
  const found: Span[] = [];
  for (let at = begin; at < end; ) {
    const next = read(der, at, end);
    found.push(next);
    at = next.end;
  }
  return found;
}

function read(der: Uint8Array, start: number, limit: number): Span {
  const tag = der[start] ?? 0;
  const first = der[start + 1] ?? 0;
  if (start + 2 > limit) throw new NotDer('an element without its length');
  if ((tag & LONG_TAG) === LONG_TAG) throw new NotDer('a tag of more than one octet');
  const isUniversal = (tag & CLASS) === 0;
  if (!isUniversal && (tag & CLASS) !== CONTEXT_CLASS) throw new NotDer('a tag of a class that certificates do not use');
  if (isUniversal && ((tag & CONSTRUCTED) !== 0) !== isStructure(tag)) throw new NotDer('a string in pieces, or a structure that is none');
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f;
  if (first >= 0x80 && (lengthBytes === 0 || lengthBytes > 3)) throw new NotDer('a length that is indefinite or enormous');
  const begin = start + 2 + lengthBytes;
  let length = lengthBytes === 0 ? first : 0;
  for (let at = start + 2; at < begin; at++) length = length * 256 + (der[at] ?? 0);
  if (lengthBytes > 0 && (length < 0x80 || length < 256 ** (lengthBytes - 1))) throw new NotDer('a length with needless octets');
  if (begin + length > limit) throw new NotDer('an element beyond its end');
  return { tag, start, begin, end: begin + length };
}

/** Of the universal types, only these two are made of others. */
function isStructure(tag: number): boolean {
  const type = tag | CONSTRUCTED;
  return type === SEQUENCE || type === SET;
}

function serialObjection(serial: Uint8Array): string | null {
  if (serial.length > SERIAL_BYTES_MAX) return `its serial has more than ${SERIAL_BYTES_MAX} octets`;
  return (serial[0] ?? 0) >= 0x80 || serial.every((octet) => octet === 0) ? 'its serial is not a positive number' : null;
}
