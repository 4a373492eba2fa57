/**
 * Revocation lists (RFC 5280, section 5): issued by the cluster's authority for certificates that have no record of their own to be taken
 * away, such as call-home certificates. Nodes' leaves need none: their recorded fingerprint is what counts (spec 1.5).
 *
 * `issueCrl` makes one, `openCrl` judges one that comes from a file or a wire; both ends of its life are in it.
 */
import { verify, X509Certificate } from 'node:crypto';
import { OctetString } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier,
  AuthorityKeyIdentifier,
  Certificate,
  CertificateList,
  CRLNumber,
  Extension,
  id_ce_authorityKeyIdentifier,
  id_ce_cRLNumber,
  RevokedCertificate,
  SubjectKeyIdentifier,
  TBSCertList,
  Time,
  Version,
} from '@peculiar/asn1-x509';
import { assert, SelvedgeError } from '../base/errors.ts';
import { equalBytes, fromHex, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { decodeDer, ECDSA_WITH_SHA256, encodeDer, toArrayBuffer } from './der.ts';
import { extensionOids } from './profile.ts';
import type { Signer } from './signer.ts';

export interface RevokedSerial {
  /** Hexadecimal, as `X509Certificate.serialNumber` prints it, in either case. */
  readonly serial: string;
  readonly at_ms: number;
}

export interface CrlRequest {
  /** The certificate (DER) and key of the authority that issued what is revoked. */
  readonly issuer: Uint8Array;
  readonly signer: Signer;
  readonly revoked: readonly RevokedSerial[];
  /** Grows with each list of this issuer. */
  readonly number: number;
  readonly now_ms: number;
  /** For how long readers may rely on it. */
  readonly life_ms: number;
}

/** @throws limit_reached, signer_unavailable */
export async function issueCrl({ issuer, signer, revoked, number, now_ms, life_ms }: CrlRequest): Promise<Uint8Array> {
  if (revoked.length > limits.crl_entries_max) throw new SelvedgeError('limit_reached', { limit: 'crl_entries_max', max: limits.crl_entries_max });
  assert(Number.isSafeInteger(number) && number >= 0, 'the number of a revocation list is a whole number from 0');
  assert(life_ms > 0, 'a revocation list has a life');
  const { subject, extensions = [] } = decodeDer(issuer, Certificate).tbsCertificate;
  const subjectKey = extensions.find(({ extnID }) => extnID === extensionOids.subjectKeyIdentifier);
  assert(subjectKey !== undefined, 'an authority has a subject key identifier');
  const keyIdentifier = decodeDer(new Uint8Array(subjectKey.extnValue.buffer), SubjectKeyIdentifier);
  const signature = new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 });
  const tbsCertList = new TBSCertList({
    version: Version.v2,
    signature,
    issuer: subject,
    thisUpdate: new Time(wholeSecond(now_ms)),
    nextUpdate: new Time(wholeSecond(now_ms + life_ms)),
    // An empty list is left out (RFC 5280, section 5.1.2.6).
    ...(revoked.length > 0 && { revokedCertificates: revoked.map(entry) }),
    crlExtensions: [extension(id_ce_authorityKeyIdentifier, new AuthorityKeyIdentifier({ keyIdentifier })), extension(id_ce_cRLNumber, new CRLNumber(number))],
  });
  const signed = toArrayBuffer(await signer.sign(encodeDer(tbsCertList)));
  return encodeDer(new CertificateList({ tbsCertList, signatureAlgorithm: signature, signature: signed }));
}

export interface Crl {
  readonly number: number;
  readonly thisUpdate_ms: number;
  readonly nextUpdate_ms: number;
  readonly revokedCount: number;
  isRevoked(serial: string): boolean;
}

/** The list, once it is found whole, of this issuer, and current. @throws document_invalid */
export function openCrl(der: Uint8Array, { issuer, now_ms }: { readonly issuer: Uint8Array; readonly now_ms: number }): Crl {
  if (der.length > limits.crl_bytes_max) throw refused(`${der.length} octets long, at most ${limits.crl_bytes_max} allowed`);
  const { tbsCertList, signatureAlgorithm, signature } = decode(der);
  const certificate = new X509Certificate(issuer);
  if (signatureAlgorithm.algorithm !== ECDSA_WITH_SHA256 || tbsCertList.signature.algorithm !== ECDSA_WITH_SHA256)
    throw refused('it is not signed with ECDSA and SHA-256');
  if (!equalBytes(encodeDer(tbsCertList.issuer), encodeDer(decodeDer(issuer, Certificate).tbsCertificate.subject))) throw refused('it is of another issuer');
  if (!verify('sha256', encodeDer(tbsCertList), { key: certificate.publicKey, dsaEncoding: 'der' }, new Uint8Array(signature)))
    throw refused('its signature does not match its issuer');
  return read(tbsCertList, now_ms);
}

function decode(der: Uint8Array): CertificateList {
  try {
    return decodeDer(der, CertificateList);
  } catch (error) {
    throw refused('not a revocation list in DER', error);
  }
}

const knownExtensions: ReadonlySet<string> = new Set([id_ce_authorityKeyIdentifier, id_ce_cRLNumber]);

function read({ version, thisUpdate, nextUpdate, revokedCertificates = [], crlExtensions = [] }: TBSCertList, now_ms: number): Crl {
  const stranger = crlExtensions.find(({ extnID }) => !knownExtensions.has(extnID));
  if (version !== Version.v2 || stranger !== undefined) throw refused('it is not of the profile that this authority issues');
  if (revokedCertificates.length > limits.crl_entries_max) throw refused(`it has more than ${limits.crl_entries_max} entries`);
  const thisUpdate_ms = thisUpdate.getTime().getTime();
  const nextUpdate_ms = nextUpdate?.getTime().getTime() ?? Number.NaN;
  // A clock that is a little behind still reads a fresh list.
  if (!(thisUpdate_ms <= now_ms + limits.clock_skew_ms_max)) throw refused('it begins in the future: one of the two clocks is wrong');
  if (!(now_ms <= nextUpdate_ms)) throw refused('it is out of date');
  const serials = new Set(revokedCertificates.map(({ userCertificate }) => canonical(toHex(new Uint8Array(userCertificate)))));
  return {
    number: numberOf(crlExtensions),
    thisUpdate_ms,
    nextUpdate_ms,
    revokedCount: serials.size,
    isRevoked: (serial) => serials.has(canonical(serial)),
  };
}

function numberOf(extensions: readonly Extension[]): number {
  const found = extensions.find(({ extnID }) => extnID === id_ce_cRLNumber);
  try {
    const value = found === undefined ? Number.NaN : Number(decodeDer(new Uint8Array(found.extnValue.buffer), CRLNumber).value);
    if (Number.isSafeInteger(value) && value >= 0) return value;
  } catch {
    // Told below, as for one that has no number.
  }
  throw refused('it has no number');
}

function entry({ serial, at_ms }: RevokedSerial): RevokedCertificate {
  const bytes = fromHex(serial.length % 2 === 0 ? serial.toLowerCase() : `0${serial.toLowerCase()}`);
  assert(bytes !== null && bytes.length > 0, 'a serial number is hexadecimal');
  // An INTEGER: positive, whatever its first bit is.
  const positive = (bytes[0] ?? 0) & 0x80 ? Uint8Array.of(0, ...bytes) : bytes;
  return new RevokedCertificate({ userCertificate: toArrayBuffer(positive), revocationDate: new Time(wholeSecond(at_ms)) });
}

function canonical(serial: string): string {
  return serial.toLowerCase().replace(/^0+/, '');
}

function extension(extnID: string, value: unknown): Extension {
  return new Extension({ extnID, critical: false, extnValue: new OctetString(toArrayBuffer(encodeDer(value))) });
}

function wholeSecond(ms: number): Date {
  return new Date(Math.floor(ms / 1_000) * 1_000);
}

function refused(why: string, cause?: unknown): SelvedgeError {
  return new SelvedgeError('document_invalid', { what: 'revocation list', why }, { cause });
}
