/**
 * The certificates of a cluster: what a root, an intermediate and a leaf look like, in one place, and how each is signed. Only
 * `Signer.sign` is asked of a key. Storing keys and certificates is `authority.ts`'s; judging a certificate is `verify.ts`'s.
 *
 * No name constraints: they would bind an intermediate to its cluster's URIs, but rustls-webpki refuses every chain that constrains
 * URIs (it does not implement them), and RFC 5280 wants a host name with a dot where we have a cluster's label. `verify.ts` compares
 * the cluster in the leaf instead, and an authority belongs to one cluster only.
 */
import { createHash } from 'node:crypto';
import { AlgorithmIdentifier, BasicConstraints, Certificate, ExtendedKeyUsage, Extension, KeyUsage, KeyUsageFlags } from '@peculiar/asn1-x509';
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
import { bitString, explicit, implicit, integer, objectIdentifier, octetString, sequence, time } from './der-write.ts';
import { authorityName, commonNameDer } from './names.ts';
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
  const name = encodeDer(authorityName(checkLabel('cluster', cluster), `root ${shortKeyId(signer.publicKey)}`));
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
    subject: encodeDer(authorityName(checkLabel('cluster', cluster), `intermediate ${shortKeyId(publicKey)}`)),
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
    subject: commonNameDer(identity.node),
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
  return issue({ ...issuing, subject: commonNameDer(`operator ${identity.operator}`), publicKey, issuer: issuerOf(issuer, signer), days, extensions });
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
  return issue({ ...issuing, subject: commonNameDer(`call-home ${name.grant}`), publicKey, issuer: issuerOf(issuer, signer), days, extensions });
}

/** The boot identity of a node (verify-boot.ts): a name of a third form, and client alone. @throws argument_invalid */
export function issueBootLeaf({ identity, publicKey, issuer, signer, days = BOOT_DAYS, ...issuing }: LeafRequest): Promise<Uint8Array> {
  checkLabel('cluster', identity.cluster);
  checkLabel('site', identity.site);
  assert(isNodeId(identity.node) && identity.node !== TOWER_ID, 'a boot leaf is issued to a node');
  const extensions = leafExtensions(bootUri(identity), 'boot');
  return issue({ ...issuing, subject: commonNameDer(`boot ${identity.node}`), publicKey, issuer: issuerOf(issuer, signer), days, extensions });
}

interface Issuer {
  /** DER. */
  readonly name: Uint8Array;
  readonly signer: Signer;
  /** Subjects do not outlive their issuer; absent for a root. */
  readonly notAfter_ms?: number;
}

interface Draft extends Issuing {
  /** DER of a name. */
  readonly subject: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly issuer: Issuer;
  readonly days: number;
  /** DER, each; those that name the two keys come to them. */
  readonly extensions: readonly Uint8Array[];
}

/** RFC 5280, section 4.1. */
async function issue({ subject, publicKey, issuer, days, extensions, now_ms, random }: Draft): Promise<Uint8Array> {
  const objection = p256Objection(publicKey);
  assert(objection === null, `certificate: ${objection}`);
  const notAfter_ms = Math.min(now_ms + days * DAY_MS, issuer.notAfter_ms ?? Number.POSITIVE_INFINITY);
  assert(notAfter_ms > now_ms, 'the issuer is still valid');
  const tbsCertificate = sequence(
    VERSION_3,
    integer(serialNumber(random)),
    SIGNATURE_ALGORITHM,
    issuer.name,
    sequence(time(now_ms - BACKDATE_MS), time(notAfter_ms)),
    subject,
    publicKey,
    explicit(3, sequence(...extensions, ...keyIdentifiers(publicKey, issuer.signer.publicKey))),
  );
  return sequence(tbsCertificate, SIGNATURE_ALGORITHM, bitString(await issuer.signer.sign(tbsCertificate)));
}

const VERSION_3 = explicit(0, integer(Uint8Array.of(2)));
const SIGNATURE_ALGORITHM = encodeDer(new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 }));

function issuerOf(certificate: Uint8Array, signer: Signer): Issuer {
  let read = readIssuers.get(certificate);
  if (read === undefined) {
    const { subject, validity } = decodeDer(certificate, Certificate).tbsCertificate;
    read = { name: encodeDer(subject), notAfter_ms: validity.notAfter.getTime().getTime() };
    readIssuers.set(certificate, read);
  }
  return { ...read, signer };
}

/** An authority issues with one certificate for two years: it is read once. */
const readIssuers = new WeakMap<Uint8Array, Required<Omit<Issuer, 'signer'>>>();

function authorityExtensions(pathLenConstraint: number, usage: number): Uint8Array[] {
  return [
    constant(extensionOids.basicConstraints, true, new BasicConstraints({ cA: true, pathLenConstraint })),
    constant(extensionOids.keyUsage, true, new KeyUsage(usage)),
  ];
}

/** What all leaves of a kind have in common. */
const leafConstants = new Map(
  Object.entries(leafPurposes).map(([kind, purposes]) => [
    kind,
    [
      constant(extensionOids.basicConstraints, true, new BasicConstraints({ cA: false })),
      constant(extensionOids.keyUsage, true, new KeyUsage(KeyUsageFlags.digitalSignature)),
      constant(extensionOids.extendedKeyUsage, false, new ExtendedKeyUsage([...purposes])),
    ],
  ]),
);

function leafExtensions(uri: string, kind: LeafKind): Uint8Array[] {
  const name = implicit(GENERAL_NAME_URI, new TextEncoder().encode(uri));
  return [...(leafConstants.get(kind) ?? []), extension(OID.subjectAltName, sequence(name))];
}

/** RFC 5280, section 4.2.1.6. */
const GENERAL_NAME_URI = 6;
const OID = {
  subjectAltName: objectIdentifier(extensionOids.subjectAltName),
  subjectKeyIdentifier: objectIdentifier(extensionOids.subjectKeyIdentifier),
  authorityKeyIdentifier: objectIdentifier(extensionOids.authorityKeyIdentifier),
} as const;

function keyIdentifiers(subject: Uint8Array, issuer: Uint8Array): Uint8Array[] {
  return [extension(OID.subjectKeyIdentifier, octetString(keyId(subject))), extension(OID.authorityKeyIdentifier, sequence(implicit(0, keyId(issuer))))];
}

function constant(extnID: string, critical: boolean, value: unknown): Uint8Array {
  return encodeDer(new Extension({ extnID, critical, extnValue: new OctetString(toArrayBuffer(encodeDer(value))) }));
}

/** One that is not critical. */
function extension(oid: Uint8Array, value: Uint8Array): Uint8Array {
  return sequence(oid, octetString(value));
}

/** 126 random bits behind 01: positive, never zero, 16 octets without padding (RFC 5280 wants at most 20). */
function serialNumber(random: Pick<Random, 'bytes'>): Uint8Array {
  const serial = new Uint8Array(random.bytes(16));
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40;
  return serial;
}

/** The leftmost 160 bits of the SHA-256 of the key (RFC 7093, method 1, over the whole SubjectPublicKeyInfo: method 4). */
function keyId(publicKey: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(publicKey).digest().subarray(0, 20));
}

/** Tells apart two authorities of one cluster by their names, as path building wants it. */
function shortKeyId(publicKey: Uint8Array): string {
  return toHex(keyId(publicKey).subarray(0, 4));
}
