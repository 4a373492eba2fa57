/**
 * Our narrow certificate profile: what this CA issues and nothing else, on top of RFC 5280. `ca.ts` writes by it, `verify.ts` and
 * `signed-document.ts` judge by it. Each objection is the end of a sentence that begins "certificate refused:".
 */
import { createHash } from 'node:crypto';
import { AsnConvert } from '@peculiar/asn1-schema';
import { Certificate, KeyUsage, KeyUsageFlags } from '@peculiar/asn1-x509';
import type { ChainFacts } from '../native.ts';
import { decodeDer, ECDSA_WITH_SHA256, encodeDer } from './der.ts';
import { p256Objection } from './keys.ts';
import { encodingObjection } from './strict-der.ts';

export const extensionOids = {
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
  subjectAltName: '2.5.29.17',
  subjectKeyIdentifier: '2.5.29.14',
  authorityKeyIdentifier: '2.5.29.35',
} as const;

export const keyPurposeOids = {
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** Root, intermediate, leaf. */
export const PATH_CERTS = 3;

/** What a leaf may be used for, exactly: a host's both ends of a connection, an operator's and a starting node's asking, a call-home certificate's signing alone. */
export const leafPurposes = {
  host: [keyPurposeOids.clientAuth, keyPurposeOids.serverAuth],
  operator: [keyPurposeOids.clientAuth],
  boot: [keyPurposeOids.clientAuth],
  callHome: [keyPurposeOids.clientAuth],
} as const;
export type LeafKind = keyof typeof leafPurposes;

/** Why a leaf, already verified up to a root, is not of our profile; null if it is. */
export function leafObjection(facts: ChainFacts, kind: LeafKind = 'host'): string | null {
  if (facts.version !== 3) return `it is X.509 version ${facts.version}, not 3`;
  if (facts.keyAlgorithm !== EC_PUBLIC_KEY || facts.keyCurve !== CURVE_P256) return 'its key is not of P-256, the only kind accepted';
  if (facts.signatureAlgorithm !== ECDSA_WITH_SHA256) return 'it is not signed with ECDSA and SHA-256';
  if (facts.isCa) return 'it is a CA certificate, shown as a leaf';
  return extensionObjection(facts.extensions) ?? usageObjection(facts, leafPurposes[kind]) ?? nameObjection(facts);
}

/**
 * Why a certificate whose signature by a root is already verified is not an intermediate of our profile; null if it is. Its key usage
 * is judged here, since rustls-webpki leaves that extension unread.
 */
export function intermediateObjection(der: Uint8Array): string | null {
  const key = createHash('sha256').update(der).digest('hex');
  const known = judgedIntermediates.get(key);
  if (known !== undefined) return known;
  const objection = judgeIntermediate(der);
  if (judgedIntermediates.size >= JUDGED_INTERMEDIATES_MAX) judgedIntermediates.clear();
  judgedIntermediates.set(key, objection);
  return objection;
}

const EC_PUBLIC_KEY = '1.2.840.10045.2.1';
const CURVE_P256 = '1.2.840.10045.3.1.7';
const DIGITAL_SIGNATURE = 1;
const knownExtensions: ReadonlySet<string> = new Set(Object.values(extensionOids));

/** A cluster has one intermediate, during its renewal two: the verdict on it is kept, by its SHA-256. */
const judgedIntermediates = new Map<string, string | null>();
const JUDGED_INTERMEDIATES_MAX = 64;

function extensionObjection(extensions: ChainFacts['extensions']): string | null {
  const stranger = extensions.find(({ oid }) => !knownExtensions.has(oid));
  return stranger === undefined ? null : `it has an extension ${stranger.oid}, which is not of the profile`;
}

function usageObjection({ keyUsage, eku, extensions }: ChainFacts, purposes: readonly string[]): string | null {
  if (keyUsage !== DIGITAL_SIGNATURE) return 'its key usage is not exactly digitalSignature';
  if (!extensions.some(({ oid, critical }) => oid === extensionOids.keyUsage && critical)) return 'its key usage is not critical';
  if (eku === null || new Set(eku).size !== purposes.length || !eku.every((oid) => purposes.includes(oid))) {
    return `its extended key usage is not exactly ${purposes.map(purposeName).join(' and ')}`;
  }
  return null;
}

function purposeName(oid: string): string {
  return Object.entries(keyPurposeOids).find(([, known]) => known === oid)?.[0] ?? oid;
}

function nameObjection({ uriNames, dnsNames, otherNames }: ChainFacts): string | null {
  const others = dnsNames.length + otherNames;
  if (uriNames.length === 1 && others === 0) return null;
  return `it has ${uriNames.length} URI names and ${others} of other kinds, exactly one URI expected`;
}

function judgeIntermediate(der: Uint8Array): string | null {
  try {
    const encoding = encodingObjection(der);
    return authorityObjection(decodeDer(der, Certificate)) ?? (encoding && `its issuer is refused: ${encoding}`);
  } catch {
    return 'its issuer is not a certificate in DER';
  }
}

/** Throws where an extension is not what its identifier says. */
function authorityObjection({ signatureAlgorithm, tbsCertificate }: Certificate): string | null {
  const { extensions = [], subjectPublicKeyInfo } = tbsCertificate;
  const keyObjection = p256Objection(encodeDer(subjectPublicKeyInfo));
  if (keyObjection !== null) return `its issuer is refused: ${keyObjection}`;
  if (signatureAlgorithm.algorithm !== ECDSA_WITH_SHA256) return 'its issuer is not signed with ECDSA and SHA-256';
  const extensionProblem = extensionObjection(extensions.map(({ extnID: oid, critical }) => ({ oid, critical })));
  if (extensionProblem !== null) return `its issuer is refused: ${extensionProblem}`;
  const usage = extensions.find(({ extnID }) => extnID === extensionOids.keyUsage);
  const flags = usage === undefined ? 0 : AsnConvert.parse(usage.extnValue.buffer, KeyUsage).toNumber();
  return (flags & KeyUsageFlags.keyCertSign) === 0 ? 'its issuer may not sign certificates: keyCertSign is missing from its key usage' : null;
}
