/**
 * Sessions over TCP, from both ends: `TcpTransport` dials, `TcpAcceptor` makes sessions of the TLS connections that the listener
 * hands it. Neither judges a certificate; each hands over pending sessions.
 */
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes, toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { encodeClose } from './reason.ts';
import { type Credentials, FABRIC_ALPN, type Session, type Transport } from './session.ts';
import { systemRandom, systemTimers, type Timers } from './system.ts';
import { RecordKind } from './tcp-lane.ts';
import { decodePreface, encodePreface, readPreface, SESSION_ID_BYTES } from './tcp-preface.ts';
import { TcpSession } from './tcp-session.ts';
import { addressPort, presentedChain, remoteOf, secureContextOf, tcpError } from './tcp-tls.ts';

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

  async dial(target: Target, credentials: Credentials, signal: AbortSignal): Promise<Session> {
    const id = this.#random.bytes(SESSION_ID_BYTES);
    const urgent = await this.#connect(target, credentials, signal);
    const peerChain = chainOrDestroy(urgent);
    sendPreface(urgent, encodePreface({ lane: 'urgent', session: id }));
    const gone = Promise.withResolvers<void>();
    const session: Session = new TcpSession({
      side: 'dialer',
      urgent,
      peerChain,
      timers: this.#timers,
      handshake_ms: this.#handshake_ms,
      openBulk: async (signal) => {
        const bulk = await this.#connect(target, credentials, signal);
        // The id goes to nobody but the peer that was judged.
        if (!sameLeaf(chainOrDestroy(bulk), peerChain)) {
          bulk.destroy();
          throw new SelvedgeError('network_unreachable', { peer: remoteOf(urgent), why: 'the second connection led to another certificate' });
        }
        sendPreface(bulk, encodePreface({ lane: 'bulk', session: id }));
        return bulk;
      },
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

  /** A TLS connection whose peer speaks fabric, paused; nothing is left behind if it fails. */
  #connect(target: Target, credentials: Credentials, signal: AbortSignal): Promise<TLSSocket> {
    const peer = addressPort(target.host, target.port);
    const ms = this.#handshake_ms;
    return new Promise((resolve, reject) => {
      if (signal.aborted || this.#isClosed) return reject(abortError(peer));
      let connected = false;
      const socket = connectTls({
        host: target.host,
        port: target.port,
        secureContext: secureContextOf(credentials),
        ALPNProtocols: [FABRIC_ALPN],
        rejectUnauthorized: false,
      });
      const settle = (error: SelvedgeError | null): void => {
        cancelTimer();
        signal.removeEventListener('abort', onAbort);
        this.#dialing.delete(onAbort);
        socket.off('error', onError).off('close', onClose);
        // An error always comes with the end of the socket, which its next owner hears.
        socket.on('error', () => {});
        if (error === null) {
          resolve(socket);
          return;
        }
        socket.destroy();
        reject(error);
      };
      const onAbort = (): void => settle(abortError(peer));
      const onError = (error: Error): void => settle(tcpError(error, peer, false));
      const onClose = (): void => settle(new SelvedgeError('tls_handshake_failed', { peer, why: 'connection closed during the handshake' }));
      const cancelTimer = this.#timers.after(ms, () =>
        settle(
          connected
            ? new SelvedgeError('handshake_timeout', { peer, ms })
            : new SelvedgeError('network_unreachable', { peer, why: `no answer within ${ms} ms` }),
        ),
      );
      signal.addEventListener('abort', onAbort);
      this.#dialing.add(onAbort);
      socket
        .setNoDelay(true)
        .once('connect', () => {
          connected = true;
        })
        .once('secureConnect', () => {
          socket.pause();
          if (socket.alpnProtocol === FABRIC_ALPN) settle(null);
          else settle(new SelvedgeError('tls_handshake_failed', { peer, why: `peer does not speak ${FABRIC_ALPN}` }));
        })
        .on('error', onError)
        .on('close', onClose);
    });
  }
}

const abortError = (peer: string): SelvedgeError => new SelvedgeError('network_unreachable', { peer, why: 'given up' });

/** With the first frames if they come in this turn of the event loop, else alone. */
function sendPreface(socket: TLSSocket, preface: Uint8Array): void {
  socket.cork();
  socket.write(preface);
  setImmediate(() => socket.uncork());
}

function chainOrDestroy(socket: TLSSocket): Uint8Array[] {
  try {
    return presentedChain(socket);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Both showed a leaf, and the same. */
function sameLeaf(left: readonly Uint8Array[], right: readonly Uint8Array[]): boolean {
  return left[0] !== undefined && right[0] !== undefined && equalBytes(left[0], right[0]);
}

export interface TcpAcceptorOptions extends TcpOptions {
  /** Hands over a pending session. */
  readonly onSession: (session: Session) => void;
}

/** A bulk connection that came before its session: the preface of the other one may have been lost once on the way. */
interface Early {
  readonly socket: TLSSocket;
  readonly chain: readonly Uint8Array[];
  readonly hooks: AcceptHooks;
}

/** What the acceptor tells the owner of a connection's budget. Each may be called more than once. */
export interface AcceptHooks {
  /** It carries a session, which from now on has its own timer. */
  opened(): void;
  /** It is pending no more: a lane of an approved session, or refused, or closed. */
  settled(): void;
}

/**
 * Makes sessions of accepted TLS connections. The caller bounds how many connections are unsettled at once and for how long; here
 * each of them holds at most its preface, and waits for at most one partner.
 */
export class TcpAcceptor {
  readonly #options: TcpAcceptorOptions;
  readonly #sessions = new Map<string, TcpSession>();
  readonly #early = new Map<string, Early>();
  readonly #pending = new Set<TcpSession>();

  constructor(options: TcpAcceptorOptions) {
    this.#options = options;
  }

  /** Live sessions, pending ones included. */
  get sessions(): number {
    return this.#sessions.size;
  }

  /**
   * Takes a connection whose handshake is over and whose errors somebody hears. Whoever calls destroys the socket if it is not opened in time.
   */
  accept(socket: TLSSocket, hooks: AcceptHooks): void {
    let chain: Uint8Array[];
    try {
      chain = presentedChain(socket);
    } catch (error) {
      refuse(socket, hooks, error);
      return;
    }
    const stop = readPreface(socket, (bytes) => {
      socket.off('close', onClose);
      try {
        this.#pair(socket, chain, bytes, hooks);
      } catch (error) {
        refuse(socket, hooks, error);
      }
    });
    function onClose(): void {
      stop();
      hooks.settled();
    }
    socket.once('close', onClose);
  }

  /** Ends what nobody has approved. Approved sessions belong to whoever approved them. */
  close(): void {
    for (const session of [...this.#pending]) session.close('shutting_down', 'the listener closes');
    for (const early of [...this.#early.values()]) early.socket.destroy();
  }

  #pair(socket: TLSSocket, chain: readonly Uint8Array[], bytes: Uint8Array, hooks: AcceptHooks): void {
    const { lane, session } = decodePreface(bytes);
    const id = toHex(session);
    if (lane === 'urgent') this.#open(socket, chain, id, hooks);
    else this.#join(socket, chain, id, hooks);
  }

  #open(socket: TLSSocket, chain: readonly Uint8Array[], id: string, hooks: AcceptHooks): void {
    if (this.#sessions.has(id)) throw new SelvedgeError('frame_invalid', { why: 'session id in use' });
    const session: TcpSession = new TcpSession({
      side: 'acceptor',
      urgent: socket,
      peerChain: chain,
      openBulk: null,
      timers: this.#options.timers ?? systemTimers,
      handshake_ms: this.#options.handshake_ms ?? limits.handshake_ms_max,
      onSettled: () => {
        this.#pending.delete(session);
        hooks.settled();
      },
      onClosed: () => this.#sessions.delete(id),
    });
    this.#sessions.set(id, session);
    this.#pending.add(session);
    hooks.opened();
    this.#options.onSession(session);
    const early = this.#early.get(id);
    if (early === undefined) return;
    try {
      this.#join(early.socket, early.chain, id, early.hooks);
    } catch (error) {
      refuse(early.socket, early.hooks, error);
    }
  }

  #join(socket: TLSSocket, chain: readonly Uint8Array[], id: string, hooks: AcceptHooks): void {
    const session = this.#sessions.get(id);
    if (session === undefined) {
      this.#keepEarly(socket, chain, id, hooks);
      return;
    }
    if (!sameLeaf(chain, session.peerChain) || !session.adoptBulk(socket)) throw strayConnection();
    hooks.opened();
    hooks.settled();
  }

  #keepEarly(socket: TLSSocket, chain: readonly Uint8Array[], id: string, hooks: AcceptHooks): void {
    if (this.#early.has(id)) throw strayConnection();
    this.#early.set(id, {
      socket,
      chain,
      hooks: {
        opened: () => hooks.opened(),
        settled: () => {
          this.#early.delete(id);
          hooks.settled();
        },
      },
    });
    socket.once('close', () => {
      const early = this.#early.get(id);
      if (early?.socket === socket) early.hooks.settled();
    });
  }
}

const strayConnection = (): SelvedgeError => new SelvedgeError('frame_invalid', { why: 'no session waits for this connection' });

/** Says why, and lets go. */
function refuse(socket: TLSSocket, hooks: AcceptHooks, error: unknown): void {
  const { code, message } = error instanceof SelvedgeError ? error : new SelvedgeError('frame_invalid', { why: 'unexpected' });
  const words = encodeClose(code, message);
  socket.once('close', () => hooks.settled());
  socket.resume();
  socket.end(Buffer.concat([Uint8Array.of(RecordKind.close, 0, words.length >> 8, words.length & 0xff), words]));
}
