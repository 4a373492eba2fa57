/**
 * The boundary to native/session for TLS over TCP (native.ts loads it): one I/O thread for this Node environment, begun when first
 * needed, with every connection and listening socket of it. What it says comes in one call for many events.
 */
import { limits } from './base/limits.ts';
import { call, packBlocks, unpackBlocks } from './native.ts';

/** DER chain, leaf first, and the key in PKCS#8 DER. Copied during the call. */
export interface TlsCredentials {
  readonly chain: readonly Uint8Array[];
  readonly key: Uint8Array;
}

/** How a connection ended. `errno` is the system's number, for kind `system`. */
export interface TlsEnd {
  readonly kind: 'tls' | 'foreign' | 'system' | 'ended';
  readonly errno: number;
  readonly why: string;
}

/** What a connection's owner hears. Never called from inside a call on the connection. */
export interface TlsHandler {
  /** The handshake that this end began is over: pending. */
  connected(): void;
  /** There are octets, or the end. */
  readable(): void;
  /** No more is unsent than `unsent` was given as its mark. */
  writable(): void;
  /** The last call. */
  closed(): void;
}

/** What a listener's owner hears. */
export interface TlsListenHandler {
  /** A peer's handshake is over and its preface is there: pending. */
  incoming(connection: TlsConnection): void;
  /** A connection for the HTTP server; the descriptor, and what was read of it, are the receiver's. */
  foreign(descriptor: number, hello: Uint8Array): void;
  /** The port is free; the last call. */
  closed(): void;
}

export interface TlsListenOptions {
  /** An IP address of this machine, or `0.0.0.0` or `::` (which takes IPv4 too). */
  readonly host: string;
  readonly port: number;
  readonly credentials: TlsCredentials;
  /** Whether there is somebody for those who do not speak fabric. */
  readonly sharesPort: boolean;
  readonly handshake_ms: number;
  readonly pending_max: number;
  readonly pending_per_address_max: number;
}

/** Kind of octets that are no record. */
const RAW = 255;
const EVENT_WORDS = 3;
const EVENTS_PER_CALL = 256;
const PREFACE_BYTES = 20;
const WHAT = 'TLS connection';

const deaf: TlsHandler = { connected() {}, readable() {}, writable() {}, closed() {} };

/** The I/O thread, its connections and listeners. It keeps Node alive while it has any. */
class Hub {
  readonly connections = new Map<number, TlsConnection>();
  readonly listeners = new Map<number, TlsListenHandler>();
  readonly #events = new Uint32Array(EVENT_WORDS * EVENTS_PER_CALL);
  #alive = false;

  constructor() {
    call('TLS', (native) =>
      native.tlsOpen(() => this.#drain(), limits.tcp_inbox_bytes_max, PREFACE_BYTES, limits.certificate_chain_certs_max, limits.certificate_bytes_max),
    );
  }

  keepAlive(): void {
    const alive = this.connections.size + this.listeners.size > 0;
    if (alive === this.#alive || hub !== this) return;
    this.#alive = alive;
    call('TLS', (native) => native.tlsKeepAlive(alive));
  }

  /** An event's receiver may throw; the others hear theirs all the same, and the error surfaces as uncaught. */
  #drain(): void {
    for (let count = EVENTS_PER_CALL; count === EVENTS_PER_CALL && hub === this; ) {
      count = call('TLS', (native) => native.tlsTake(this.#events));
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
    if (kind === 2) return this.#incoming(id, argument);
    if (kind === 6) return this.#foreign(id, argument);
    if (kind === 7) return this.#listenerClosed(id);
    if (kind === 8) return this.#ended();
    const connection = this.connections.get(id);
    if (connection === undefined) return;
    if (kind === 1) connection.handler.connected();
    else if (kind === 3) connection.handler.readable();
    else if (kind === 4) connection.handler.writable();
    else if (kind === 5) connection.gone();
  }

  #incoming(id: number, listener: number): void {
    const connection = new TlsConnection(this, id);
    const handler = this.listeners.get(listener);
    if (handler === undefined) connection.destroy();
    else handler.incoming(connection);
  }

  #foreign(id: number, listener: number): void {
    const handler = this.listeners.get(listener);
    if (handler === undefined) {
      call(WHAT, (native) => native.tlsDropForeign(id));
      return;
    }
    const { descriptor, hello } = call(WHAT, (native) => native.tlsTakeForeign(id));
    handler.foreign(descriptor, hello);
  }

  #listenerClosed(id: number): void {
    const handler = this.listeners.get(id);
    this.listeners.delete(id);
    this.keepAlive();
    handler?.closed();
  }

  /** The I/O thread has ended by a fault: nothing of it lives on, and who comes next gets another. */
  #ended(): void {
    hub = null;
    for (const connection of [...this.connections.values()]) connection.gone();
    for (const id of [...this.listeners.keys()]) this.#listenerClosed(id);
  }
}

let hub: Hub | null = null;

function theHub(): Hub {
  hub ??= new Hub();
  return hub;
}

/** @throws argument_invalid when they cannot be used, native_missing */
export function checkTlsCredentials(credentials: TlsCredentials): void {
  theHub();
  call('credentials', (native) => native.tlsCheck(packed(credentials), credentials.key));
}

const packs = new WeakMap<TlsCredentials, Uint8Array>();

function packed(credentials: TlsCredentials): Uint8Array {
  let chain = packs.get(credentials);
  if (chain === undefined) {
    chain = packBlocks(credentials.chain);
    packs.set(credentials, chain);
  }
  return chain;
}

/** A listening socket; it must be closed by its owner. */
export class TlsListening {
  readonly address: { readonly host: string; readonly port: number };
  readonly #id: number;

  /** @throws native_failed, whose message begins with the system's error number; argument_invalid, native_missing */
  constructor(options: TlsListenOptions, handler: TlsListenHandler) {
    const { credentials, handshake_ms, pending_max, pending_per_address_max } = options;
    const owner = theHub();
    const { id, ...address } = call('TLS listener', (native) =>
      native.tlsListen(options.host, options.port, packed(credentials), credentials.key, {
        sharesPort: options.sharesPort,
        handshakeMs: handshake_ms,
        pendingMax: pending_max,
        pendingPerAddressMax: pending_per_address_max,
        // Each session has up to two.
        connectionsMax: 2 * limits.sessions_max,
      }),
    );
    this.#id = id;
    this.address = address;
    owner.listeners.set(id, handler);
    owner.keepAlive();
  }

  setCredentials(credentials: TlsCredentials): void {
    call('TLS listener', (native) => native.tlsSetCredentials(this.#id, packed(credentials), credentials.key));
  }

  /** The handler's `closed` tells when the port is free. */
  close(): void {
    call('TLS listener', (native) => native.tlsUnlisten(this.#id));
  }
}

/** The kernel's view of a TCP connection: octets since it began, and what it has not sent yet. */
export interface TcpView {
  /** Smoothed over about eight acknowledgements. */
  readonly rtt_ms: number;
  readonly acked_bytes: number;
  readonly retransmitted_bytes: number;
  readonly sent_bytes: number;
  readonly unsent_bytes: number;
}

const tcpArray = new Float64Array(5);

/** One connection. It is there until its handler was told `closed`; after that every call but `destroy` throws `handle_closed`. */
export class TlsConnection {
  /** Exchanged as it changes hands. */
  handler: TlsHandler = deaf;
  readonly #hub: Hub;
  readonly #id: number;
  #isGone = false;

  /** Made by this file only. */
  constructor(owner: Hub, id: number) {
    this.#hub = owner;
    this.#id = id;
    owner.connections.set(id, this);
    owner.keepAlive();
  }

  /**
   * Takes a copy of a connected socket's descriptor and begins the handshake as the client. Who gave it closes its own, without
   * having read from it. @throws native_failed, argument_invalid, native_missing
   */
  static adopt(descriptor: number, credentials: TlsCredentials): TlsConnection {
    const owner = theHub();
    return new TlsConnection(
      owner,
      call(WHAT, (native) => native.tlsAdopt(descriptor, packed(credentials), credentials.key)),
    );
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** The certificates that the peer showed, DER, leaf first; the accepted connection's preface; `address:port` of both ends. Asked once. */
  takePeer(): { chain: Uint8Array[]; preface: Uint8Array; remote: string; local: string } {
    const { chain, ...rest } = call(WHAT, (native) => native.tlsPeer(this.#id));
    return { chain: unpackBlocks(chain), ...rest };
  }

  /** Accepted, and pending no more: it leaves the listener's count. */
  settle(): void {
    if (!this.#isGone) call(WHAT, (native) => native.tlsSettle(this.#id));
  }

  /** From here on the peer is read; `direct`: by this thread, which is sooner, for a connection of few octets that are waited for. */
  approve(direct: boolean): void {
    call(WHAT, (native) => native.tlsApprove(this.#id, direct));
  }

  /** Octets copied into `into`; 0: none now, `readable` will be told; -1: the connection has ended. */
  read(into: Uint8Array): number {
    return call(WHAT, (native) => native.tlsRead(this.#id, into));
  }

  /** Takes octets by copy, as a record [u8 kind][u24 length]; they leave with `flush`. Returns how many octets of frames (kind 0) are unsent. */
  write(kind: number, head: Uint8Array, body: Uint8Array | null): number {
    return call(WHAT, (native) => native.tlsWrite(this.#id, kind, head, body));
  }

  /** Octets as they are. */
  writeRaw(bytes: Uint8Array): void {
    call(WHAT, (native) => native.tlsWrite(this.#id, RAW, bytes, null));
  }

  flush(): void {
    call(WHAT, (native) => native.tlsFlush(this.#id));
  }

  /** Octets of frames that are unsent. With a mark: `writable` tells when there are no more than so many, unless that is so now. */
  unsent(mark: number | null): number {
    return this.#isGone ? 0 : call(WHAT, (native) => native.tlsUnsent(this.#id, mark));
  }

  /** Drops what has not begun to leave, sends one last record, and ends the connection in order; `closed` tells when. */
  end(kind: number, last: Uint8Array | null): void {
    if (!this.#isGone) call(WHAT, (native) => native.tlsEnd(this.#id, kind, last));
  }

  /** Ends it at once; `closed` tells when. Idempotent. */
  destroy(): void {
    if (!this.#isGone) call(WHAT, (native) => native.tlsDestroy(this.#id));
  }

  /** Why it ended, as far as is known now. */
  why(): TlsEnd {
    return call(WHAT, (native) => native.tlsWhy(this.#id));
  }

  /** Octets a second that the kernel lets leave at most; null: no bound. */
  pace(rate_bytes_per_s: number | null): void {
    if (!this.#isGone) call(WHAT, (native) => native.tlsPace(this.#id, rate_bytes_per_s ?? -1));
  }

  /** Has the path measured anew, as by a connection that begins, where the kernel's congestion control would need that (BBR). */
  restart(): void {
    if (!this.#isGone) call(WHAT, (native) => native.tlsRestart(this.#id));
  }

  /** Null when it is gone. */
  look(): TcpView | null {
    if (this.#isGone) return null;
    call(WHAT, (native) => native.tlsLook(this.#id, tcpArray));
    const at = (index: number): number => tcpArray[index] ?? 0;
    return { rtt_ms: at(0), acked_bytes: at(1), retransmitted_bytes: at(2), sent_bytes: at(3), unsent_bytes: at(4) };
  }

  /** For the hub: tells its owner, and lets go of the handle. */
  gone(): void {
    this.#hub.connections.delete(this.#id);
    try {
      this.handler.closed();
    } finally {
      this.#isGone = true;
      this.handler = deaf;
      if (hub === this.#hub) call(WHAT, (native) => native.tlsForget(this.#id));
      this.#hub.keepAlive();
    }
  }
}
