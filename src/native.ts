/**
 * The whole boundary to native/session: the only file that loads the addon. What it returns is typed here and nowhere else.
 *
 * Who owns what: arguments are read during the call and never kept; every array that comes back is the caller's. The addon's
 * state belongs to the thread (Node environment) that made it and is torn down with it.
 */
import { createRequire } from 'node:module';
import { SelvedgeError } from './base/errors.ts';
import { limits } from './base/limits.ts';

/** What the addon exports. Its functions throw an `Error` whose message is a sentence; this file turns it into a code. */
interface Addon {
  verifyChain(chain: Uint8Array, roots: Uint8Array, nowMs: number, asClient: boolean): NativeFacts;
}

interface NativeFacts {
  readonly pathCerts: number;
  readonly version: number;
  readonly serial: string;
  readonly subject: string;
  readonly issuer: string;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly keyAlgorithm: string;
  readonly keyCurve?: string;
  readonly signatureAlgorithm: string;
  readonly spkiHash: Uint8Array;
  readonly fingerprint: Uint8Array;
  readonly isCa: boolean;
  readonly keyUsage?: number;
  readonly eku?: string[];
  readonly uriNames: string[];
  readonly dnsNames: string[];
  readonly otherNames: number;
  readonly extensions: { oid: string; critical: boolean }[];
}

const places = ['../native/session/build/selvedge-session.node', '@selvedge/session-linux-x64'];

let loaded: Addon | null = null;

/** The built addon, else the prebuilt package. @throws native_missing */
function addon(): Addon {
  if (loaded) return loaded;
  const require = createRequire(import.meta.url);
  const whys: string[] = [];
  for (const place of places) {
    try {
      loaded = require(place) as Addon;
      return loaded;
    } catch (error) {
      whys.push(error instanceof Error ? (error.message.split('\n')[0] ?? '') : String(error));
    }
  }
  throw new SelvedgeError('native_missing', { what: 'native/session', why: whys.join('; ') });
}

/** A list of byte strings as one: [u32 length][octets]…. One argument means nothing of the caller runs while the addon reads. */
function packBlocks(blocks: readonly Uint8Array[]): Uint8Array {
  const packed = new Uint8Array(blocks.reduce((sum, block) => sum + 4 + block.length, 0));
  const view = new DataView(packed.buffer);
  let at = 0;
  for (const block of blocks) {
    view.setUint32(at, block.length);
    packed.set(block, at + 4);
    at += 4 + block.length;
  }
  return packed;
}

// ---------------------------------------------------------------- certificate chains

export interface ChainInput {
  /** DER, leaf first; the root may be included. */
  readonly chain: readonly Uint8Array[];
  /** DER certificates that are trusted. */
  readonly roots: readonly Uint8Array[];
  /** Since the Unix epoch. */
  readonly now_ms: number;
  /** The role that the leaf's owner plays: its extended key usage must allow it. */
  readonly usage: 'client' | 'server';
}

/** What the leaf says, for the narrow profile on top (identity/verify.ts), and how long the verified path was. Object identifiers are dotted. */
export interface ChainFacts {
  /** Certificates in the verified path, leaf and root included. */
  readonly pathCerts: number;
  /** X.509 version, 3 for anything of today. */
  readonly version: number;
  /** Hexadecimal, as encoded (a leading 00 stays). */
  readonly serial: string;
  readonly subject: string;
  readonly issuer: string;
  readonly notBefore_ms: number;
  readonly notAfter_ms: number;
  readonly keyAlgorithm: string;
  /** Null if the key names no curve. */
  readonly keyCurve: string | null;
  readonly signatureAlgorithm: string;
  /** SHA-256 of the SubjectPublicKeyInfo. */
  readonly spkiHash: Uint8Array;
  /** SHA-256 of the certificate. */
  readonly fingerprint: Uint8Array;
  readonly isCa: boolean;
  /** Bit n is bit n of keyUsage (1 = digitalSignature); null without the extension. */
  readonly keyUsage: number | null;
  /** Null without the extension. */
  readonly eku: readonly string[] | null;
  readonly uriNames: readonly string[];
  readonly dnsNames: readonly string[];
  /** Subject alternative names that are neither URI nor DNS. */
  readonly otherNames: number;
  readonly extensions: readonly { readonly oid: string; readonly critical: boolean }[];
}

/** Object identifiers that the addon reports and the profile compares with. */
export const oids = {
  ecPublicKey: '1.2.840.10045.2.1',
  curveP256: '1.2.840.10045.3.1.7',
  ecdsaSha256: '1.2.840.10045.4.3.2',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  keyUsage: '2.5.29.15',
  extendedKeyUsage: '2.5.29.37',
} as const;

const ROOTS_MAX = 16;

/**
 * Judges a chain by RFC 5280 (rustls-webpki): a path of ECDSA P-256/SHA-256 signatures to one of the roots, valid now and for this usage.
 * Synchronous, 0.1-0.2 ms. @throws certificate_invalid, whose fact `why` is a sentence; native_missing
 */
export function verifyChain(input: ChainInput): ChainFacts {
  checkCertificates(input.chain, limits.certificate_chain_certs_max, 'certificates shown');
  checkCertificates(input.roots, ROOTS_MAX, 'roots');
  const native = addon();
  try {
    const { notBeforeMs, notAfterMs, keyCurve, keyUsage, eku, ...facts } = native.verifyChain(packBlocks(input.chain), packBlocks(input.roots), input.now_ms, input.usage === 'client');
    return { ...facts, notBefore_ms: notBeforeMs, notAfter_ms: notAfterMs, keyCurve: keyCurve ?? null, keyUsage: keyUsage ?? null, eku: eku ?? null };
  } catch (error) {
    throw certificateInvalid(error instanceof Error ? error.message : String(error));
  }
}

function checkCertificates(certificates: readonly Uint8Array[], max: number, what: string): void {
  if (certificates.length === 0 || certificates.length > max) throw certificateInvalid(`${certificates.length} ${what}, 1 to ${max} allowed`);
  for (const der of certificates) {
    if (!(der instanceof Uint8Array)) throw certificateInvalid('a certificate is not a byte array');
    if (der.length > limits.certificate_bytes_max) throw certificateInvalid(`a certificate of ${der.length} octets, at most ${limits.certificate_bytes_max} allowed`);
  }
}

function certificateInvalid(why: string): SelvedgeError {
  return new SelvedgeError('certificate_invalid', { peer: 'the peer', why });
}
