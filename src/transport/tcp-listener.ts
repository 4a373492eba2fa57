/**
 * One TCP port for fabric and API. TLS 1.3 on everything; the ALPN decides: `selvedge/1` becomes a session, `http/1.1` or none goes to
 * the HTTP server. It bounds who has not shown anything yet: how many, how many from one address, how long.
 */
import { createServer, type Server, type Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { addressGroup } from './address-group.ts';
import { type Credentials, FABRIC_ALPN, type Session, type SessionListener } from './session.ts';
import { systemTimers, type Timers } from './system.ts';
import { TcpAcceptor } from './tcp.ts';
import { secureContextOf } from './tcp-tls.ts';

export interface TcpListenOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly credentials: Credentials;
  readonly onSession: (session: Session) => void;
  /** Takes a connection for an `http.Server`, by `emit('connection', socket)`. Null: fabric only. */
  readonly onHttp: ((socket: TLSSocket) => void) | null;
  readonly timers?: Timers;
  readonly handshake_ms?: number;
  readonly pending_max?: number;
  readonly pending_per_address_max?: number;
}

/** @throws port_in_use, permission_denied, argument_invalid */
export async function listenTcp(options: TcpListenOptions): Promise<SessionListener> {
  const listener = new TcpListener(options);
  await listener.open();
  return listener;
}

/** The ALPN lists as they stand on the wire: each name behind its length. */
const FABRIC_ONLY = Buffer.from(`\x0a${FABRIC_ALPN}`);
const FABRIC_AND_HTTP = Buffer.from(`\x0a${FABRIC_ALPN}\x08http/1.1`);

class TcpListener implements SessionListener {
  readonly name = 'tcp' as const;
  readonly #options: TcpListenOptions;
  readonly #server: Server;
  readonly #acceptor: TcpAcceptor;
  readonly #timers: Timers;
  readonly #handshake_ms: number;
  /** Connections that are neither lanes of approved sessions nor handed to HTTP; and those of them that are no session yet. */
  readonly #pending = new Set<Socket>();
  readonly #unopened = new Set<Socket>();
  readonly #pendingByAddress = new Map<string, number>();
  readonly #http = new Set<TLSSocket>();
  readonly #httpByAddress = new Map<string, number>();
  #context: SecureContext;
  #address = { host: '', port: 0 };

  constructor(options: TcpListenOptions) {
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#handshake_ms = options.handshake_ms ?? limits.handshake_ms_max;
    this.#context = secureContextOf(options.credentials);
    this.#acceptor = new TcpAcceptor({ timers: this.#timers, handshake_ms: this.#handshake_ms, onSession: options.onSession });
    this.#server = createServer({ noDelay: true, pauseOnConnect: false }, (raw) => this.#accept(raw));
  }

  get address(): { host: string; port: number } {
    return this.#address;
  }

  async open(): Promise<void> {
    const { host, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error) => reject(listenError(error, 'TCP', host, port)));
      this.#server.listen({ host, port, exclusive: true }, resolve);
    });
    // Accepting may fail later (too many open files): the next one is accepted when it can be.
    this.#server.removeAllListeners('error').on('error', () => {});
    const address = this.#server.address();
    if (address !== null && typeof address === 'object') this.#address = { host: address.address, port: address.port };
  }

  setCredentials(credentials: Credentials): void {
    this.#context = secureContextOf(credentials);
  }

  async close(): Promise<void> {
    // Its callback waits for every connection, also those that are not ours any more; the port itself is free at once.
    this.#server.close();
    this.#acceptor.close();
    for (const socket of [...this.#unopened, ...this.#http]) socket.destroy();
  }

  #accept(raw: Socket): void {
    const address = addressGroup(raw.remoteAddress ?? '');
    const fromAddress = this.#pendingByAddress.get(address) ?? 0;
    const { pending_max = limits.pending_sessions_max, pending_per_address_max = limits.pending_sessions_per_address_max } = this.#options;
    if (this.#pending.size >= pending_max || fromAddress >= pending_per_address_max || this.#acceptor.sessions >= limits.sessions_max) {
      raw.on('error', () => {});
      raw.resetAndDestroy();
      return;
    }
    const socket = this.#secure(raw);
    const cancel = this.#timers.after(this.#handshake_ms, () => socket.destroy());
    add(this.#pendingByAddress, address, 1);
    const opened = (): void => {
      cancel();
      this.#unopened.delete(socket);
    };
    const settled = (): void => {
      opened();
      if (!this.#pending.delete(socket)) return;
      add(this.#pendingByAddress, address, -1);
    };
    this.#pending.add(socket);
    this.#unopened.add(socket);
    socket.once('close', settled);
    socket.once('secure', () => {
      if (socket.alpnProtocol === FABRIC_ALPN) this.#acceptor.accept(socket, { opened, settled });
      else this.#handToHttp(socket, address, settled);
    });
  }

  #secure(raw: Socket): TLSSocket {
    const socket = new TLSSocket(raw, {
      isServer: true,
      secureContext: this.#context,
      requestCert: true,
      rejectUnauthorized: false,
      ALPNProtocols: this.#options.onHttp === null ? FABRIC_ONLY : FABRIC_AND_HTTP,
    });
    // Each error comes with the end of the socket, which is what counts here.
    socket.on('error', () => {});
    return socket;
  }

  #handToHttp(socket: TLSSocket, address: string, settled: () => void): void {
    settled();
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
