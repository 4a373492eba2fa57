/** What is no certificate, or one in other octets than DER has it. */
import { randomBytes } from 'node:crypto';
import { limits } from '../../../../src/base/limits.ts';
import { at, copy, element, join, set, walk, writeElement, type Element } from '../der-tree.ts';
import * as f from '../forge.ts';
import * as r from '../reissue.ts';
import { type ChainCase, bad, good, intermediate, intermediateAs, leaf, leafAs, leafWith, one } from './cast.ts';

/** Everything that is no certificate, or more than one, or too much of one. */
export function shapes(): ChainCase[] {
  const pem = new Uint8Array(Buffer.from(`-----BEGIN CERTIFICATE-----\n${Buffer.from(leaf.der).toString('base64')}\n-----END CERTIFICATE-----\n`));
  const nested = (depth: number): Uint8Array => {
    let inner = element(5, new Uint8Array(0));
    for (let level = 0; level < depth; level++) inner = element(0x30, [inner]);
    return writeElement(inner);
  };
  const pile = (count: number, size: number) =>
    leafWith({ more: Array.from({ length: count }, (_, index) => f.rawExtension(`1.3.6.1.4.1.99999.${index}`, false, new Uint8Array(size))) });
  const version = (value: Element | null) => (tbs: Element) => tbs.children?.splice(r.part.version, 1, ...(value === null ? [] : [value]));
  const numbered = (number: number) => element(0xa0, [element(2, Uint8Array.of(number))]);
  const changes: [string, (tbs: Element) => void][] = [
    ['of version 1', version(numbered(0))],
    ['of version 2', version(numbered(1))],
    ['of version 4', version(numbered(3))],
    ['of no version', version(null)],
    ['of version 1 without extensions', (tbs) => set(tbs, { children: tbs.children?.slice(1, -1) ?? null })],
    ['without extensions', (tbs) => tbs.children?.pop()],
    ['with an empty list of extensions', (tbs) => set(at(tbs, [r.part.extensions, 0]), { children: [] })],
    ['with a unique id of its issuer', (tbs) => tbs.children?.splice(r.part.extensions, 0, element(0x81, Uint8Array.of(0, 1)))],
    ['with a unique id of its subject', (tbs) => tbs.children?.splice(r.part.extensions, 0, element(0x82, Uint8Array.of(0, 1)))],
    ['with something behind its extensions', (tbs) => tbs.children?.push(element(5, new Uint8Array(0)))],
  ];
  const bytes: [string, (der: Uint8Array) => Uint8Array][] = [
    ['of nothing', () => new Uint8Array(0)],
    ['of one octet', () => Uint8Array.of(0x30)],
    ['of random octets', () => new Uint8Array(randomBytes(500))],
    ['with an octet behind', (der) => Uint8Array.of(...der, 0)],
    ['with another behind', (der) => join(der, der)],
    ['cut short', (der) => der.subarray(0, -1)],
    ['cut in half', (der) => der.subarray(0, der.length >> 1)],
    ['that claims four GiB', (der) => Uint8Array.of(0x30, 0x84, 0xff, 0xff, 0xff, 0xff, ...der.subarray(4))],
    ['in a sequence of its own', (der) => writeElement(element(0x30, [{ tag: 0x30, children: null, content: der, raw: der }]))],
    ['as an octet string', (der) => writeElement(element(4, der))],
    ['as a set', (der) => Uint8Array.of(0x31, ...der.subarray(1))],
    ['that is a request', () => new TextEncoder().encode('GET / HTTP/1.1\r\n\r\n')],
    ['of too many octets', () => new Uint8Array(limits.certificate_bytes_max + 1).fill(0x30)],
  ];
  return [
    ...bytes.flatMap(([name, change]) => [
      bad(`leaf ${name}`, [change(leaf.der), intermediate.der]),
      bad(`intermediate ${name}`, [leaf.der, change(intermediate.der)]),
    ]),
    ...changes.flatMap(([name, change]) => [bad(`leaf ${name}`, leafAs(change)), bad(`intermediate ${name}`, intermediateAs(change))]),
    bad('leaf in PEM', [pem, intermediate.der]),
    bad('no certificate', []),
    bad('an extension of a thousand levels', leafWith({ more: [f.rawExtension('1.3.6.1.4.1.99999.1', false, nested(1_000))] })),
    bad('65 extensions', pile(65, 1)),
    bad('just too large', pile(1, limits.certificate_bytes_max)),
    bad('a megabyte', pile(1, 1024 * 1024)),
  ];
}

export function nameEncodings(): ChainCase[] {
  const part = { subject: [r.part.subject], issuer: [r.part.issuer] };
  const types: [string, number, Uint8Array][] = [
    ['a PrintableString', 0x13, new Uint8Array(Buffer.from('x'))],
    ['a BMPString', 0x1e, Uint8Array.of(0, 0x78)],
    ['a T61String', 0x14, Uint8Array.of(0xe9)],
    ['a UniversalString', 0x1c, Uint8Array.of(0, 0, 0, 0x78)],
    ['an IA5String', 0x16, new Uint8Array(Buffer.from('x'))],
    ['UTF-8 that is none', 0x0c, Uint8Array.of(0xff, 0xfe)],
    ['right-to-left marks', 0x0c, new Uint8Array(Buffer.from('\u202enode\u2066'))],
    ['four thousand characters', 0x0c, new Uint8Array(Buffer.from('x'.repeat(4_000)))],
    ['zero octets', 0x0c, Uint8Array.of(0, 0)],
    ['nothing', 0x0c, new Uint8Array(0)],
    ['another script', 0x0c, new Uint8Array(Buffer.from('узел-節點-عقدة'))],
  ];
  const change = (path: number[], tag: number, content: Uint8Array) => (tbs: Element) => {
    const value = [...walk(at(tbs, path))].findLast(({ element }) => element.children === null)?.element;
    if (value) Object.assign(value, { tag, content });
  };
  return [
    ...types.flatMap(([name, tag, content]) => [
      good(`leaf whose subject has ${name}`, leafAs(change(part.subject, tag, content))),
      bad(`leaf whose issuer has ${name}`, leafAs(change(part.issuer, tag, content))),
      bad(`intermediate whose subject has ${name}`, intermediateAs(change(part.subject, tag, content))),
    ]),
    good(
      'leaf of an empty subject',
      leafAs((tbs) => set(at(tbs, part.subject), { children: [] })),
    ),
    bad(
      'leaf of an empty issuer',
      leafAs((tbs) => set(at(tbs, part.issuer), { children: [] })),
    ),
    good(
      'leaf whose subject is its issuer',
      leafAs((tbs) => set(at(tbs, part.subject), { children: copy(at(tbs, part.issuer)).children })),
    ),
  ];
}

/** Every element of a leaf and of an intermediate: left out, twice, of another type, empty, and with its length as BER allows it. */
export function everyElement(): ChainCase[] {
  const replaced = (root: Element, path: readonly number[], by: (element: Element) => Element[]): void => {
    const parent = at(root, path.slice(0, -1));
    parent.children?.splice(path.at(-1) ?? 0, 1, ...by(at(root, path)));
  };
  const mutations: [string, (element: Element) => Element[]][] = [
    ['left out', () => []],
    ['twice', (found) => [found, copy(found)]],
    ['of another type', (found) => [{ ...found, tag: found.tag ^ 0x40 }]],
    ['emptied', (found) => [{ ...found, children: found.children && [], content: new Uint8Array(0) }]],
    ['with a long length', (found) => [{ ...found, length: 'long' }]],
    ['of indefinite length', (found) => [{ ...found, length: 'indefinite' }]],
  ];
  const cases: ChainCase[] = [];
  for (const [what, certificate] of [
    ['leaf', leaf],
    ['intermediate', intermediate],
  ] as const) {
    for (const { path, element } of walk(r.readTbs(certificate.der))) {
      if (path.length === 0) continue;
      for (const [how, mutate] of mutations) {
        const change = (tbs: Element) => replaced(tbs, path, mutate);
        if (how === 'of indefinite length' && element.children === null) continue;
        const place = `${what} ${path.join('.')} ${how}`;
        const name = `element of ${place}`;
        cases.push(one(name, what === 'leaf' ? leafAs(change) : intermediateAs(change), isHarmless(place) ? 'accepted' : 'certificate_invalid'));
      }
    }
  }
  return cases;
}

/** Whether it still is DER, and only what nobody reads has changed: the subject of a leaf; that something is critical which is known anyway; a purpose said twice. */
function isHarmless(place: string): boolean {
  if (/^leaf 5\.[\d.]+ (left out|twice|emptied)$/.test(place)) return !/^leaf 5\.\d\.0\.0 emptied$/.test(place);
  return harmless.has(place);
}

const harmless: ReadonlySet<string> = new Set([
  'leaf 5 emptied',
  'leaf 7.0.0 left out',
  'leaf 7.0.0.1 left out',
  'leaf 7.0.0.2.0 emptied',
  'leaf 7.0.2.1.0.0 twice',
  'leaf 7.0.2.1.0.1 twice',
  'intermediate 7.0.0.1 left out',
  'intermediate 7.0.0.2.0.1 left out',
  'intermediate 7.0.1.1 left out',
]);
