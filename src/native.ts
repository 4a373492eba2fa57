/**
 * The boundary to native/session: the only file that loads the addon. What it returns is typed here and nowhere else; native-tls.ts
 * has the part for TLS over TCP.
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
  quicOpen(
    wake: () => void,
    options: NativeQuicOptions,
    host: string,
    port: number,
    resetKey: Uint8Array,
    chain: Uint8Array | null,
    key: Uint8Array | null,
  ): number;
  quicLocal(endpoint: number): QuicAddress;
  quicListen(endpoint: number, chain: Uint8Array | null, key: Uint8Array | null): void;
  quicDial(endpoint: number, host: string, port: number, chain: Uint8Array, key: Uint8Array): number;
  quicRebind(endpoint: number, host: string, port: number): QuicAddress;
  quicKeepAlive(endpoint: number, alive: boolean): void;
  quicClose(endpoint: number): void;
  quicTake(endpoint: number, out: Uint32Array): number;
  quicPeerChain(endpoint: number, connection: number): Uint8Array;
  quicRemote(endpoint: number, connection: number): QuicAddress;
  quicLinkLocal(endpoint: number, connection: number): QuicAddress;
  quicApprove(endpoint: number, connection: number): void;
  quicWrite(endpoint: number, connection: number, flow: number, lane: number, priority: number, head: Uint8Array, body: Uint8Array | null): boolean;
  quicEndFlow(endpoint: number, connection: number, flow: number): void;
  quicReady(endpoint: number, connection: number, lane: number): boolean;
  quicRead(endpoint: number, connection: number, source: number, into: Uint8Array): number;
  quicDatagram(endpoint: number, connection: number, bytes: Uint8Array): boolean;
  quicTakeDatagram(endpoint: number, connection: number): Uint8Array | null;
  quicDatagramMax(endpoint: number, connection: number): number;
  quicFacts(endpoint: number, connection: number, out: Float64Array): void;
  quicSample(endpoint: number, connection: number, out: Float64Array): void;
  quicGovern(endpoint: number, connection: number, window: number, pace: number): void;
  quicFinish(endpoint: number, connection: number): void;
  quicCloseLink(endpoint: number, connection: number, code: number, reason: Uint8Array): void;
  quicTakeEnd(endpoint: number, connection: number): QuicEnd;
  tlsOpen(wake: () => void, inboxBytesMax: number, prefaceBytes: number, chainCertsMax: number, certBytesMax: number): void;
  tlsKeepAlive(alive: boolean): void;
  tlsTake(out: Uint32Array): number;
  tlsListen(host: string, port: number, chain: Uint8Array, key: Uint8Array, rules: NativeTlsRules): { id: number; host: string; port: number };
  tlsSetCredentials(listener: number, chain: Uint8Array, key: Uint8Array): void;
  tlsUnlisten(listener: number): void;
  tlsTakeForeign(id: number): { descriptor: number; hello: Uint8Array };
  tlsDropForeign(id: number): void;
  tlsCheck(chain: Uint8Array, key: Uint8Array): void;
  tlsAdopt(descriptor: number, chain: Uint8Array, key: Uint8Array): number;
  tlsPeer(connection: number): { chain: Uint8Array; preface: Uint8Array; remote: string; local: string };
  tlsSettle(connection: number): void;
  tlsApprove(connection: number, direct: boolean): void;
  tlsRead(connection: number, into: Uint8Array): number;
  tlsWrite(connection: number, kind: number, head: Uint8Array, body: Uint8Array | null): number;
  tlsFlush(connection: number): void;
  tlsUnsent(connection: number, mark: number | null): number;
  tlsEnd(connection: number, kind: number, last: Uint8Array | null): void;
  tlsDestroy(connection: number): void;
  tlsWhy(connection: number): { kind: 'tls' | 'foreign' | 'system' | 'ended'; errno: number; why: string };
  tlsForget(connection: number): void;
  tlsPace(connection: number, rate: number): void;
  tlsLook(connection: number, out: Float64Array): void;
  tlsRestart(connection: number): void;
  keepSecrets(): void;
}

interface NativeQuicOptions {
  readonly handshakeMs: number;
  readonly idleMs: number;
  readonly streamsMax: number;
  readonly pendingMax: number;
  readonly pendingPerAddressMax: number;
  readonly connectionsMax: number;
  readonly unsentBytesMin: number;
  readonly unsentBytesMax: number;
  readonly urgentBytesExtra: number;
  readonly inboxBytesMax: number;
  readonly datagramQueueBytesMax: number;
  readonly flowWindowBytesMax: number;
  readonly mtuBytesMax: number;
  readonly bbr: boolean;
  readonly chainCertsMax: number;
  readonly certBytesMax: number;
}

interface NativeTlsRules {
  readonly sharesPort: boolean;
  readonly handshakeMs: number;
  readonly pendingMax: number;
  readonly pendingPerAddressMax: number;
  readonly connectionsMax: number;
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
export function packBlocks(blocks: readonly Uint8Array[]): Uint8Array {
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

export function unpackBlocks(packed: Uint8Array): Uint8Array[] {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const blocks: Uint8Array[] = [];
  for (let at = 0; at < packed.length; ) {
    const length = view.getUint32(at);
    blocks.push(packed.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return blocks;
}

/** Runs a native call; what it throws becomes a code: `handle_closed`, `argument_invalid`, else `native_failed`. For this file and native-tls.ts. */
export function call<T>(what: string, run: (native: Addon) => T): T {
  const native = addon();
  try {
    return run(native);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'Closing') throw new SelvedgeError('handle_closed', { what }, { cause: error });
    if (typeof code === 'string' && (code === 'InvalidArg' || code.endsWith('Expected')))
      throw new SelvedgeError('argument_invalid', { name: what, why }, { cause: error });
    throw new SelvedgeError('native_failed', { what, why }, { cause: error });
  }
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
    const { notBeforeMs, notAfterMs, keyCurve, keyUsage, eku, ...facts } = native.verifyChain(
      packBlocks(input.chain),
      packBlocks(input.roots),
      input.now_ms,
      input.usage === 'client',
    );
    return { ...facts, notBefore_ms: notBeforeMs, notAfter_ms: notAfterMs, keyCurve: keyCurve ?? null, keyUsage: keyUsage ?? null, eku: eku ?? null };
  } catch (error) {
    throw certificateInvalid(error instanceof Error ? error.message : String(error));
  }
}

function checkCertificates(certificates: readonly Uint8Array[], max: number, what: string): void {
  if (certificates.length === 0 || certificates.length > max) throw certificateInvalid(`${certificates.length} ${what}, 1 to ${max} allowed`);
  for (const der of certificates) {
    if (!(der instanceof Uint8Array)) throw certificateInvalid('a certificate is not a byte array');
    if (der.length > limits.certificate_bytes_max)
      throw certificateInvalid(`a certificate of ${der.length} octets, at most ${limits.certificate_bytes_max} allowed`);
  }
}

function certificateInvalid(why: string): SelvedgeError {
  return new SelvedgeError('certificate_invalid', { peer: 'the peer', why });
}

// ---------------------------------------------------------------- QUIC

export interface QuicAddress {
  readonly host: string;
  readonly port: number;
}

/** How a connection ended; `code` is the peer's for kind `application`. */
export interface QuicEnd {
  readonly kind: 'application' | 'tls' | 'transport' | 'reset' | 'silent' | 'handshake_timeout' | 'unreachable' | 'endpoint';
  readonly code: number;
  readonly why: string;
}

/** DER chain, leaf first, and the key in PKCS#8 DER. Copied during the call. */
export interface QuicCredentials {
  readonly chain: readonly Uint8Array[];
  readonly key: Uint8Array;
}

export interface QuicOptions {
  /** An IP address of this machine, or `0.0.0.0` or `::` (which takes IPv4 too). */
  readonly host: string;
  readonly port: number;
  /** Given: listen with these. */
  readonly credentials: QuicCredentials | null;
  /** At least 32 octets, kept over restarts: with it a restarted endpoint tells old connections at once that they are gone. */
  readonly resetKey: Uint8Array;
  /** Default `cubic`. */
  readonly congestion?: 'cubic' | 'bbr';
  /** For the handshake, and again until approval; default `limits.handshake_ms_max`. */
  readonly handshake_ms?: number;
}

/** What an endpoint's owner hears; one turn of the event loop brings many. */
export interface QuicEndpointHandler {
  /** A peer has connected: pending until approved. */
  incoming(connection: QuicConnection): void;
  /** The endpoint has ended; the last call. */
  closed(): void;
}

/** What a connection's owner hears. Never called from inside a call on the endpoint or connection. */
export interface QuicConnectionHandler {
  /** The dialed connection is up, pending. */
  connected(): void;
  readable(source: number): void;
  ready(lane: QuicLane): void;
  writable(flow: number): void;
  /** `takeDatagram` has some. */
  datagrams(): void;
  /** The peer ended all its flows and opens no more. */
  finished(): void;
  /** The last call, unless this side closed it. */
  closed(end: QuicEnd): void;
}

export const quicLanes = { urgent: 0, bulk: 1 } as const;
export type QuicLane = (typeof quicLanes)[keyof typeof quicLanes];

const RESET_KEY_BYTES_MIN = 32;
const EVENT_WORDS = 3;
const EVENTS_PER_CALL = 256;

const silent: QuicConnectionHandler = { connected() {}, readable() {}, ready() {}, writable() {}, datagrams() {}, finished() {}, closed() {} };

/**
 * One UDP socket with an I/O thread of its own, which owns all protocol state. It keeps Node alive while it is open unless told otherwise,
 * and must be closed by its owner.
 */
export class QuicEndpoint {
  readonly #id: number;
  readonly #handler: QuicEndpointHandler;
  readonly #connections = new Map<number, QuicConnection>();
  readonly #events = new Uint32Array(EVENT_WORDS * EVENTS_PER_CALL);
  #closed = false;

  /** @throws native_missing, port_in_use, permission_denied, argument_invalid, native_failed */
  constructor(options: QuicOptions, handler: QuicEndpointHandler) {
    if (options.resetKey.length < RESET_KEY_BYTES_MIN)
      throw new SelvedgeError('argument_invalid', { name: 'resetKey', why: `at least ${RESET_KEY_BYTES_MIN} octets` });
    this.#handler = handler;
    const { credentials } = options;
    try {
      this.#id = call('QUIC endpoint', (native) =>
        native.quicOpen(
          () => this.#drain(),
          nativeOptions(options),
          options.host,
          options.port,
          options.resetKey,
          credentials ? packBlocks(credentials.chain) : null,
          credentials?.key ?? null,
        ),
      );
    } catch (error) {
      throw bindError(error, options);
    }
  }

  get address(): QuicAddress {
    return call('QUIC endpoint', (native) => native.quicLocal(this.#id));
  }

  /** Live connections, pending ones included. */
  get connections(): number {
    return this.#connections.size;
  }

  /** New connections are accepted with these; null: no more are. */
  listen(credentials: QuicCredentials | null): void {
    call('QUIC endpoint', (native) => native.quicListen(this.#id, credentials ? packBlocks(credentials.chain) : null, credentials?.key ?? null));
  }

  /** `host` is an IP address. What comes of it the handler hears: `connected` or `closed`. */
  dial(target: QuicAddress, credentials: QuicCredentials, handler: QuicConnectionHandler): QuicConnection {
    const id = call('QUIC endpoint', (native) => native.quicDial(this.#id, target.host, target.port, packBlocks(credentials.chain), credentials.key));
    return this.#add(id, handler);
  }

  /** Moves to another local address; the connections migrate. */
  rebind(address: QuicAddress): QuicAddress {
    return call('QUIC endpoint', (native) => native.quicRebind(this.#id, address.host, address.port));
  }

  /** Whether it keeps Node alive. */
  keepAlive(alive: boolean): void {
    if (!this.#closed) call('QUIC endpoint', (native) => native.quicKeepAlive(this.#id, alive));
  }

  /** Closes every connection, then the socket; `handler.closed` tells when. Idempotent. */
  close(): void {
    if (!this.#closed) call('QUIC endpoint', (native) => native.quicClose(this.#id));
  }

  #add(id: number, handler: QuicConnectionHandler): QuicConnection {
    const connection = new QuicConnection(this.#id, id, handler, () => this.#connections.delete(id));
    this.#connections.set(id, connection);
    return connection;
  }

  /** An event's receiver may throw; the others hear theirs all the same, and the error surfaces as uncaught. */
  #drain(): void {
    for (let count = EVENTS_PER_CALL; count === EVENTS_PER_CALL && !this.#closed; ) {
      count = call('QUIC endpoint', (native) => native.quicTake(this.#id, this.#events));
      const words = this.#events.slice(0, count * EVENT_WORDS);
      for (let at = 0; at < words.length; at += EVENT_WORDS) {
        try {
          this.#dispatch(words[at] ?? 0, words[at + 1] ?? 0, words[at + 2] ?? 0);
        } catch (error) {
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    }
  }

  #dispatch(kind: number, id: number, argument: number): void {
    if (kind === 9) {
      this.#closed = true;
      this.#handler.closed();
      return;
    }
    if (kind === 2) {
      this.#handler.incoming(this.#add(id, silent));
      return;
    }
    const connection = this.#connections.get(id);
    if (!connection) return;
    const { handler } = connection;
    if (kind === 1) handler.connected();
    else if (kind === 3) handler.readable(argument);
    else if (kind === 4) handler.ready(argument === quicLanes.urgent ? quicLanes.urgent : quicLanes.bulk);
    else if (kind === 5) handler.writable(argument);
    else if (kind === 6) handler.datagrams();
    else if (kind === 7) handler.finished();
    else if (kind === 8) handler.closed(connection.takeEnd());
  }
}

/** Figures of a connection; milliseconds and octets. */
export interface QuicFacts {
  readonly rtt_ms: number;
  readonly rtt_min_ms: number;
  readonly congestion_window_bytes: number;
  readonly mtu_bytes: number;
  readonly sent_packets: number;
  readonly lost_packets: number;
  readonly in_flight_bytes: number;
  readonly acked_bytes: number;
  readonly unsent_bytes: number;
  readonly sent_bytes: number;
  readonly received_bytes: number;
  readonly silent_ms: number;
  readonly datagrams_dropped: number;
}

const factsArray = new Float64Array(13);
const sampleArray = new Float64Array(6);

/** One connection of an endpoint. After its end every call throws `handle_closed`, except `close`. */
export class QuicConnection {
  /** May be exchanged, as on approval of an incoming one. */
  handler: QuicConnectionHandler;
  readonly #endpoint: number;
  readonly #id: number;
  readonly #forget: () => void;

  /** Made by the endpoint only. */
  constructor(endpoint: number, id: number, handler: QuicConnectionHandler, forget: () => void) {
    this.#endpoint = endpoint;
    this.#id = id;
    this.handler = handler;
    this.#forget = forget;
  }

  /** The certificates that the peer showed, DER, leaf first; handed over once. */
  takePeerChain(): Uint8Array[] {
    return unpackBlocks(call('QUIC connection', (native) => native.quicPeerChain(this.#endpoint, this.#id)));
  }

  get remote(): QuicAddress {
    return call('QUIC connection', (native) => native.quicRemote(this.#endpoint, this.#id));
  }

  get local(): QuicAddress {
    return call('QUIC connection', (native) => native.quicLinkLocal(this.#endpoint, this.#id));
  }

  /** From here on the peer may open streams and send datagrams. */
  approve(): void {
    call('QUIC connection', (native) => native.quicApprove(this.#endpoint, this.#id));
  }

  /** Takes head and body whole, by copy. False: wait for `writable(flow)`. */
  write(flow: number, lane: QuicLane, priority: number, head: Uint8Array, body: Uint8Array | null): boolean {
    return call('QUIC connection', (native) => native.quicWrite(this.#endpoint, this.#id, flow, lane, priority, head, body));
  }

  endFlow(flow: number): void {
    call('QUIC connection', (native) => native.quicEndFlow(this.#endpoint, this.#id, flow));
  }

  /** False: `ready(lane)` will be told. */
  ready(lane: QuicLane): boolean {
    return call('QUIC connection', (native) => native.quicReady(this.#endpoint, this.#id, lane));
  }

  /** Octets copied into `into`; 0: none now, `readable` will be told; -1: the source has ended. */
  read(source: number, into: Uint8Array): number {
    return call('QUIC connection', (native) => native.quicRead(this.#endpoint, this.#id, source, into));
  }

  datagram(bytes: Uint8Array): boolean {
    return call('QUIC connection', (native) => native.quicDatagram(this.#endpoint, this.#id, bytes));
  }

  /** Null: none now, `datagrams` will be told. */
  takeDatagram(): Uint8Array | null {
    return call('QUIC connection', (native) => native.quicTakeDatagram(this.#endpoint, this.#id));
  }

  get datagramBytesMax(): number {
    return call('QUIC connection', (native) => native.quicDatagramMax(this.#endpoint, this.#id));
  }

  facts(): QuicFacts {
    call('QUIC connection', (native) => native.quicFacts(this.#endpoint, this.#id, factsArray));
    const at = (index: number): number => factsArray[index] ?? 0;
    return {
      rtt_ms: at(0),
      rtt_min_ms: at(1),
      congestion_window_bytes: at(2),
      mtu_bytes: at(3),
      sent_packets: at(4),
      lost_packets: at(5),
      in_flight_bytes: at(6),
      acked_bytes: at(7),
      unsent_bytes: at(8),
      sent_bytes: at(9),
      received_bytes: at(10),
      silent_ms: at(11),
      datagrams_dropped: at(12),
    };
  }

  /** `facts().silent_ms` alone. */
  get silent_ms(): number {
    call('QUIC connection', (native) => native.quicFacts(this.#endpoint, this.#id, factsArray));
    return factsArray[11] ?? 0;
  }

  /** What happened since the last call; round trips in milliseconds, -1 if nothing was acknowledged. `held_back_bytes`: waits for the pace now. */
  sample(): { rtt_min_ms: number; rtt_latest_ms: number; acked_bytes: number; lost_bytes: number; sent_bytes: number; held_back_bytes: number } {
    call('QUIC connection', (native) => native.quicSample(this.#endpoint, this.#id, sampleArray));
    const at = (index: number): number => sampleArray[index] ?? 0;
    return { rtt_min_ms: at(0), rtt_latest_ms: at(1), acked_bytes: at(2), lost_bytes: at(3), sent_bytes: at(4), held_back_bytes: at(5) };
  }

  /** The congestion window, octets, and the pace of the bulk lane, octets a second; null hands both back to the stack. */
  govern(law: { readonly window_bytes: number; readonly rate_bytes_per_s: number } | null): void {
    call('QUIC connection', (native) => native.quicGovern(this.#endpoint, this.#id, law?.window_bytes ?? -1, law?.rate_bytes_per_s ?? -1));
  }

  finish(): void {
    call('QUIC connection', (native) => native.quicFinish(this.#endpoint, this.#id));
  }

  /** Ends it at once and forgets it; no handler method follows. Idempotent. */
  close(code: number, reason: Uint8Array): void {
    this.#forget();
    this.handler = silent;
    call('QUIC connection', (native) => native.quicCloseLink(this.#endpoint, this.#id, code, reason));
  }

  /** For the endpoint: why it ended. */
  takeEnd(): QuicEnd {
    this.#forget();
    try {
      return call('QUIC connection', (native) => native.quicTakeEnd(this.#endpoint, this.#id));
    } catch {
      // The endpoint was closed before this was told: with it went the reason.
      return { kind: 'endpoint', code: 0, why: 'the endpoint is closed' };
    }
  }
}

/** No core dump of this process, and no look into its memory by others of the same user, until it ends. @throws native_failed */
export function keepSecrets(): void {
  call('core dumps', (native) => native.keepSecrets());
}

function nativeOptions(options: QuicOptions): NativeQuicOptions {
  return {
    handshakeMs: options.handshake_ms ?? limits.handshake_ms_max,
    idleMs: limits.quic_idle_ms_max,
    streamsMax: limits.quic_streams_per_session_max,
    pendingMax: limits.pending_sessions_max,
    pendingPerAddressMax: limits.pending_sessions_per_address_max,
    connectionsMax: limits.sessions_max,
    unsentBytesMin: limits.session_unsent_bytes_min,
    unsentBytesMax: limits.session_unsent_bytes_max,
    urgentBytesExtra: limits.session_urgent_bytes_extra,
    inboxBytesMax: limits.quic_inbox_bytes_max,
    datagramQueueBytesMax: limits.quic_datagram_queue_bytes_max,
    flowWindowBytesMax: limits.flow_window_bytes_max,
    mtuBytesMax: limits.quic_mtu_bytes_max,
    bbr: options.congestion === 'bbr',
    chainCertsMax: limits.certificate_chain_certs_max,
    certBytesMax: limits.certificate_bytes_max,
  };
}

/** The addon puts the system's error number first when it cannot bind. */
function bindError(error: unknown, options: QuicOptions): unknown {
  if (!(error instanceof SelvedgeError) || error.code !== 'native_failed') return error;
  const [, errno, why] = /^(\d+) (.*)$/.exec(String(error.facts.why)) ?? [];
  if (errno === '98') return new SelvedgeError('port_in_use', { proto: 'UDP', port: options.port, address: options.host }, { cause: error });
  if (errno === '13' || errno === '1') return new SelvedgeError('permission_denied', { what: `UDP port ${options.port}` }, { cause: error });
  if (errno === '99')
    return new SelvedgeError('argument_invalid', { name: 'host', why: `${options.host} is not an address of this machine (${why})` }, { cause: error });
  return error;
}
