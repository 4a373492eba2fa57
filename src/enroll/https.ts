/**
 * One HTTPS request to a tower. By default it is known by nothing but its root's fingerprint: TLS takes any certificate; then, before a byte of the
 * request leaves, the chain shown must hold the pinned root and verify against it, by the one decision. Only a request for the time goes
 * to an end that did not pass, to tell a wrong clock from a wrong peer. Where a proxy ends TLS before the tower, that end is verified by the fingerprint of
 * its own certificate, or by the system's roots or those of a file; then nothing that it answers is believed but what leads to the pinned root (call-home.ts). The same goes for a
 * tower that shows a certificate of files.
 */
import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { isIP } from 'node:net';
import { connect, getCACertificates, type TLSSocket } from 'node:tls';
import { asSelvedgeError, isErrorCode, SelvedgeError } from '../base/errors.ts';
import { equalBytes, TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { skewOf } from '../identity/clock-evidence.ts';
import { fingerprint, formatFingerprint } from '../identity/fingerprint.ts';
import { type Lifetime, lifetimeOf } from '../identity/lifetime.ts';
import { readFileBounded } from '../identity/files.ts';
import { mayBeUnverified } from '../identity/server-rule.ts';
import { verifyPeer } from '../identity/verify.ts';
import { chainOf } from '../transport/peer-chain.ts';
import { CLUSTER_HTTP_ALPN, type Credentials } from '../transport/session.ts';
import { secureContextOf } from '../transport/tcp-tls.ts';

export interface TowerAddress {
  readonly host: string;
  readonly port: number;
}

/** How the end of the TLS connection is known. */
export type TlsTrust =
  | { readonly kind: 'root' }
  /** SHA-256 of the DER of its own certificate. */
  | { readonly kind: 'certificate'; readonly fingerprint: Uint8Array }
  /** By the system's roots; `roots` (PEM): instead of them. */
  | { readonly kind: 'system'; readonly roots?: readonly string[] }
  /** By the roots in a file (PEM). */
  | { readonly kind: 'roots'; readonly file: string }
  /** Not at all: for development, and for names without a dot alone. */
  | { readonly kind: 'unverified' };

export interface PinnedTower extends TowerAddress {
  readonly cluster: string;
  /** SHA-256 of the root's DER. */
  readonly fingerprint: Uint8Array;
  /** Of other roots by one of which it may be known instead: while the cluster moves from one to another. */
  readonly also?: readonly Uint8Array[];
  /** By the root, unless told. */
  readonly tls?: TlsTrust;
}

export interface Answer {
  /** The root that the tower showed and that has the pinned fingerprint, DER; null where the connection was verified otherwise. */
  readonly root: Uint8Array | null;
  readonly body: Uint8Array;
}

export interface PostRequest {
  readonly path: string;
  readonly body: Uint8Array;
  readonly answer_bytes_max: number;
  readonly now_ms: () => number;
  readonly signal: AbortSignal;
}

/**
 * @throws network_unreachable (asking again may help), fingerprint_mismatch, certificate_invalid, wrong_cluster, wrong_node, clock_skew, and
 *   whatever code the tower refuses with
 */
export async function post(tower: PinnedTower, { path, body, answer_bytes_max, now_ms, signal }: PostRequest): Promise<Answer> {
  const socket = await open(tower, signal);
  try {
    const root = await judge(tower, socket, now_ms, signal);
    const response = await exchange(tower, socket, { method: 'POST', path, body, signal });
    const answer = await readBounded(tower, response, answer_bytes_max);
    if (response.statusCode === 200) return { root, body: answer };
    throw refusalOf(tower, response.statusCode ?? 0, answer);
  } finally {
    socket.destroy();
  }
}

export interface PostAsRequest extends Omit<PostRequest, 'now_ms'> {
  /** Throws where the chain that was shown is not the one that is wanted. */
  readonly judge: (chain: readonly Uint8Array[]) => void;
}

/** One request with a certificate of the asking end; nothing of it leaves before the other end was judged. @throws as `post`, and what `judge` throws */
export async function postAs(
  address: TowerAddress,
  credentials: Credentials,
  { judge, path, body, answer_bytes_max, signal }: PostAsRequest,
): Promise<Uint8Array> {
  const socket = await open(address, signal, credentials);
  try {
    judge(chainOf(socket));
    const response = await exchange(address, socket, { method: 'POST', path, body, signal });
    const answer = await readBounded(address, response, answer_bytes_max);
    if (response.statusCode === 200) return answer;
    throw refusalOf(address, response.statusCode ?? 0, answer);
  } finally {
    socket.destroy();
  }
}

export interface ConnectRequest extends Pick<PostRequest, 'now_ms' | 'signal'> {
  /** Shown to the tower, for whoever is known to it. */
  readonly credentials: Credentials;
}

/** A connection for requests of the caller's own, to the tower of the pinned root and nobody else. @throws as `post`, before anything of a request */
export async function connectPinned(tower: PinnedTower, { credentials, now_ms, signal }: ConnectRequest): Promise<TLSSocket> {
  const socket = await open(tower, signal, credentials);
  try {
    await judge(tower, socket, now_ms, signal);
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

async function open(tower: TowerAddress & Pick<PinnedTower, 'tls'>, signal: AbortSignal, credentials?: Credentials): Promise<TLSSocket> {
  const { host, port, tls = { kind: 'root' } } = tower;
  if (tls.kind === 'unverified' && !mayBeUnverified(host))
    throw new SelvedgeError('argument_invalid', { name: 'insecure-development', why: `${host} is an address, or a name with a dot: it is always verified` });
  const roots = await rootsOf(tls);
  const socket = connect({
    host,
    port,
    // The tower may show others another certificate than the cluster's.
    ALPNProtocols: tls.kind === 'root' ? [CLUSTER_HTTP_ALPN, 'http/1.1'] : ['http/1.1'],
    // The tower speaks nothing older; what stands before it may.
    minVersion: tls.kind === 'root' ? 'TLSv1.3' : 'TLSv1.2',
    // Whatever it is: it is judged before anything is sent (`judge`).
    rejectUnauthorized: false,
    ...(roots !== null && { ca: [...roots] }),
    ...(credentials && { secureContext: secureContextOf(credentials) }),
    ...(isIP(host) === 0 && { servername: host }),
  });
  try {
    await once(socket, 'secureConnect', { signal });
    // What comes later belongs to the exchange; without a listener it would end the process.
    socket.on('error', () => undefined);
    return socket;
  } catch (error) {
    socket.on('error', () => undefined).destroy();
    throw unreachable(tower, error);
  }
}

/** Those that the host's administrator keeps; where there are none, those that Node brings. */
function systemRoots(): readonly string[] {
  const roots = getCACertificates('system');
  return roots.length > 0 ? roots : getCACertificates('bundled');
}

/** Null: none is asked. @throws not_found, store_damaged, permission_denied */
async function rootsOf(tls: TlsTrust): Promise<readonly string[] | null> {
  if (tls.kind === 'system') return tls.roots ?? systemRoots();
  if (tls.kind !== 'roots') return null;
  const bytes = await readFileBounded(tls.file, limits.certificate_files_bytes_max);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'file of roots', name: tls.file });
  return [new TextDecoder().decode(bytes)];
}

/** @returns the pinned root, DER; null where another certificate than the tower's was to be judged, and passed */
async function judge(tower: PinnedTower, socket: TLSSocket, now_ms: () => number, signal: AbortSignal): Promise<Uint8Array | null> {
  const chain = chainOf(socket);
  const { tls = { kind: 'root' } } = tower;
  if (tls.kind === 'certificate') {
    checkPinned(chain[0], tls.fingerprint);
    return null;
  }
  if (tls.kind === 'system' || tls.kind === 'roots') {
    checkSystem(tower, socket);
    return null;
  }
  if (tls.kind === 'unverified') return null;
  const pinned = [tower.fingerprint, ...(tower.also ?? [])];
  const root = chain.find((certificate) => pinned.some((known) => equalBytes(fingerprint(certificate), known)));
  if (root === undefined) {
    const last = chain.at(-1);
    throw new SelvedgeError('fingerprint_mismatch', {
      found: last === undefined ? 'none' : formatFingerprint(fingerprint(last)),
      expected: formatFingerprint(tower.fingerprint),
    });
  }
  try {
    verifyPeer({ chain, roots: [root], cluster: tower.cluster, now_ms: now_ms(), usage: 'server', expectedNode: TOWER_ID, expectedSite: TOWER_SITE });
    return root;
  } catch (error) {
    if (error instanceof SelvedgeError && error.code === 'certificate_invalid') await checkClock(tower, socket, chain[0], now_ms(), signal);
    throw error;
  }
}

function checkPinned(leaf: Uint8Array | undefined, expected: Uint8Array): void {
  const found = leaf === undefined ? null : fingerprint(leaf);
  if (found !== null && equalBytes(found, expected)) return;
  throw new SelvedgeError('fingerprint_mismatch', { found: found === null ? 'none' : formatFingerprint(found), expected: formatFingerprint(expected) });
}

/** The path to such a root is OpenSSL's to judge, and the name Node's, which did so when it connected: what it calls the certificate later is not asked for. */
function checkSystem({ host, port }: TowerAddress, socket: TLSSocket): void {
  if (socket.authorized) return;
  // A code, whatever the types say.
  const error = String(socket.authorizationError);
  const why = error === 'ERR_TLS_CERT_ALTNAME_INVALID' ? `it is not for ${host}` : error;
  throw new SelvedgeError('certificate_invalid', { peer: `${host}:${port}`, why });
}

/** Asks the time of an end that is not believed: what it says is used for an error message only. @throws clock_skew */
async function checkClock(tower: PinnedTower, socket: TLSSocket, leaf: Uint8Array | undefined, now_ms: number, signal: AbortSignal): Promise<void> {
  const response = await exchange(tower, socket, { method: 'GET', path: '/v1/health', body: null, signal }).catch(() => null);
  const at_ms = Date.parse(response?.headers.date ?? '');
  const error = Number.isNaN(at_ms) ? null : skewOf(now_ms, { of: `the tower at ${tower.host}:${tower.port}`, at_ms }, lifeOf(leaf));
  if (error !== null) throw error;
}

/** Null: what was shown is no certificate. */
function lifeOf(leaf: Uint8Array | undefined): Lifetime | null {
  try {
    return lifetimeOf(leaf);
  } catch {
    return null;
  }
}

interface Exchange {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body: Uint8Array | null;
  readonly signal: AbortSignal;
}

async function exchange(tower: TowerAddress, socket: TLSSocket, { method, path, body, signal }: Exchange): Promise<IncomingMessage> {
  const headers = body === null ? {} : { 'content-type': 'application/json', 'content-length': body.length };
  const request = httpRequest({
    createConnection: () => socket,
    host: tower.host,
    port: tower.port,
    method,
    path,
    headers,
    signal,
    maxHeaderSize: limits.api_header_bytes_max,
  });
  request.end(body);
  try {
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    request.on('error', () => undefined);
    return response;
  } catch (error) {
    request.on('error', () => undefined);
    throw unreachable(tower, error);
  }
}

async function readBounded(tower: TowerAddress, response: IncomingMessage, bytes_max: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const chunk of response as AsyncIterable<Uint8Array>) {
      length += chunk.length;
      if (length > bytes_max) throw new SelvedgeError('body_too_large', { max: bytes_max });
      chunks.push(chunk);
    }
  } catch (error) {
    throw error instanceof SelvedgeError ? error : unreachable(tower, error);
  }
  return new Uint8Array(Buffer.concat(chunks));
}

/** The tower's own refusal if the body is one; a failure of the tower, or of something before it, may pass. */
function refusalOf(tower: TowerAddress, status: number, body: Uint8Array): SelvedgeError {
  const said = readRefusal(body);
  if (said !== null && said.code !== 'internal_error' && status < 500) return said;
  return unreachable(tower, new Error(said === null ? `it answered with HTTP status ${status}` : said.message));
}

function readRefusal(body: Uint8Array): SelvedgeError | null {
  try {
    const { code, facts } = JSON.parse(new TextDecoder().decode(body)) as { code?: unknown; facts?: unknown };
    if (typeof code !== 'string' || !isErrorCode(code) || typeof facts !== 'object' || facts === null) return null;
    const scalars = Object.entries(facts).filter(([, fact]) => fact === null || ['string', 'number', 'boolean'].includes(typeof fact));
    return new SelvedgeError(code, Object.fromEntries(scalars.slice(0, FACTS_MAX)));
  } catch {
    return null;
  }
}

const FACTS_MAX = 16;

/** An abort says only that it was one; its reason says whether time was up. */
function unreachable({ host, port }: TowerAddress, error: unknown): SelvedgeError {
  const reason = error instanceof Error && error.name === 'AbortError' ? (error.cause ?? error) : error;
  return asSelvedgeError(reason, 'network_unreachable', { peer: `${host}:${port}` });
}
