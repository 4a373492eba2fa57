/**
 * Certificates of any shape, good or wrong, for the tests of the identity decision: whatever a hostile or careless authority could
 * sign. Everything has the profile's value unless a test asks for another.
 */
import { createPublicKey, type KeyObject, generateKeyPairSync, randomBytes, sign } from 'node:crypto';
import { OctetString } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  KeyUsage,
  KeyUsageFlags,
  SubjectAlternativeName,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';
import { AsnConvert } from '@peculiar/asn1-schema';
import { encodeDer, toArrayBuffer } from '../../../src/identity/der.ts';
import { authorityName } from '../../../src/identity/names.ts';
import { extensionOids, keyPurposeOids } from '../../../src/identity/profile.ts';

export const NOW_MS = Date.UTC(2026, 10, 22, 12);
export const DAY_MS = 86_400_000;
export const CLUSTER = 'c1';
export const NODE = '0123456789ab';
export const URI = `spiffe://${CLUSTER}/site/s1/node/${NODE}`;

export interface Keys {
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
}

export const ecKeys = (namedCurve = 'prime256v1'): Keys => generateKeyPairSync('ec', { namedCurve });
export const rsaKeys = (): Keys => generateKeyPairSync('rsa', { modulusLength: 2048 });

/** A certificate with the key that may sign under it. */
export interface Forged {
  readonly der: Uint8Array;
  readonly keys: Keys;
  readonly name: string;
}

export interface Shape {
  readonly name?: string;
  readonly keys?: Keys;
  /** Null: signed by itself. */
  readonly issuer: Forged | null;
  readonly notBefore_ms?: number;
  readonly notAfter_ms?: number;
  readonly extensions: readonly Extension[];
  /** The digest under the signature. */
  readonly hash?: 'sha256' | 'sha384';
}

const SIGNATURE_OIDS = {
  ecsha256: '1.2.840.10045.4.3.2',
  ecsha384: '1.2.840.10045.4.3.3',
  rsasha256: '1.2.840.113549.1.1.11',
  rsasha384: '1.2.840.113549.1.1.12',
} as const;

export function forge({ name = 'x', keys = ecKeys(), issuer, notBefore_ms, notAfter_ms, extensions, hash = 'sha256' }: Shape): Forged {
  const signing = issuer?.keys ?? keys;
  const kind = signing.privateKey.asymmetricKeyType === 'rsa' ? 'rsa' : 'ec';
  const signature = new AlgorithmIdentifier({ algorithm: SIGNATURE_OIDS[`${kind}${hash}`], ...(kind === 'rsa' ? { parameters: null } : {}) });
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: toArrayBuffer(Uint8Array.of(0x40, ...randomBytes(15))),
    signature,
    issuer: authorityName(CLUSTER, issuer?.name ?? name),
    validity: new Validity({ notBefore: new Date(notBefore_ms ?? NOW_MS - DAY_MS), notAfter: new Date(notAfter_ms ?? NOW_MS + 30 * DAY_MS) }),
    subject: authorityName(CLUSTER, name),
    subjectPublicKeyInfo: AsnConvert.parse(
      createPublicKey(keys.publicKey.export({ type: 'spki', format: 'pem' })).export({ type: 'spki', format: 'der' }),
      SubjectPublicKeyInfo,
    ),
    extensions: new Extensions([...extensions]),
  });
  const signatureValue = toArrayBuffer(new Uint8Array(sign(hash, encodeDer(tbsCertificate), signing.privateKey)));
  return { der: encodeDer(new Certificate({ tbsCertificate, signatureAlgorithm: signature, signatureValue })), keys, name };
}

export const extension = (extnID: string, critical: boolean, value: unknown): Extension =>
  new Extension({ extnID, critical, extnValue: new OctetString(toArrayBuffer(encodeDer(value))) });

export const rawExtension = (extnID: string, critical: boolean, bytes: Uint8Array): Extension =>
  new Extension({ extnID, critical, extnValue: new OctetString(toArrayBuffer(bytes)) });

export const basicConstraints = (cA: boolean, pathLenConstraint?: number): Extension =>
  extension(extensionOids.basicConstraints, true, new BasicConstraints({ cA, ...(pathLenConstraint === undefined ? {} : { pathLenConstraint }) }));
export const keyUsage = (flags: number, critical = true): Extension => extension(extensionOids.keyUsage, critical, new KeyUsage(flags));
export const purposes = (...oids: string[]): Extension => extension(extensionOids.extendedKeyUsage, false, new ExtendedKeyUsage(oids));
export const names = (...list: ConstructorParameters<typeof GeneralName>[0][]): Extension =>
  extension(extensionOids.subjectAltName, false, new SubjectAlternativeName(list.map((name) => new GeneralName(name))));

export const authorityUsage = keyUsage(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign);

export function forgeRoot(shape: Partial<Shape> = {}): Forged {
  return forge({ name: 'root', issuer: null, extensions: [basicConstraints(true, 1), authorityUsage], notAfter_ms: NOW_MS + 3650 * DAY_MS, ...shape });
}

export function forgeIntermediate(issuer: Forged, shape: Partial<Shape> = {}): Forged {
  return forge({ name: 'intermediate', issuer, extensions: [basicConstraints(true, 0), authorityUsage], notAfter_ms: NOW_MS + 730 * DAY_MS, ...shape });
}

/** The parts of a good leaf's extensions, each to be replaced (or, by null, left out) by a test. */
export interface LeafParts {
  readonly constraints?: Extension | null;
  readonly usage?: Extension | null;
  readonly purposes?: Extension | null;
  readonly names?: Extension | null;
  readonly more?: readonly Extension[];
}

export function leafExtensions(parts: LeafParts = {}): Extension[] {
  const good = {
    constraints: basicConstraints(false),
    usage: keyUsage(KeyUsageFlags.digitalSignature),
    purposes: purposes(keyPurposeOids.clientAuth, keyPurposeOids.serverAuth),
    names: names({ uniformResourceIdentifier: URI }),
    ...parts,
  };
  return [good.constraints, good.usage, good.purposes, good.names, ...(good.more ?? [])].filter((part) => part !== null);
}

export function forgeLeaf(issuer: Forged, parts: LeafParts = {}, shape: Partial<Shape> = {}): Forged {
  return forge({ name: NODE, issuer, extensions: leafExtensions(parts), ...shape });
}
