/**
 * Where a node or tower can be reached: one TCP port for fabric and API, and a UDP port for QUIC. QUIC comes in as a function, so that
 * nothing here loads the native part.
 */
import type { TLSSocket } from 'node:tls';
import type { Watched } from '../identity/expiry.ts';
import type { Credentials, Session, SessionListener } from './session.ts';
import { listenError, listenTcp, type TcpListenOptions } from './tcp-listener.ts';

export interface QuicListenOptions {
  readonly host: string;
  readonly port: number;
  readonly credentials: Credentials;
  readonly onSession: (session: Session) => void;
  readonly resetKey?: Uint8Array;
}
export type ListenQuic = (options: QuicListenOptions) => Promise<SessionListener>;

export interface ListenOptions extends Pick<TcpListenOptions, 'timers' | 'handshake_ms' | 'pending_max' | 'pending_per_address_max'> {
  readonly host: string;
  readonly tcpPort: number;
  /** Null: no QUIC. */
  readonly udpPort: number | null;
  readonly credentials: Credentials;
  /** What HTTP is shown that does not ask for the cluster's certificate; absent: `credentials`. */
  readonly httpCredentials?: Credentials;
  /** Pending sessions of either transport. */
  readonly onSession: (session: Session) => void;
  readonly onHttp: ((socket: TLSSocket) => void) | null;
  readonly listenQuic: ListenQuic | null;
  readonly statelessResetKey?: Uint8Array;
}

/** What HTTP is shown in the place of the cluster's certificate, and what becomes of it. */
export interface ServerCertificate {
  readonly credentials: Credentials;
  /** For the warnings of status and log. */
  readonly watched: readonly Watched[];
  /** Tells what is to be shown instead, from now on. */
  watch(onChange: (credentials: Credentials) => void): void;
  close(): void;
}

export interface Listener {
  readonly tcp: { readonly host: string; readonly port: number };
  readonly udp: { readonly host: string; readonly port: number } | null;
  /** For sessions that begin from now on. */
  setCredentials(credentials: Credentials): void;
  /** For HTTP connections that begin from now on. @throws certificate_invalid */
  setHttpCredentials(credentials: Credentials): void;
  /** Stops listening and ends what nobody has approved; approved sessions live on. */
  close(): Promise<void>;
}

/** Both ports or none. @throws port_in_use, permission_denied, argument_invalid */
export async function listen(options: ListenOptions): Promise<Listener> {
  const { host, tcpPort, udpPort, credentials, onSession, onHttp, listenQuic, statelessResetKey } = options;
  const tcp = await listenTcp({ ...options, host, port: tcpPort, credentials, onSession, onHttp });
  let quic: SessionListener | null = null;
  if (udpPort !== null && listenQuic !== null) {
    try {
      quic = await listenQuic({ host, port: udpPort, credentials, onSession, ...(statelessResetKey === undefined ? {} : { resetKey: statelessResetKey }) });
    } catch (error) {
      await tcp.close();
      throw listenError(error, 'UDP', host, udpPort);
    }
  }
  return {
    tcp: tcp.address,
    udp: quic?.address ?? null,
    setCredentials(next) {
      tcp.setCredentials(next);
      quic?.setCredentials(next);
    },
    setHttpCredentials: (next) => tcp.setHttpCredentials(next),
    async close() {
      await quic?.close();
      await tcp.close();
    },
  };
}
