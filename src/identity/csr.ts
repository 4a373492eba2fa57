/**
 * Certificate signing requests (PKCS#10, RFC 2986): how a node shows its public key and that it has the private one. The names in a
 * request mean nothing here: the tower assigns them.
 */
import { createPublicKey, sign, verify } from 'node:crypto';
import { Attributes, CertificationRequest, CertificationRequestInfo } from '@peculiar/asn1-csr';
import { AlgorithmIdentifier, Name, SubjectPublicKeyInfo } from '@peculiar/asn1-x509';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { decodeDer, ECDSA_WITH_SHA256, encodeDer, toArrayBuffer } from './der.ts';
import { importPrivateKey, p256Objection } from './keys.ts';
import { commonName } from './names.ts';

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

/** @throws csr_invalid */
export function parseCsr(der: Uint8Array): CertificateRequest {
  if (der.length > limits.csr_bytes_max) throw refused(`${der.length} bytes long, at most ${limits.csr_bytes_max} allowed`);
  const request = decode(der);
  const publicKey = encodeDer(request.certificationRequestInfo.subjectPKInfo);
  const objection = p256Objection(publicKey);
  if (objection !== null) throw refused(objection);
  if (request.signatureAlgorithm.algorithm !== ECDSA_WITH_SHA256) throw refused('its signature is not ECDSA with SHA-256');
  if (!hasValidSignature(request, publicKey)) throw refused('its signature does not match its key: the sender has not shown that it holds the private key');
  return { publicKey };
}

function decode(der: Uint8Array): CertificationRequest {
  try {
    return decodeDer(der, CertificationRequest);
  } catch (error) {
    throw refused('not a PKCS#10 request in DER', error);
  }
}

function hasValidSignature(request: CertificationRequest, publicKey: Uint8Array): boolean {
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  return verify('sha256', encodeDer(request.certificationRequestInfo), { key, dsaEncoding: 'der' }, new Uint8Array(request.signature));
}

function refused(why: string, cause?: unknown): SelvedgeError {
  return new SelvedgeError('csr_invalid', { why }, { cause });
}
