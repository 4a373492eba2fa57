/**
 * Sessions over TCP, from both ends: `TcpTransport` dials (Node connects, the addon takes over), `TcpAcceptor` makes sessions of the
 * connections that the listener hands it. Neither judges a certificate; each hands over pending sessions.
 */
import { connect as connectTcp, type Socket } from 'node:net';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { TlsConnection } from '../native-tls.ts';
import { encodeClose } from './reason.ts';
import type { Credentials, SamePeer, Session, Transport } from './session.ts';
import { systemRandom, systemTimers, type Timers } from './system.ts';
import { RecordKind } from './tcp-lane.ts';
import { decodePreface, encodePreface, SESSION_ID_BYTES } from './tcp-preface.ts';
import { TcpSession } from './tcp-session.ts';
import { addressPort, checkCredentials, endError, systemError, tcpError } from './tcp-tls.ts';

export interface TcpOptions {
  readonly timers?: Timers;
  readonly random?: Random;
  readonly handshake_ms?: number;
}

interface Target {
  readonly host: string;
  readonly port: number;
}

export class TcpTransport implements Transport {
  readonly name = 'tcp' as const;
  readonly #timers: Timers;
  readonly #random: Random;
  readonly #handshake_ms: number;
  readonly #sessions = new Map<Session, Promise<void>>();
  /** Ways to give up what is being dialed. */
  readonly #dialing = new Set<() => void>();
  #isClosed = false;

  constructor(options: TcpOptions = {}) {
    this.#timers = options.timers ?? systemTimers;
    this.#random = options.random ?? systemRandom;
    this.#handshake_ms = options.handshake_ms ?? limits.handshake_ms_max;
  }

  async dial(target: Target, credentials: Credentials, signal: AbortSignal, isSamePeer: SamePeer = async () => false, hasBulk = false): Promise<Session> {
    const id = this.#random.bytes(SESSION_ID_BYTES);
    const ahead = new Ahead(hasBulk ? (until) => this.#connect(target, credentials, until) : null);
    const urgent = await this.#connect(target, credentials, signal).catch((error: unknown) => {
      ahead.drop();
      throw error;
    });
    const { chain: peerChain, remote, local } = urgent.takePeer();
    sendPreface(urgent, encodePreface({ lane: 'urgent', session: id }));
    const gone = Promise.withResolvers<void>();
    const session: Session = new TcpSession({
      side: 'dialer',
      urgent,
      remote,
      local,
      peerChain,
      timers: this.#timers,
      handshake_ms: this.#handshake_ms,
      openBulk: async (signal) => {
        const bulk = (await ahead.take()) ?? (await this.#connect(target, credentials, signal));
        // The id goes to nobody but the peer that was judged. Its certificate may have been renewed meanwhile.
        const { chain } = bulk.takePeer();
        if (!sameLeaf(chain, peerChain) && !(await isSamePeer(chain))) {
          bulk.destroy();
          throw new SelvedgeError('network_unreachable', { peer: remote, why: 'the second connection led to another certificate' });
        }
        sendPreface(bulk, encodePreface({ lane: 'bulk', session: id }));
        return bulk;
      },
      hasBulk,
      onClosed: () => ahead.drop(),
      onGone: () => {
        this.#sessions.delete(session);
        gone.resolve();
      },
    });
    this.#sessions.set(session, gone.promise);
    return session;
  }

  /** Gives up what is being dialed, closes every session, and waits until the sockets are closed. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const giveUp of [...this.#dialing]) giveUp();
    const gone = [...this.#sessions.values()];
    for (const session of [...this.#sessions.keys()]) session.close('shutting_down', 'the transport closes');
    await Promise.all(gone);
  }

  /** A pending connection whose peer speaks fabric; nothing is left behind if it fails. */
  async #connect(target: Target, credentials: Credentials, signal: AbortSignal): Promise<TlsConnection> {
    const peer = addressPort(target.host, target.port);
    checkCredentials(credentials);
    const ms = this.#handshake_ms;
    return new Promise((resolve, reject) => {
      if (signal.aborted || this.#isClosed) return reject(abortError(peer));
      let connection: TlsConnection | null = null;
      // Paused, so that Node reads nothing of what is the addon's.
      const socket = connectTcp({ host: target.host, port: target.port }).pause();
      const settle = (error: SelvedgeError | null): void => {
        cancelTimer();
        signal.removeEventListener('abort', onAbort);
        this.#dialing.delete(onAbort);
        socket
          .off('error', onError)
          .on('error', () => {})
          .destroy();
        if (error === null && connection !== null) return resolve(connection);
        connection?.destroy();
        reject(error);
      };
      const onAbort = (): void => settle(abortError(peer));
      const onError = (error: Error): void => settle(tcpError(error, peer));
      const cancelTimer = this.#timers.after(ms, () =>
        settle(
          connection === null
            ? new SelvedgeError('network_unreachable', { peer, why: `no answer within ${ms} ms` })
            : new SelvedgeError('handshake_timeout', { peer, ms }),
        ),
      );
      const onConnect = (): void => {
        try {
          connection = TlsConnection.adopt(descriptorOf(socket), credentials);
        } catch (error) {
          return settle(tcpError(systemError(error), peer));
        }
        // Its descriptor is closed, the connection is not: the addon has a copy.
        socket.destroy();
        const adopted = connection;
        adopted.handler = { connected: () => settle(null), readable() {}, writable() {}, closed: () => settle(endError(adopted.why(), peer, false)) };
      };
      signal.addEventListener('abort', onAbort);
      this.#dialing.add(onAbort);
      socket.once('connect', onConnect).on('error', onError);
    });
  }
}

/** Node has no name for it in its types; it is there while the socket is. */
function descriptorOf(socket: Socket & { readonly _handle?: { readonly fd?: number } | null }): number {
  return socket._handle?.fd ?? -1;
}

const abortError = (peer: string): SelvedgeError => new SelvedgeError('network_unreachable', { peer, why: 'given up' });

/** With the first frames if they come in this turn of the event loop, else alone. */
function sendPreface(connection: TlsConnection, preface: Uint8Array): void {
  connection.writeRaw(preface);
  setImmediate(() => {
    if (!connection.isGone) connection.flush();
  });
}

/** Both showed a leaf, and the same. */
function sameLeaf(left: readonly Uint8Array[], right: readonly Uint8Array[]): boolean {
  return left[0] !== undefined && right[0] !== undefined && equalBytes(left[0], right[0]);
}

/** A bulk connection that is made before the session asks for it. It says nothing until then. */
class Ahead {
  readonly #giveUp = new AbortController();
  #connection: Promise<TlsConnection | null> | null;

  constructor(connect: ((until: AbortSignal) => Promise<TlsConnection>) | null) {
    this.#connection = connect?.(this.#giveUp.signal).catch(() => null) ?? null;
  }

  /** It is the caller's from now on; null: there is none, or it failed or has ended. */
  async take(): Promise<TlsConnection | null> {
    const connecting = this.#connection;
    this.#connection = null;
    const connection = await connecting;
    return connection?.isGone === false ? connection : null;
  }

  /** Nobody asked for it. */
  drop(): void {
    this.#giveUp.abort();
    void this.#connection?.then((connection) => connection?.destroy());
    this.#connection = null;
  }
}

export interface TcpAcceptorOptions extends TcpOptions {
  /** Hands over a pending session. */
  readonly onSession: (session: Session) => void;
}

/** A bulk connection that came before its session: the preface of the other one may have been lost once on the way. */
interface Early {
  readonly connection: TlsConnection;
  readonly chain: readonly Uint8Array[];
  readonly cancelTimer: () => void;
}

/**
 * Makes sessions of accepted connections, of which the handshake is over and the preface there. The listener bounds how many of them are
 * pending at once; here each waits for at most one partner, and for so long as a handshake may take.
 */
export class TcpAcceptor {
  readonly #options: TcpAcceptorOptions;
  readonly #timers: Timers;
  readonly #handshake_ms: number;
  readonly #sessions = new Map<string, TcpSession>();
  readonly #early = new Map<string, Early>();
  readonly #pending = new Set<TcpSession>();

  constructor(options: TcpAcceptorOptions) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#handshake_ms = options.handshake_ms ?? limits.handshake_ms_max;
  }

  accept(connection: TlsConnection): void {
    const { chain, preface, remote, local } = connection.takePeer();
    try {
      const { lane, session } = decodePreface(preface);
      const id = toHex(session);
      if (lane === 'urgent') this.#open(connection, { chain, remote, local }, id);
      else this.#join(connection, chain, id);
    } catch (error) {
      this.#refuse(connection, error);
    }
  }

  /** Ends what nobody has approved. Approved sessions belong to whoever approved them. */
  close(): void {
    for (const session of [...this.#pending]) session.close('shutting_down', 'the listener closes');
    for (const early of [...this.#early.values()]) early.connection.destroy();
  }

  #open(connection: TlsConnection, peer: { chain: Uint8Array[]; remote: string; local: string }, id: string): void {
    if (this.#sessions.has(id)) throw new SelvedgeError('frame_invalid', { why: 'session id in use' });
    const { chain, remote, local } = peer;
    const session: TcpSession = new TcpSession({
      side: 'acceptor',
      urgent: connection,
      remote,
      local,
      peerChain: chain,
      openBulk: null,
      timers: this.#timers,
      handshake_ms: this.#handshake_ms,
      onSettled: () => {
        this.#pending.delete(session);
        // Approval settles it too.
        if (session.isClosed) connection.settle();
      },
      onClosed: () => this.#sessions.delete(id),
    });
    this.#sessions.set(id, session);
    this.#pending.add(session);
    this.#options.onSession(session);
    const early = this.#early.get(id);
    if (early === undefined) return;
    this.#early.delete(id);
    early.cancelTimer();
    try {
      this.#join(early.connection, early.chain, id);
    } catch (error) {
      this.#refuse(early.connection, error);
    }
  }

  #join(connection: TlsConnection, chain: readonly Uint8Array[], id: string): void {
    const session = this.#sessions.get(id);
    if (session === undefined) {
      this.#keepEarly(connection, chain, id);
      return;
    }
    if (!sameLeaf(chain, session.peerChain) || !session.adoptBulk(connection)) throw strayConnection();
    connection.settle();
  }

  #keepEarly(connection: TlsConnection, chain: readonly Uint8Array[], id: string): void {
    if (this.#early.has(id)) throw strayConnection();
    const cancelTimer = this.#timers.after(this.#handshake_ms, () => connection.destroy());
    this.#early.set(id, { connection, chain, cancelTimer });
    connection.handler = {
      connected() {},
      readable() {},
      writable() {},
      closed: () => {
        cancelTimer();
        this.#early.delete(id);
      },
    };
  }

  /** Says why, and lets go. */
  #refuse(connection: TlsConnection, error: unknown): void {
    const { code, message } = error instanceof SelvedgeError ? error : new SelvedgeError('frame_invalid', { why: 'unexpected' });
    const cancel = this.#timers.after(limits.session_linger_ms_max, () => connection.destroy());
    connection.handler = { connected() {}, readable() {}, writable() {}, closed: cancel };
    connection.end(RecordKind.close, encodeClose(code, message));
  }
}

const strayConnection = (): SelvedgeError => new SelvedgeError('frame_invalid', { why: 'no session waits for this connection' });
