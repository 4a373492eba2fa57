/** Certificates changed element by element and signed again by their true issuer: what a careless or hostile authority could put its name to. */
import { sign } from 'node:crypto';
import { at, type Element, element, join, readElement, unwrap, writeElement } from './der-tree.ts';
import type { Forged } from './forge.ts';

/** The order of P-256's base point. */
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;

/** Where the parts of a TBSCertificate of version 3 stand. */
export const part = { version: 0, serial: 1, signature: 2, issuer: 3, validity: 4, subject: 5, key: 6, extensions: 7 } as const;

/** What is to be signed, with the values of its extensions as trees. */
export function readTbs(certificate: Uint8Array): Element {
  const tbs = at(readElement(certificate), [0]);
  for (const extension of extensionsOf(tbs)) unwrap(at(extension, [(extension.children?.length ?? 1) - 1]));
  return tbs;
}

export function extensionsOf(tbs: Element): Element[] {
  return tbs.children?.[part.extensions]?.children?.[0]?.children ?? [];
}

export interface Sealing {
  /** The algorithm named beside the signature; that of the certificate's inside unless told. */
  readonly algorithm?: Element;
  /** Of the DER signature; what comes back stands in the certificate. */
  readonly signature?: (der: Uint8Array) => Uint8Array;
  /** In front of the bit string: how many of its bits are not used. */
  readonly unusedBits?: number;
}

/** `certificate` with another inside, signed by `issuer`. */
export function reissue(certificate: Forged, issuer: Forged, change: (tbs: Element) => void, sealing: Sealing = {}): Forged {
  const tbs = readTbs(certificate.der);
  const algorithm = sealing.algorithm ?? at(tbs, [part.signature]);
  change(tbs);
  const signature = new Uint8Array(sign('sha256', writeElement(tbs), issuer.keys.privateKey));
  const bits = join(Uint8Array.of(sealing.unusedBits ?? 0), sealing.signature?.(signature) ?? signature);
  return { ...certificate, der: writeElement(element(0x30, [tbs, algorithm, element(0x03, bits)])) };
}

/** Changes r and s of an ECDSA signature. */
export function withNumbers(change: (r: bigint, s: bigint) => readonly [bigint, bigint]): (der: Uint8Array) => Uint8Array {
  return (der) => {
    const [r, s] = (readElement(der).children ?? []).map(({ content }) => BigInt(`0x${Buffer.from(content).toString('hex')}`));
    return writeElement(
      element(
        0x30,
        change(r ?? 0n, s ?? 0n).map((number) => element(0x02, integer(number))),
      ),
    );
  };
}

/** The other signature of the same message: as good to anybody who does not ask for the lower half. */
export const highS = withNumbers((r, s) => [r, s > ORDER / 2n ? s : ORDER - s]);
export const lowS = withNumbers((r, s) => [r, s > ORDER / 2n ? ORDER - s : s]);
export const beyondOrder = withNumbers((r, s) => [r + ORDER, s]);
export const zeroes = withNumbers(() => [0n, 0n]);
export const negative = withNumbers((r, s) => [-r, s]);

function integer(number: bigint): Uint8Array {
  if (number < 0n) return Uint8Array.of(0xff, ...integer(-number));
  const hex = number.toString(16);
  const bytes = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return (bytes[0] ?? 0) >= 0x80 ? Uint8Array.of(0, ...bytes) : new Uint8Array(bytes);
}
