/**
 * DER as a tree that a test can change: what is read encodes back to the same octets, and what is changed becomes whatever a hostile
 * authority could write, also what is no DER any more. Not for the product: nothing here is refused.
 */

/** One element. Constructed ones have children; `raw` stands in the place of everything, as it is. */
export interface Element {
  tag: number;
  children: Element[] | null;
  content: Uint8Array;
  /** How its length is written: `long` with one octet more than needed, `indefinite` as BER has it. */
  length?: 'long' | 'indefinite';
  raw?: Uint8Array;
}

const CONSTRUCTED = 0x20;
/** Wrapped in these there is DER again: the values of extensions, and nothing else of a certificate. */
const OCTET_STRING = 0x04;

export function readElement(der: Uint8Array): Element {
  const { element, end } = readAt(der, 0);
  if (end !== der.length) throw new Error(`${der.length - end} octets follow the element`);
  return element;
}

function readAt(der: Uint8Array, start: number): { element: Element; end: number } {
  const tag = der[start] ?? 0;
  const { length, begin } = readLength(der, start + 1);
  const content = der.subarray(begin, begin + length);
  const children: Element[] | null = (tag & CONSTRUCTED) === 0 ? null : [];
  for (let at = 0; children !== null && at < content.length; ) {
    const { element, end } = readAt(content, at);
    children.push(element);
    at = end;
  }
  return { element: { tag, children, content }, end: begin + length };
}

function readLength(der: Uint8Array, at: number): { length: number; begin: number } {
  const first = der[at] ?? 0;
  if (first < 0x80) return { length: first, begin: at + 1 };
  let length = 0;
  for (let index = 1; index <= (first & 0x7f); index++) length = length * 256 + (der[at + index] ?? 0);
  return { length, begin: at + 1 + (first & 0x7f) };
}

export function writeElement({ tag, children, content, length = undefined, raw }: Element): Uint8Array {
  if (raw !== undefined) return raw;
  const body = children === null ? content : join(...children.map(writeElement));
  if (length === 'indefinite') return join(Uint8Array.of(tag, 0x80), body, Uint8Array.of(0, 0));
  return join(Uint8Array.of(tag), writeLength(body.length, length === 'long'), body);
}

function writeLength(length: number, isLong: boolean): Uint8Array {
  const octets: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets.unshift(rest % 256);
  if (isLong) return Uint8Array.of(0x81 + octets.length, 0, ...octets);
  return length < 0x80 ? Uint8Array.of(length) : Uint8Array.of(0x80 + octets.length, ...octets);
}

export function element(tag: number, content: Uint8Array | readonly Element[]): Element {
  return content instanceof Uint8Array ? { tag, children: null, content } : { tag, children: [...content], content: new Uint8Array() };
}

/** A deep copy, so that one certificate can be changed in many ways. */
export function copy(of: Element): Element {
  return { ...of, children: of.children?.map(copy) ?? null };
}

/** Every element, each with the way that leads to it; values of extensions are looked into too. */
export function* walk(root: Element, path: readonly number[] = []): Generator<{ readonly path: readonly number[]; readonly element: Element }> {
  yield { path, element: root };
  for (const [index, child] of (root.children ?? []).entries()) yield* walk(child, [...path, index]);
}

/** Turns the value of an octet string into children, so that it can be walked and changed; written back it is an octet string again. */
export function unwrap(of: Element): void {
  if (of.tag === OCTET_STRING && of.children === null) of.children = [readElement(of.content)];
}

export function at(root: Element, path: readonly number[]): Element {
  let found = root;
  for (const index of path) {
    const child = found.children?.[index];
    if (child === undefined) throw new Error(`no element at ${path.join('.')}`);
    found = child;
  }
  return found;
}

export function join(...parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

export function set(of: Element, change: Partial<Element>): void {
  Object.assign(of, change);
}
