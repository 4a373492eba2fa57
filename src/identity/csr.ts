/**
 * Certificate signing requests (PKCS#10, RFC 2986): how a node shows its public key and that it has the private one. The names in a
 * request mean nothing here: the tower assigns them.
 */
import { createPublicKey, sign } from 'node:crypto';
import { Attributes, CertificationRequest, CertificationRequestInfo } from '@peculiar/asn1-csr';
import { AlgorithmIdentifier, Name, SubjectPublicKeyInfo } from '@peculiar/asn1-x509';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { verifyAside } from './aside.ts';
import { decodeDer, ECDSA_WITH_SHA256, encodeDer, toArrayBuffer } from './der.ts';
import { importPrivateKey, p256Objection } from './keys.ts';
import { commonName } from './names.ts';
import { strictParts } from './strict-der.ts';

export interface CertificateRequest {
  /** SubjectPublicKeyInfo DER, P-256; the requester has proved possession of its private key. */
  readonly publicKey: Uint8Array;
}

/** A request for the key (PKCS#8 DER). `hint` is a name for whoever looks at the bytes; the tower ignores it. */
export function createCsr(privateKey: Uint8Array, hint = ''): Uint8Array {
  const { key, publicKey } = importPrivateKey(privateKey);
  const info = new CertificationRequestInfo({
    subject: hint === '' ? new Name() : commonName(hint),
    subjectPKInfo: decodeDer(publicKey, SubjectPublicKeyInfo),
    attributes: new Attributes(),
  });
  const signature = sign('sha256', encodeDer(info), { key, dsaEncoding: 'der' });
  return encodeDer(
    new CertificationRequest({
      certificationRequestInfo: info,
      signatureAlgorithm: new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 }),
      signature: toArrayBuffer(signature),
    }),
  );
}

/** The names and attributes in it are not looked at, but are DER. @throws csr_invalid */
export async function parseCsr(der: Uint8Array): Promise<CertificateRequest> {
  if (der.length > limits.csr_bytes_max) throw refused(`${der.length} bytes long, at most ${limits.csr_bytes_max} allowed`);
  const [info, algorithm, signature] = partsOf(der, 3);
  const [version, , publicKey] = partsOf(info, 4);
  if (version === undefined || publicKey === undefined || info === undefined || !equalBytes(version, VERSION_1)) throw notDer();
  const objection = p256Objection(publicKey);
  if (objection !== null) throw refused(objection);
  if (algorithm === undefined || !equalBytes(algorithm, ECDSA_WITH_SHA256_DER)) throw refused('its signature is not ECDSA with SHA-256');
  if (!(await hasSigned(publicKey, info, signature ?? NOTHING)))
    throw refused('its signature does not match its key: the sender has not shown that it holds the private key');
  return { publicKey: publicKey.slice() };
}

/** INTEGER 0. */
const VERSION_1 = Uint8Array.of(2, 1, 0);
const ECDSA_WITH_SHA256_DER = encodeDer(new AlgorithmIdentifier({ algorithm: ECDSA_WITH_SHA256 }));
const NOTHING = new Uint8Array();
/** Tag, a length of one octet, and that no bits are unused: a signature of P-256 is never longer. */
const BIT_STRING_HEAD_BYTES = 3;

function partsOf(der: Uint8Array | undefined, count: number): readonly Uint8Array[] {
  const parts = der === undefined ? null : strictParts(der);
  if (parts?.length !== count) throw notDer();
  return parts;
}

async function hasSigned(publicKey: Uint8Array, info: Uint8Array, signature: Uint8Array): Promise<boolean> {
  if (signature[0] !== BIT_STRING || signature[2] !== 0) return false;
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  return await verifyAside(info, key, signature.subarray(BIT_STRING_HEAD_BYTES));
}

const BIT_STRING = 0x03;

function notDer(): SelvedgeError {
  return refused('not a PKCS#10 request in DER');
}

function refused(why: string): SelvedgeError {
  return new SelvedgeError('csr_invalid', { why });
}
