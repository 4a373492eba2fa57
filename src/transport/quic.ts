/**
 * QUIC as a `Session`: each flow is a stream of its own, flow 0 the first and most urgent one. The protocol runs in the addon's
 * I/O thread (`src/native.ts`); this file turns its events into the handler's calls and its ends into codes of the error table.
 */
import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { asSelvedgeError, codeOfWire, type ErrorCode, errorTable, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { type QuicAddress, type QuicConnection, type QuicConnectionHandler, type QuicEnd, QuicEndpoint, type QuicLane, quicLanes } from '../native.ts';
import { threadReaders } from './read-pace.ts';
import { boundReason, closeError } from './reason.ts';
import type { Credentials, LaneName, PathFacts, PathLaw, PathSample, Session, SessionHandler, SessionListener, Transport } from './session.ts';
import { systemClock } from './system.ts';

/** What every read lands in. Who keeps octets has them copied out of it; a channel that says little then holds little. */
const READ_BUFFER_BYTES = 256 * 1024;
/** Octets of one source that are handed over before other events get their turn. */
const READ_BYTES_PER_TURN = 1024 * 1024;
const RESET_KEY_BYTES = 32;

export interface QuicListenOptions {
  readonly host: string;
  readonly port: number;
  readonly credentials: Credentials;
  onSession(session: Session): void;
  /** 32 octets or more, kept over restarts (secret): old sessions then learn at once that this end restarted. Random if absent. */
  readonly resetKey?: Uint8Array;
  readonly congestion?: 'cubic' | 'bbr';
  /** For the handshake, and again until approval; default `limits.handshake_ms_max`. */
  readonly handshake_ms?: number;
}

/**
 * Listens on UDP. Closing stops that and ends what nobody has approved; approved sessions live on, and the socket with them.
 * @throws port_in_use, permission_denied, native_missing
 */
export async function listenQuic(options: QuicListenOptions): Promise<SessionListener> {
  const { address: host } = await resolve(options.host);
  const { port, credentials, resetKey = randomBytes(RESET_KEY_BYTES), congestion = 'cubic', handshake_ms = limits.handshake_ms_max } = options;
  const ended = Promise.withResolvers<void>();
  const sessions = new Set<QuicSession>();
  let closing = false;
  const endpoint = new QuicEndpoint(
    { host, port, credentials, resetKey, congestion, handshake_ms },
    {
      incoming(connection) {
        const session = new QuicSession(connection, 'acceptor', () => {
          sessions.delete(session);
          if (closing && sessions.size === 0) endpoint.close();
        });
        try {
          session.establish();
        } catch {
          // The peer was gone again before this was told: there is nobody to serve.
          return session.lost();
        }
        sessions.add(session);
        if (closing) session.close('shutting_down', 'the listener is closed');
        else options.onSession(session);
      },
      closed: () => ended.resolve(),
    },
  );
  return {
    name: 'quic',
    address: endpoint.address,
    setCredentials: (fresh) => endpoint.listen(fresh),
    async close() {
      if (closing) return;
      closing = true;
      endpoint.listen(null);
      for (const session of sessions) if (!session.isApproved) session.close('shutting_down', 'the listener closes');
      if (sessions.size > 0) return;
      endpoint.close();
      await ended.promise;
    },
  };
}

export type QuicDialOptions = Pick<QuicListenOptions, 'congestion' | 'handshake_ms'>;

/** Dials over QUIC; one endpoint (socket and thread) for each address family, made when first needed. */
export class QuicTransport implements Transport {
  readonly name = 'quic';
  readonly #endpoints = new Map<4 | 6, Dialing>();
  readonly #options: QuicDialOptions;
  #closed = false;

  constructor(options: QuicDialOptions = {}) {
    this.#options = options;
  }

  async dial(target: { host: string; port: number }, credentials: Credentials, signal: AbortSignal): Promise<Session> {
    const peer = addressText(target);
    if (signal.aborted) throw abortError(signal, peer);
    const { address, family } = await resolve(target.host);
    if (signal.aborted) throw abortError(signal, peer);
    if (this.#closed) throw new SelvedgeError('handle_closed', { what: 'QUIC transport' });
    const { endpoint, sessions } = this.#endpoint(family);
    const done = Promise.withResolvers<Session>();
    let session: QuicSession | null = null;
    const connection = endpoint.dial({ host: address, port: target.port }, credentials, {
      ...ignoring,
      connected() {
        if (!session) return;
        try {
          session.establish();
          done.resolve(session);
        } catch (error) {
          session.lost();
          done.reject(error);
        }
      },
      closed(end) {
        session?.lost();
        done.reject(dialError(end, peer));
      },
    });
    session = new QuicSession(connection, 'dialer', () => {
      if (session) sessions.delete(session);
      endpoint.keepAlive(sessions.size > 0);
    });
    sessions.add(session);
    endpoint.keepAlive(true);
    const abort = (): void => {
      session?.close('session_closed', 'dialing was given up');
      done.reject(abortError(signal, peer));
    };
    signal.addEventListener('abort', abort, { once: true });
    try {
      return await done.promise;
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Moves to another local port, as a roaming machine would; live sessions migrate. */
  rebind(family: 4 | 6): void {
    this.#endpoints.get(family)?.endpoint.rebind({ host: anyAddress(family), port: 0 });
  }

  /** Closes every session and waits until the sockets are closed. */
  async close(): Promise<void> {
    this.#closed = true;
    const endpoints = [...this.#endpoints.values()];
    this.#endpoints.clear();
    for (const { endpoint, sessions } of endpoints) {
      for (const session of sessions) session.close('shutting_down', 'the transport closes');
      endpoint.keepAlive(true);
      endpoint.close();
    }
    await Promise.all(endpoints.map(({ ended }) => ended));
  }

  #endpoint(family: 4 | 6): Dialing {
    const known = this.#endpoints.get(family);
    if (known) return known;
    const ended = Promise.withResolvers<void>();
    const endpoint = new QuicEndpoint(
      { host: anyAddress(family), port: 0, credentials: null, resetKey: randomBytes(RESET_KEY_BYTES), ...this.#options },
      { incoming: (connection) => connection.close(errorTable.session_closed.wire, boundReason('not a listener')), closed: () => ended.resolve() },
    );
    const made = { endpoint, ended: ended.promise, sessions: new Set<QuicSession>() };
    this.#endpoints.set(family, made);
    return made;
  }
}

let readBuffer: Uint8Array | null = null;

const ignoring: QuicConnectionHandler = { connected() {}, readable() {}, ready() {}, writable() {}, datagrams() {}, finished() {}, closed() {} };

interface Dialing {
  readonly endpoint: QuicEndpoint;
  readonly ended: Promise<void>;
  readonly sessions: Set<QuicSession>;
}

type State = 'dialing' | 'pending' | 'open' | 'closed';

class QuicSession implements Session {
  readonly transport = 'quic';
  readonly lead_ms = limits.pace_lead_ms;
  readonly side: 'dialer' | 'acceptor';
  readonly #connection: QuicConnection;
  readonly #onEnd: () => void;
  readonly #reads = threadReaders.add();
  #state: State = 'dialing';
  #finishing = false;
  #handler: SessionHandler | null = null;
  /** Why it ended: the cause of what `approve` throws then. */
  #ended: SelvedgeError | null = null;
  #remote = '';
  #local = '';
  #peerChain: readonly Uint8Array[] = [];
  #sent_bytes = 0;
  #received_bytes = 0;
  #lastFacts: PathFacts = noFacts;

  constructor(connection: QuicConnection, side: 'dialer' | 'acceptor', onEnd: () => void) {
    this.#connection = connection;
    this.side = side;
    this.#onEnd = onEnd;
  }

  get remote(): string {
    return this.#remote;
  }

  get local(): string {
    return this.#local;
  }

  get peerChain(): readonly Uint8Array[] {
    return this.#peerChain;
  }

  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  get isApproved(): boolean {
    return this.#state === 'open';
  }

  /** The handshake is done: pending from here on. */
  establish(): void {
    this.#state = 'pending';
    this.#remote = addressText(this.#connection.remote);
    this.#local = addressText(this.#connection.local);
    this.#peerChain = this.#connection.takePeerChain();
    this.#connection.handler = { ...ignoring, closed: (end) => this.#end(endError(end, this.#remote)) };
  }

  /** It ended before it was up. */
  lost(): void {
    this.#state = 'closed';
    this.#onEnd();
  }

  approve(handler: SessionHandler): void {
    if (this.#state !== 'pending') throw new SelvedgeError('handle_closed', { what: `pending session with ${this.#remote}` }, { cause: this.#ended });
    this.#state = 'open';
    this.#handler = handler;
    this.#connection.handler = {
      connected() {},
      readable: (source) => this.#readInTurn(source),
      ready: (lane) => this.#tellReady(lane === quicLanes.urgent ? 'urgent' : 'bulk'),
      writable: (flow) => handler.writable(flow),
      datagrams: () => this.#readDatagrams(),
      finished: () => handler.finished(),
      closed: (end) => this.#end(endError(end, this.#remote)),
    };
    this.#connection.approve();
  }

  ready(lane: LaneName): boolean {
    return this.#state === 'open' && !this.#finishing && this.#connection.ready(laneOf(lane));
  }

  write(flow: number, lane: LaneName, priority: number, head: Uint8Array, body: Uint8Array | null): boolean {
    if (this.#state !== 'open' || this.#finishing) return false;
    this.#sent_bytes += head.length + (body?.length ?? 0);
    return this.#connection.write(flow, laneOf(lane), priority, head, body);
  }

  endFlow(flow: number): void {
    if (this.#state === 'open' && !this.#finishing) this.#connection.endFlow(flow);
  }

  datagram(bytes: Uint8Array): boolean {
    if (this.#state !== 'open' || this.#finishing || bytes.length > limits.datagram_bytes_max || !this.#connection.datagram(bytes)) return false;
    this.#sent_bytes += bytes.length;
    return true;
  }

  get datagramBytesMax(): number {
    return this.#state === 'open' ? Math.min(this.#connection.datagramBytesMax, limits.datagram_bytes_max) : 0;
  }

  facts(): PathFacts {
    if (this.#state === 'pending' || this.#state === 'open') this.#lastFacts = pathFacts(this.#connection);
    return { ...this.#lastFacts, sent_bytes: this.#sent_bytes, received_bytes: this.#received_bytes };
  }

  get silent_ms(): number {
    return this.#state === 'pending' || this.#state === 'open' ? this.#connection.silent_ms : this.#lastFacts.silent_ms;
  }

  sample(): PathSample | null {
    if (this.#state !== 'open') return { rtt_min_ms: null, rtt_latest_ms: null, acked_bytes: 0, lost_bytes: 0, sent_bytes: 0, held_back_bytes: 0 };
    const { rtt_min_ms, rtt_latest_ms, ...octets } = this.#connection.sample();
    return { rtt_min_ms: rtt_min_ms < 0 ? null : rtt_min_ms, rtt_latest_ms: rtt_latest_ms < 0 ? null : rtt_latest_ms, ...octets };
  }

  govern(law: PathLaw | null): void {
    if (this.#state === 'open') this.#connection.govern(law);
  }

  finish(): void {
    if (this.#state !== 'open' || this.#finishing) return;
    this.#finishing = true;
    this.#connection.finish();
  }

  close(code: ErrorCode, reason: string): void {
    if (this.#state === 'closed') return;
    this.facts();
    this.#connection.close(errorTable[code].wire, boundReason(reason));
    this.#end(closeError(code, reason, this.#remote));
  }

  #end(error: SelvedgeError): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#ended = error;
    const handler = this.#handler;
    this.#handler = null;
    this.#onEnd();
    if (handler) queueMicrotask(() => handler.closed(error));
  }

  /** Room may have been used up again by what was told just before. */
  #tellReady(lane: LaneName): void {
    if (this.ready(lane)) this.#handler?.ready(lane);
  }

  /** Something has come on a source; what is gathered is told of once. */
  #readInTurn(source: number): void {
    const wait_ms = this.#reads.wait_ms(source, systemClock.now());
    if (wait_ms === 0) this.#read(source);
    else setTimeout(() => this.#read(source), wait_ms);
  }

  /** Hands over what has come on a source, at most so much a turn that other sessions get theirs. */
  #read(source: number): void {
    for (let total = 0; this.#state === 'open' && this.#handler; ) {
      if (total >= READ_BYTES_PER_TURN) {
        setImmediate(() => this.#read(source));
        return;
      }
      readBuffer ??= new Uint8Array(READ_BUFFER_BYTES);
      const count = this.#connection.read(source, readBuffer);
      if (count === 0) return this.#reads.found(total);
      if (count < 0) {
        this.#reads.sourceEnded(source);
        this.#handler.sourceEnd(source);
        return;
      }
      total += count;
      this.#received_bytes += count;
      const bytes = this.#handler.keepsNothing ? readBuffer.subarray(0, count) : readBuffer.slice(0, count);
      this.#handler.data(source, bytes);
    }
  }

  #readDatagrams(): void {
    while (this.#state === 'open') {
      const bytes = this.#connection.takeDatagram();
      if (!bytes) return;
      this.#received_bytes += bytes.length;
      this.#handler?.datagram(bytes);
    }
  }
}

function laneOf(lane: LaneName): QuicLane {
  return lane === 'urgent' ? quicLanes.urgent : quicLanes.bulk;
}

const noFacts: PathFacts = {
  rtt_ms: null,
  rtt_min_ms: null,
  loss_part: null,
  mtu_bytes: null,
  in_flight_bytes: null,
  acked_bytes: null,
  unsent_bytes: 0,
  congestion_window_bytes: null,
  sent_bytes: 0,
  received_bytes: 0,
  silent_ms: 0,
};

function pathFacts(connection: QuicConnection): PathFacts {
  const { sent_packets, lost_packets, datagrams_dropped: _dropped, ...facts } = connection.facts();
  return { ...facts, loss_part: sent_packets === 0 ? null : lost_packets / sent_packets };
}

/** The end of a dial that never came up. */
function dialError(end: QuicEnd, peer: string): SelvedgeError {
  if (end.kind === 'silent') return new SelvedgeError('network_unreachable', { peer, why: `no answer over UDP in ${limits.handshake_ms_max} ms` });
  if (end.kind === 'transport') return new SelvedgeError('tls_handshake_failed', { peer, why: end.why });
  return endError(end, peer);
}

function endError(end: QuicEnd, peer: string): SelvedgeError {
  switch (end.kind) {
    case 'application':
      return closeError(codeOfWire(end.code), end.why, peer);
    case 'tls':
      return new SelvedgeError('tls_handshake_failed', { peer, why: end.why });
    case 'transport':
      return new SelvedgeError('frame_invalid', { peer, why: end.why });
    case 'reset':
      return new SelvedgeError('network_unreachable', { peer, why: 'it restarted and does not know this session any more' });
    case 'silent':
      return new SelvedgeError('network_unreachable', { peer, why: `nothing heard for ${limits.quic_idle_ms_max} ms` });
    case 'handshake_timeout':
      return new SelvedgeError('handshake_timeout', { peer, ms: limits.handshake_ms_max });
    case 'unreachable':
      return new SelvedgeError('network_unreachable', { peer, why: end.why });
    case 'endpoint':
      return new SelvedgeError('session_closed', { peer, why: end.why });
  }
}

function abortError(signal: AbortSignal, peer: string): SelvedgeError {
  return asSelvedgeError(signal.reason, 'network_unreachable', { peer });
}

async function resolve(host: string): Promise<{ address: string; family: 4 | 6 }> {
  const family = isIP(host);
  if (family === 4 || family === 6) return { address: host, family };
  try {
    const found = await lookup(host);
    return { address: found.address, family: found.family === 6 ? 6 : 4 };
  } catch (error) {
    throw new SelvedgeError('network_unreachable', { peer: host, why: error instanceof Error ? error.message : String(error) }, { cause: error });
  }
}

function anyAddress(family: 4 | 6): string {
  return family === 6 ? '::' : '0.0.0.0';
}

function addressText(address: QuicAddress): string {
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}
