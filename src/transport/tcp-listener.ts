/**
 * One TCP port for fabric and API. TLS 1.3 on everything; the ALPN of the first message decides: `selvedge/1` becomes a session, anything
 * else goes to Node and the HTTP server. There `selvedge-http/1` is shown the cluster's certificate, and whoever does not ask for that the one of HTTP, where there
 * is another. The addon listens, and bounds who has not shown anything yet: how many, how many from one
 * address, how long.
 */
import { lookup } from 'node:dns/promises';
import { Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { addressGroup } from './address-group.ts';
import { TlsListening } from '../native-tls.ts';
import { CLUSTER_HTTP_ALPN, type Credentials, type Session, type SessionListener } from './session.ts';
import { systemTimers, type Timers } from './system.ts';
import { TcpAcceptor } from './tcp.ts';
import { checkCredentials, httpContextOf, secureContextOf, systemError } from './tcp-tls.ts';

export interface TcpListenOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly credentials: Credentials;
  /** What HTTP is shown that does not ask for the cluster's certificate; absent: `credentials`. */
  readonly httpCredentials?: Credentials;
  readonly onSession: (session: Session) => void;
  /** Takes a connection for an `http.Server`, by `emit('connection', socket)`. Null: fabric only. */
  readonly onHttp: ((socket: TLSSocket) => void) | null;
  readonly timers?: Timers;
  readonly handshake_ms?: number;
  readonly pending_max?: number;
  readonly pending_per_address_max?: number;
}

export interface TcpSessionListener extends SessionListener {
  /** For HTTP connections that begin from now on. @throws certificate_invalid */
  setHttpCredentials(credentials: Credentials): void;
}

/** @throws port_in_use, permission_denied, argument_invalid */
export async function listenTcp(options: TcpListenOptions): Promise<TcpSessionListener> {
  try {
    const { address } = await lookup(options.host);
    return new TcpListener(options, address);
  } catch (error) {
    throw listenError(systemError(error), 'TCP', options.host, options.port);
  }
}

const HTTP_ALPN = 'http/1.1';

class TcpListener implements TcpSessionListener {
  readonly name = 'tcp' as const;
  readonly #options: TcpListenOptions;
  readonly #listening: TlsListening;
  readonly #acceptor: TcpAcceptor;
  readonly #closed = Promise.withResolvers<void>();
  /** TLS with Node, not finished; and what the HTTP server has. */
  readonly #greeting = new Set<TLSSocket>();
  readonly #greetingByAddress = new Map<string, number>();
  readonly #http = new Set<TLSSocket>();
  readonly #httpByAddress = new Map<string, number>();
  /** The cluster's certificate; and what HTTP is shown instead, if anything. */
  #context: SecureContext;
  #httpContext: SecureContext | null;
  #closing = false;

  constructor(options: TcpListenOptions, host: string) {
    const { credentials, port, onHttp, onSession, timers = systemTimers, handshake_ms = limits.handshake_ms_max } = options;
    const { pending_max = limits.pending_sessions_max, pending_per_address_max = limits.pending_sessions_per_address_max } = options;
    this.#options = options;
    checkCredentials(credentials);
    this.#context = secureContextOf(credentials);
    this.#httpContext = options.httpCredentials === undefined ? null : httpContextOf(options.httpCredentials);
    this.#acceptor = new TcpAcceptor({ timers, handshake_ms, onSession });
    this.#listening = new TlsListening(
      { host, port, credentials, sharesPort: onHttp !== null, handshake_ms, pending_max, pending_per_address_max },
      {
        incoming: (connection) => {
          if (this.#closing) connection.destroy();
          else this.#acceptor.accept(connection);
        },
        foreign: (descriptor, hello) => this.#secure(new Socket({ fd: descriptor, readable: true, writable: true }), hello),
        closed: () => this.#closed.resolve(),
      },
    );
  }

  get address(): { host: string; port: number } {
    return this.#listening.address;
  }

  setCredentials(credentials: Credentials): void {
    checkCredentials(credentials);
    this.#context = secureContextOf(credentials);
    this.#listening.setCredentials(credentials);
  }

  setHttpCredentials(credentials: Credentials): void {
    this.#httpContext = httpContextOf(credentials);
  }

  async close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = true;
      this.#acceptor.close();
      for (const socket of [...this.#greeting, ...this.#http]) socket.destroy();
      this.#listening.close();
    }
    await this.#closed.promise;
  }

  /** What was read of it goes back, for Node's TLS to begin with. Who has not finished the handshake is bounded as those of fabric are. */
  #secure(raw: Socket, hello: Uint8Array): void {
    raw.on('error', () => {});
    const { timers = systemTimers, handshake_ms = limits.handshake_ms_max } = this.#options;
    const { pending_max = limits.pending_sessions_max, pending_per_address_max = limits.pending_sessions_per_address_max } = this.#options;
    const address = addressGroup(raw.remoteAddress ?? '');
    if (this.#closing || this.#greeting.size >= pending_max || (this.#greetingByAddress.get(address) ?? 0) >= pending_per_address_max) {
      raw.resetAndDestroy();
      return;
    }
    raw.setNoDelay(true);
    raw.unshift(hello);
    const cluster = this.#context;
    const socket: TLSSocket = new TLSSocket(raw, {
      isServer: true,
      secureContext: this.#httpContext ?? cluster,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNCallback: ({ protocols }) => {
        if (!protocols.includes(CLUSTER_HTTP_ALPN)) return protocols.includes(HTTP_ALPN) ? HTTP_ALPN : undefined;
        socket.setKeyCert(cluster);
        return CLUSTER_HTTP_ALPN;
      },
    });
    // Each error comes with the end of the socket, which is what counts here.
    socket.on('error', () => {});
    const cancel = timers.after(handshake_ms, () => socket.destroy());
    const settled = (): void => {
      cancel();
      if (this.#greeting.delete(socket)) add(this.#greetingByAddress, address, -1);
    };
    this.#greeting.add(socket);
    add(this.#greetingByAddress, address, 1);
    socket.once('close', settled);
    socket.once('secure', () => {
      settled();
      this.#handToHttp(socket, address);
    });
  }

  #handToHttp(socket: TLSSocket, address: string): void {
    const { onHttp } = this.#options;
    const fromAddress = this.#httpByAddress.get(address) ?? 0;
    if (onHttp === null || this.#http.size >= limits.api_connections_max || fromAddress >= limits.api_connections_per_address_max) {
      socket.destroy();
      return;
    }
    this.#http.add(socket);
    add(this.#httpByAddress, address, 1);
    socket.once('close', () => {
      this.#http.delete(socket);
      add(this.#httpByAddress, address, -1);
    });
    onHttp(socket);
  }
}

/** A count by name that forgets names without any. */
function add(counts: Map<string, number>, name: string, by: 1 | -1): void {
  const count = (counts.get(name) ?? 0) + by;
  if (count > 0) counts.set(name, count);
  else counts.delete(name);
}

/** Why a port could not be had. */
export function listenError(error: unknown, proto: 'TCP' | 'UDP', address: string, port: number): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  const code = error instanceof Error && 'code' in error ? error.code : '';
  const cause = { cause: error };
  if (code === 'EADDRINUSE') return new SelvedgeError('port_in_use', { proto, port, address }, cause);
  if (code === 'EACCES' || code === 'EPERM') {
    return new SelvedgeError(
      'permission_denied',
      { what: `listening on ${proto} port ${port} of ${address} (below 1024 it takes CAP_NET_BIND_SERVICE)` },
      cause,
    );
  }
  const why = code === 'EADDRNOTAVAIL' ? `this host has no address ${address}` : error instanceof Error ? error.message : String(error);
  return new SelvedgeError('argument_invalid', { name: `${proto} listen address`, why }, cause);
}
