/**
 * TLS 1.3 as fabric sessions use it over `node:tls`: the context made of credentials, the chain that the peer presented, and every
 * failure as a code of the table. It judges no certificate: OpenSSL proves possession of the leaf's key, `identity/verify.ts` decides.
 */
import { constants } from 'node:crypto';
import type { Socket } from 'node:net';
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { type Credentials, FABRIC_ALPN } from './session.ts';

const contexts = new WeakMap<Credentials, SecureContext>();

/** One context for each credentials object: making one costs more than a handshake. @throws certificate_invalid */
export function secureContextOf(credentials: Credentials): SecureContext {
  const known = contexts.get(credentials);
  if (known !== undefined) return known;
  const context = makeContext(credentials);
  contexts.set(credentials, context);
  return context;
}

function makeContext(credentials: Credentials): SecureContext {
  try {
    return createSecureContext({
      cert: credentials.chain.map((der) => pem('CERTIFICATE', der)).join(''),
      key: pem('PRIVATE KEY', credentials.key),
      // No trust anchors: whatever OpenSSL would say about the chain is not asked for.
      ca: [],
      minVersion: 'TLSv1.3',
      maxVersion: 'TLSv1.3',
      // AES-128 first: a quarter less CPU for each octet than AES-256, and no weaker link here.
      ciphers: 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256',
      ecdhCurve: 'X25519:P-256',
      sigalgs: 'ecdsa_secp256r1_sha256',
      secureOptions: constants.SSL_OP_NO_TICKET,
    });
  } catch (error) {
    // OpenSSL's message names the routine that failed, never the key.
    throw new SelvedgeError('certificate_invalid', { peer: 'this node', why: error instanceof Error ? error.message : 'unusable' }, { cause: error });
  }
}

function pem(label: string, der: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64')}\n-----END ${label}-----\n`;
}

/**
 * The certificates that the peer presented, leaf first, in its order; empty if none. Ask once: Node hands the chain out and forgets it.
 * @throws certificate_invalid when it is longer or larger than ours ever are.
 */
export function presentedChain(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = [];
  const peer = remoteOf(socket);
  for (let certificate = socket.getPeerX509Certificate(); certificate !== undefined; certificate = certificate.issuerCertificate) {
    if (chain.length === limits.certificate_chain_certs_max) {
      throw new SelvedgeError('certificate_invalid', { peer, why: `more than ${limits.certificate_chain_certs_max} certificates in the chain` });
    }
    const { raw } = certificate;
    if (raw.length > limits.certificate_bytes_max) {
      throw new SelvedgeError('certificate_invalid', { peer, why: `a certificate of ${raw.length} bytes, at most ${limits.certificate_bytes_max} allowed` });
    }
    chain.push(new Uint8Array(raw));
  }
  return chain;
}

export function addressPort(address: string | undefined, port: number | undefined): string {
  const host = (address ?? 'unknown').replace(/^::ffff:(?=\d+\.)/, '');
  return host.includes(':') ? `[${host}]:${port ?? 0}` : `${host}:${port ?? 0}`;
}

export const remoteOf = (socket: Socket): string => addressPort(socket.remoteAddress, socket.remotePort);
export const localOf = (socket: Socket): string => addressPort(socket.localAddress, socket.localPort);

/** What the user reads for the operating system's names. */
const networkReasons: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ECONNABORTED: 'connection aborted',
  EPIPE: 'connection reset',
  EHOSTUNREACH: 'no route to host',
  ENETUNREACH: 'network unreachable',
  ENETDOWN: 'network is down',
  EHOSTDOWN: 'host is down',
  ETIMEDOUT: 'no answer',
  EADDRNOTAVAIL: 'no local address for it',
  EACCES: 'blocked by a local firewall',
  EPERM: 'blocked by a local firewall',
  ENOTFOUND: 'name not found',
  EAI_AGAIN: 'name server does not answer',
  EMFILE: 'too many open files',
  ENFILE: 'too many open files',
};

/** A failed connection or handshake, or the death of a connection, as an error of the table. `secured`: the handshake was over. */
export function tcpError(error: unknown, peer: string, secured: boolean): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  const cause = { cause: error };
  if (error instanceof AggregateError && error.errors.length > 0) return tcpError(error.errors[0], peer, secured);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  if (/ALERT_NO_APPLICATION_PROTOCOL|SSL_NO_APPLICATION_PROTOCOL/.test(code)) {
    return new SelvedgeError('tls_handshake_failed', { peer, why: `peer does not speak ${FABRIC_ALPN}` }, cause);
  }
  if (code.startsWith('ERR_SSL_') || code === 'EPROTO') {
    const why = error instanceof Error && 'reason' in error ? String(error.reason) : code;
    return new SelvedgeError('tls_handshake_failed', { peer, why }, cause);
  }
  // Node's own word for an end before the handshake was over.
  if (!secured && code === 'ECONNRESET') return new SelvedgeError('tls_handshake_failed', { peer, why: 'connection closed during the handshake' }, cause);
  const why = networkReasons[code] ?? (error instanceof Error ? error.message : String(error));
  return new SelvedgeError('network_unreachable', { peer, why }, cause);
}
