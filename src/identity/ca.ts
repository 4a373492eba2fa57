/**
 * The certificates of a cluster: what a root, an intermediate and a leaf look like, in one place, and how each is signed. Only
 * `Signer.sign` is asked of a key. Storing keys and certificates is `authority.ts`'s; judging a certificate is `verify.ts`'s.
 *
 * No name constraints: they would bind an intermediate to its cluster's URIs, but rustls-webpki refuses every chain that constrains
 * URIs (it does not implement them), and RFC 5280 wants a host name with a dot where we have a cluster's label. `verify.ts` compares
 * the cluster in the leaf instead, and an authority belongs to one cluster only.
 */
import { createHash } from 'node:crypto';
import {
  AlgorithmIdentifier,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  ExtendedKeyUsage,
  Extension,
  Extensions,
  GeneralName,
  KeyIdentifier,
  KeyUsage,
  KeyUsageFlags,
  type Name,
  SubjectAlternativeName,
  SubjectKeyIdentifier,
  SubjectPublicKeyInfo,
  TBSCertificate,
  Validity,
  Version,
} from '@peculiar/asn1-x509';
import { OctetString } from '@peculiar/asn1-schema';
import { assert } from '../base/errors.ts';
import {
  bootUri,
  type CallHomeName,
  callHomeUri,
  checkLabel,
  isNodeId,
  isOperatorId,
  type NodeIdentity,
  type OperatorIdentity,
  operatorUri,
  parseCallHomeUri,
  spiffeUri,
  toHex,
  TOWER_ID,
  TOWER_SITE,
} from '../base/ids.ts';
import type { Random } from '../base/seam.ts';
import { decodeDer, ECDSA_WITH_SHA256, encodeDer, toArrayBuffer } from './der.ts';
import { p256Objection } from './keys.ts';
import { authorityName, commonName } from './names.ts';
import { extensionOids, type LeafKind, leafPurposes } from './profile.ts';
import type { Signer } from './signer.ts';

const DAY_MS = 86_400_000;

/** Spec 1.1. */
export const ROOT_DAYS = 3_652;
export const INTERMEDIATE_DAYS = 730;
export const LEAF_DAYS = 30;
/** Spec 2.5. */
export const OPERATOR_DAYS = 365;
/** A host may be switched off for most of it and still come back by itself; revoking ends it at once. */
export const BOOT_DAYS = 365;
/** A clock that is a little behind still finds a fresh certificate valid. */
export const BACKDATE_MS = 5 * 60_000;

/** What every issuing needs: the time, and randomness for the serial number. */
export interface Issuing {
  readonly now_ms: number;
  readonly random: Pick<Random, 'bytes'>;
}

export interface RootRequest extends Issuing {
  readonly cluster: string;
  readonly signer: Signer;
}

/** A self-signed root that may sign one tier of intermediates. */
export function issueRoot({ cluster, signer, ...issuing }: RootRequest): Promise<Uint8Array> {
  const name = authorityName(checkLabel('cluster', cluster), `root ${shortKeyId(signer.publicKey)}`);
  return issue({
    ...issuing,
    subject: name,
    publicKey: signer.publicKey,
    issuer: { name, signer },
    days: ROOT_DAYS,
    extensions: authorityExtensions(1, KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign),
  });
}

export interface IntermediateRequest extends Issuing {
  readonly cluster: string;
  readonly publicKey: Uint8Array;
  /** The root's certificate and key. */
  readonly issuer: Uint8Array;
  readonly signer: Signer;
}

/** An intermediate that signs leaves, and documents such as snapshots: hence `digitalSignature`. */
export function issueIntermediate({ cluster, publicKey, issuer, signer, ...issuing }: IntermediateRequest): Promise<Uint8Array> {
  return issue({
    ...issuing,
    subject: authorityName(checkLabel('cluster', cluster), `intermediate ${shortKeyId(publicKey)}`),
    publicKey,
    issuer: issuerOf(issuer, signer),
    days: INTERMEDIATE_DAYS,
    extensions: authorityExtensions(0, KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign | KeyUsageFlags.digitalSignature),
  });
}

export interface LeafRequest extends Issuing {
  readonly identity: NodeIdentity;
  /** SubjectPublicKeyInfo of the request. */
  readonly publicKey: Uint8Array;
  /** The intermediate's certificate and key. */
  readonly issuer: Uint8Array;
  readonly signer: Signer;
  /** Days of life; `LEAF_DAYS` unless told. Never beyond the issuer's own end. */
  readonly days?: number;
}

/** A node's or the tower's certificate: one URI SAN, client and server. @throws argument_invalid */
export function issueLeaf({ identity, publicKey, issuer, signer, days = LEAF_DAYS, ...issuing }: LeafRequest): Promise<Uint8Array> {
  checkLabel('cluster', identity.cluster);
  checkLabel('site', identity.site);
  assert(isNodeId(identity.node), 'a leaf is issued to a node id');
  assert((identity.node === TOWER_ID) === (identity.site === TOWER_SITE), 'the tower alone is at its site');
  return issue({
    ...issuing,
    subject: commonName(identity.node),
    publicKey,
    issuer: issuerOf(issuer, signer),
    days,
    extensions: leafExtensions(spiffeUri(identity), 'host'),
  });
}

export interface OperatorLeafRequest extends Omit<LeafRequest, 'identity'> {
  readonly identity: OperatorIdentity;
}

/** An operator's certificate: one URI SAN of another form than a host's, and client alone. @throws argument_invalid */
export function issueOperatorLeaf({ identity, publicKey, issuer, signer, days = OPERATOR_DAYS, ...issuing }: OperatorLeafRequest): Promise<Uint8Array> {
  checkLabel('cluster', identity.cluster);
  assert(isOperatorId(identity.operator), 'an operator leaf is issued to an operator id');
  const extensions = leafExtensions(operatorUri(identity), 'operator');
  return issue({ ...issuing, subject: commonName(`operator ${identity.operator}`), publicKey, issuer: issuerOf(issuer, signer), days, extensions });
}

export interface CallHomeLeafRequest extends Omit<LeafRequest, 'identity'> {
  readonly name: CallHomeName;
  readonly days: number;
}

/** A certificate for calling home: one URI SAN of a form of its own, and client alone. @throws argument_invalid */
export function issueCallHomeLeaf({ name, publicKey, issuer, signer, days, ...issuing }: CallHomeLeafRequest): Promise<Uint8Array> {
  checkLabel('cluster', name.cluster);
  const uri = callHomeUri(name);
  assert(parseCallHomeUri(uri) !== null, 'a call-home certificate names its grant');
  const extensions = leafExtensions(uri, 'callHome');
  return issue({ ...issuing, subject: commonName(`call-home ${name.grant}`), publicKey, issuer: issuerOf(issuer, signer), days, extensions });
}

/** The boot identity of a node (verify-boot.ts): a name of a third form, and client alone. @throws argument_invalid */
export function issueBootLeaf({ identity, publicKey, issuer, signer, days = BOOT_DAYS, ...issuing }: LeafRequest): Promise<Uint8Array> {
  checkLabel('cluster', identity.cluster);
  checkLabel('site', identity.site);
  assert(isNodeId(identity.node) && identity.node !== TOWER_ID, 'a boot leaf is issued to a node');
  const extensions = leafExtensions(bootUri(identity), 'boot');
  return issue({ ...issuing, subject: commonName(`boot ${identity.node}`), publicKey, issuer: issuerOf(issuer, signer), days, extensions });
}

interface Issuer {
  readonly name: Name;
  readonly signer: Signer;
  /** Subjects do not outlive their issuer; absent for a root. */
  readonly notAfter_ms?: number;
}

interface Draft extends Issuing {
  readonly subject: Name;
  readonly publicKey: Uint8Array;
  readonly issuer: Issuer;
  readonly days: number;
  readonly extensions: readonly Extension[];
}

async function issue({ subject, publicKey, issuer, days, extensions, now_ms, random }: Draft): Promise<Uint8Array> {
  const objection = p256Objection(publicKey);
  assert(objection === null, `certificate: ${objection}`);
  const notAfter_ms = Math.min(now_ms + days * DAY_MS, issuer.notAfter_ms ?? Number.POSITIVE_INFINITY);
  assert(notAfter_ms > now_ms, 'the issuer is still valid');
  const signature = new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 });
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: serialNumber(random),
    signature,
    issuer: issuer.name,
    validity: new Validity({ notBefore: wholeSecond(now_ms - BACKDATE_MS), notAfter: wholeSecond(notAfter_ms) }),
    subject,
    subjectPublicKeyInfo: decodeDer(publicKey, SubjectPublicKeyInfo),
    extensions: new Extensions([...extensions, ...keyIdentifiers(publicKey, issuer.signer.publicKey)]),
  });
  const signatureValue = toArrayBuffer(await issuer.signer.sign(encodeDer(tbsCertificate)));
  return encodeDer(new Certificate({ tbsCertificate, signatureAlgorithm: signature, signatureValue }));
}

function issuerOf(certificate: Uint8Array, signer: Signer): Issuer {
  let read = readIssuers.get(certificate);
  if (read === undefined) {
    const { subject, validity } = decodeDer(certificate, Certificate).tbsCertificate;
    read = { name: subject, notAfter_ms: validity.notAfter.getTime().getTime() };
    readIssuers.set(certificate, read);
  }
  return { ...read, signer };
}

/** An authority issues with one certificate for two years: it is read once. */
const readIssuers = new WeakMap<Uint8Array, Required<Omit<Issuer, 'signer'>>>();

function authorityExtensions(pathLenConstraint: number, usage: number): Extension[] {
  return [
    extension(extensionOids.basicConstraints, true, new BasicConstraints({ cA: true, pathLenConstraint })),
    extension(extensionOids.keyUsage, true, new KeyUsage(usage)),
  ];
}

function leafExtensions(uri: string, kind: LeafKind): Extension[] {
  return [
    extension(extensionOids.basicConstraints, true, new BasicConstraints({ cA: false })),
    extension(extensionOids.keyUsage, true, new KeyUsage(KeyUsageFlags.digitalSignature)),
    extension(extensionOids.extendedKeyUsage, false, new ExtendedKeyUsage([...leafPurposes[kind]])),
    extension(extensionOids.subjectAltName, false, new SubjectAlternativeName([new GeneralName({ uniformResourceIdentifier: uri })])),
  ];
}

function keyIdentifiers(subject: Uint8Array, issuer: Uint8Array): Extension[] {
  const keyIdentifier = new KeyIdentifier(toArrayBuffer(keyId(issuer)));
  return [
    extension(extensionOids.subjectKeyIdentifier, false, new SubjectKeyIdentifier(toArrayBuffer(keyId(subject)))),
    extension(extensionOids.authorityKeyIdentifier, false, new AuthorityKeyIdentifier({ keyIdentifier })),
  ];
}

function extension(extnID: string, critical: boolean, value: unknown): Extension {
  return new Extension({ extnID, critical, extnValue: new OctetString(toArrayBuffer(encodeDer(value))) });
}

/** 126 random bits behind 01: positive, never zero, 16 octets without padding (RFC 5280 wants at most 20). */
function serialNumber(random: Pick<Random, 'bytes'>): ArrayBuffer {
  const serial = new Uint8Array(random.bytes(16));
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return toArrayBuffer(serial);
}

/** The leftmost 160 bits of the SHA-256 of the key (RFC 7093, method 1, over the whole SubjectPublicKeyInfo: method 4). */
function keyId(publicKey: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(publicKey).digest().subarray(0, 20));
}

/** Tells apart two authorities of one cluster by their names, as path building wants it. */
function shortKeyId(publicKey: Uint8Array): string {
  return toHex(keyId(publicKey).subarray(0, 4));
}

function wholeSecond(ms: number): Date {
  return new Date(Math.floor(ms / 1_000) * 1_000);
}
