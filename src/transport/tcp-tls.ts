/**
 * What fabric and HTTP share of TLS on one port: the contexts made of credentials, for those who are no fabric; and every failure of a
 * connection, the addon's and Node's, as a code of the table.
 */
import { constants } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import { getSystemErrorName } from 'node:util';
import { SelvedgeError } from '../base/errors.ts';
import { checkTlsCredentials, type TlsEnd } from '../native-tls.ts';
import { type Credentials, FABRIC_ALPN } from './session.ts';

type Contexts = WeakMap<Credentials, SecureContext>;
const contexts: Contexts = new WeakMap();
const httpContexts: Contexts = new WeakMap();

/** Certificates of the cluster: P-256, and nothing else. */
const CLUSTER_SIGNATURES = 'ecdsa_secp256r1_sha256';
/** Those of others, from files, are of the kinds that public authorities issue. */
const HTTP_SIGNATURES = `${CLUSTER_SIGNATURES}:ecdsa_secp384r1_sha384:ed25519:rsa_pss_rsae_sha256:rsa_pss_rsae_sha384:rsa_pss_pss_sha256`;

/** For credentials of the cluster. @throws certificate_invalid */
export function secureContextOf(credentials: Credentials): SecureContext {
  return contextOf(contexts, credentials, CLUSTER_SIGNATURES);
}

/** For what an HTTP server shows, whoever issued it. @throws certificate_invalid */
export function httpContextOf(credentials: Credentials): SecureContext {
  return contextOf(httpContexts, credentials, HTTP_SIGNATURES);
}

/** One context for each credentials object: making one costs more than a handshake. */
function contextOf(known: Contexts, credentials: Credentials, sigalgs: string): SecureContext {
  let context = known.get(credentials);
  if (context === undefined) {
    context = makeContext(credentials, sigalgs);
    known.set(credentials, context);
  }
  return context;
}

function makeContext(credentials: Credentials, sigalgs: string): SecureContext {
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
      sigalgs,
      secureOptions: constants.SSL_OP_NO_TICKET,
    });
  } catch (error) {
    // OpenSSL's message names the routine that failed, never the key.
    throw new SelvedgeError('certificate_invalid', { peer: 'this node', why: error instanceof Error ? error.message : 'unusable' }, { cause: error });
  }
}

const checked = new WeakSet<Credentials>();

/** @throws certificate_invalid when the key is not the leaf's, or not of our kind */
export function checkCredentials(credentials: Credentials): void {
  if (checked.has(credentials)) return;
  try {
    checkTlsCredentials(credentials);
  } catch (error) {
    if (!(error instanceof SelvedgeError) || error.code !== 'argument_invalid') throw error;
    throw new SelvedgeError('certificate_invalid', { peer: 'this node', why: String(error.facts.why) }, { cause: error });
  }
  checked.add(credentials);
}

function pem(label: string, der: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64')}\n-----END ${label}-----\n`;
}

export function addressPort(address: string | undefined, port: number | undefined): string {
  const host = (address ?? 'unknown').replace(/^::ffff:(?=\d+\.)/, '');
  return host.includes(':') ? `[${host}]:${port ?? 0}` : `${host}:${port ?? 0}`;
}

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

/** A failed attempt to connect, as an error of the table. */
export function tcpError(error: unknown, peer: string): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  if (error instanceof AggregateError && error.errors.length > 0) return tcpError(error.errors[0], peer);
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  const why = networkReasons[code] ?? (error instanceof Error ? error.message : String(error));
  return new SelvedgeError('network_unreachable', { peer, why }, { cause: error });
}

/** How a connection ended; null: nobody knows. `secured`: the handshake was over. */
export function endError(end: TlsEnd | null, peer: string, secured: boolean): SelvedgeError {
  if (end?.kind === 'tls') return new SelvedgeError('tls_handshake_failed', { peer, why: end.why });
  if (end?.kind === 'foreign') return new SelvedgeError('tls_handshake_failed', { peer, why: `peer does not speak ${FABRIC_ALPN}` });
  if (end?.kind === 'system') {
    const code = systemName(end.errno);
    // A refusal that is not even said.
    if (!secured && (code === 'ECONNRESET' || code === 'EPIPE')) return closedInHandshake(peer);
    return new SelvedgeError('network_unreachable', { peer, why: networkReasons[code] ?? code });
  }
  if (!secured) return closedInHandshake(peer);
  return new SelvedgeError('network_unreachable', { peer, why: end === null ? 'connection lost' : 'connection ended without a word' });
}

function closedInHandshake(peer: string): SelvedgeError {
  return new SelvedgeError('tls_handshake_failed', { peer, why: 'connection closed during the handshake' });
}

/** The addon puts the system's error number first: the error as Node would have it. */
export function systemError(error: unknown): unknown {
  if (!(error instanceof SelvedgeError) || error.code !== 'native_failed') return error;
  const [, errno] = /^(\d+) /.exec(String(error.facts.why)) ?? [];
  return errno === undefined ? error : Object.assign(new Error(error.message, { cause: error }), { code: systemName(Number(errno)) });
}

/** `ECONNRESET` for 104. */
function systemName(errno: number): string {
  return errno > 0 ? getSystemErrorName(-errno) : 'unknown';
}
