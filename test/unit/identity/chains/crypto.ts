/** Keys, signatures and serial numbers. */
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { at, copy, element, set, type Element } from '../der-tree.ts';
import * as f from '../forge.ts';
import * as r from '../reissue.ts';
import { type ChainCase, bad, intermediate, intermediateAs, leaf, leafAs, leafWith, one, sha256, under, type Verdict } from './cast.ts';

export function keyKinds(): ChainCase[] {
  const kinds: Record<string, f.Keys> = {
    'P-384': f.ecKeys('secp384r1'),
    'P-521': f.ecKeys('secp521r1'),
    secp256k1: f.ecKeys('secp256k1'),
    'RSA of 1024 bits': generateKeyPairSync('rsa', { modulusLength: 1024 }),
    'RSA of 2048 bits': f.rsaKeys(),
    Ed25519: generateKeyPairSync('ed25519'),
    brainpool: f.ecKeys('brainpoolP256r1'),
  };
  const cases = Object.entries(kinds).flatMap(([name, keys]) => [
    bad(`leaf with a key of ${name}`, leafWith({}, { keys }), { keys }),
    ...(name === 'Ed25519' ? [] : [bad(`intermediate with a key of ${name}`, under({ keys }))]),
  ]);
  const point = (change: (bits: Uint8Array) => Uint8Array) => (tbs: Element) => {
    const bits = at(tbs, [r.part.key, 1]);
    bits.content = change(bits.content);
  };
  const compressed = (bits: Uint8Array) => Uint8Array.of(0, 2 + ((bits[65] ?? 0) & 1), ...bits.subarray(2, 34));
  const parameters = (value: Element[]) => (tbs: Element) => {
    const algorithm = at(tbs, [r.part.key, 0]);
    algorithm.children = [at(algorithm, [0]), ...value];
  };
  const changes: [string, (tbs: Element) => void][] = [
    ['a compressed point', point(compressed)],
    ['the point at infinity', point(() => Uint8Array.of(0, 0))],
    ['a point beside the curve', point((bits) => Uint8Array.of(...bits.subarray(0, 65), (bits[65] ?? 0) ^ 1))],
    ['a point of zeros', point(() => Uint8Array.of(0, 4, ...new Uint8Array(64)))],
    ['half a point', point((bits) => bits.subarray(0, 34))],
    ['no point', point(() => Uint8Array.of(0))],
    ['unused bits in its point', point((bits) => Uint8Array.of(1, ...bits.subarray(1)))],
    ['octets behind its point', point((bits) => Uint8Array.of(...bits, 0))],
    ['no curve', parameters([])],
    ['NULL for a curve', parameters([element(5, new Uint8Array(0))])],
    ['two curves', (tbs) => at(tbs, [r.part.key, 0]).children?.push(copy(at(tbs, [r.part.key, 0, 1])))],
    ['explicit parameters', parameters([element(0x30, [element(2, Uint8Array.of(1))])])],
  ];
  return [
    ...cases,
    ...changes.flatMap(([name, change]) => [
      bad(`leaf whose key has ${name}`, leafAs(change)),
      bad(`intermediate whose key has ${name}`, intermediateAs(change)),
    ]),
  ];
}

export function signatures(): ChainCase[] {
  const oid = (hex: string) => element(0x06, new Uint8Array(Buffer.from(hex, 'hex')));
  const SHA256 = '2a8648ce3d040302';
  const algorithm = (hex: string, ...more: Element[]) => element(0x30, [oid(hex), ...more]);
  const NULL = element(5, new Uint8Array(0));
  const labels: [string, Element][] = [
    ['ECDSA and SHA-1', algorithm('2a8648ce3d0401')],
    ['ECDSA and SHA-384', algorithm('2a8648ce3d040303')],
    ['RSA and SHA-256', algorithm('2a864886f70d01010b', NULL)],
    ['RSA and MD5', algorithm('2a864886f70d010104', NULL)],
    ['Ed25519', algorithm('2b6570')],
    ['ECDSA and SHA-256 with NULL', algorithm(SHA256, NULL)],
    ['nothing', element(0x30, [])],
  ];
  const inside = (value: Element) => (tbs: Element) => tbs.children?.splice(r.part.signature, 1, value);
  const seals: [string, r.Sealing, Verdict][] = [
    ['in its lower half', { signature: r.lowS }, 'accepted'],
    ['in its higher half', { signature: r.highS }, 'accepted'],
    ['beyond the order', { signature: r.beyondOrder }, 'certificate_invalid'],
    ['of zeros', { signature: r.zeroes }, 'certificate_invalid'],
    ['of a negative number', { signature: r.negative }, 'certificate_invalid'],
    ['that is empty', { signature: () => new Uint8Array(0) }, 'certificate_invalid'],
    ['cut short', { signature: (der) => der.subarray(0, -1) }, 'certificate_invalid'],
    ['with an octet behind it', { signature: (der) => Uint8Array.of(...der, 0) }, 'certificate_invalid'],
    ['that is another’s', { signature: () => new Uint8Array(randomBytes(70)) }, 'certificate_invalid'],
    ['with unused bits', { unusedBits: 1 }, 'certificate_invalid'],
    ['with all bits unused', { unusedBits: 8 }, 'certificate_invalid'],
    ['of 64 octets without a frame', { signature: () => new Uint8Array(64).fill(1) }, 'certificate_invalid'],
  ];
  const untouched = (): void => undefined;
  const changedAfter = (certificate: f.Forged): Uint8Array => {
    const der = certificate.der.slice();
    const last = Buffer.from(der).indexOf(Buffer.from('node/0'));
    der[last < 0 ? 200 : last + 6] = 0x39;
    return der;
  };
  return [
    ...labels.flatMap(([name, value]) => [
      bad(`leaf that says ${name}, inside`, leafAs(inside(value), { algorithm: algorithm(SHA256) })),
      bad(`leaf that says ${name}, outside`, leafAs(untouched, { algorithm: value })),
      bad(`leaf that says ${name}, inside and outside`, leafAs(inside(value), { algorithm: value })),
      bad(`intermediate that says ${name}, outside`, intermediateAs(untouched, { algorithm: value })),
      bad(`intermediate that says ${name}, inside and outside`, intermediateAs(inside(value), { algorithm: value })),
    ]),
    ...seals.flatMap(([name, sealing, verdict]) => [
      one(`leaf with a signature ${name}`, leafAs(untouched, sealing), verdict),
      one(`intermediate with a signature ${name}`, intermediateAs(untouched, sealing), verdict),
    ]),
    one('a recorded leaf, its signature in the other half', leafAs(untouched, { signature: r.highS }), 'certificate_revoked', { recorded: sha256(leaf.der) }),
    bad('leaf changed after it was signed', [changedAfter(leaf), intermediate.der]),
    bad('intermediate changed after it was signed', [leaf.der, changedAfter(intermediate)]),
    bad('leaf signed with SHA-384', leafWith({}, { hash: 'sha384' })),
    bad('intermediate signed with SHA-384', under({ hash: 'sha384' })),
  ];
}

export function serials(): ChainCase[] {
  const values: [string, string, Verdict][] = [
    ['of zero', '00', 'certificate_invalid'],
    ['of one', '01', 'accepted'],
    ['that is negative', 'ff01', 'certificate_invalid'],
    ['of minus one', 'ff', 'certificate_invalid'],
    ['of 20 octets', `7f${'11'.repeat(19)}`, 'accepted'],
    ['of 21 octets', `7f${'11'.repeat(20)}`, 'certificate_invalid'],
    ['of 127 octets', `7f${'11'.repeat(126)}`, 'certificate_invalid'],
    ['of 4,000 octets', `7f${'11'.repeat(3_999)}`, 'certificate_invalid'],
    ['with zeros in front', '000001', 'certificate_invalid'],
    ['of nothing', '', 'certificate_invalid'],
  ];
  return values.flatMap(([name, hex, verdict]) => {
    const change = (tbs: Element) => set(at(tbs, [r.part.serial]), { content: new Uint8Array(Buffer.from(hex, 'hex')) });
    return [one(`leaf with a serial ${name}`, leafAs(change), verdict), one(`intermediate with a serial ${name}`, intermediateAs(change), verdict)];
  });
}
