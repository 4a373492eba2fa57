/**
 * Somebody who shows chains, as a dialer and as a listener, over QUIC and TCP: our own transports where they are willing to show them, and on TCP
 * OpenSSL for what they are not. What became of it is what the other end said or did.
 */
import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { connect as connectTls, createSecureContext, type SecureContext, TLSSocket } from 'node:tls';
import { SelvedgeError } from '../../src/base/errors.ts';
import { encodeHello } from '../../src/channel/hello.ts';
import { listen } from '../../src/transport/listener.ts';
import { listenQuic, QuicTransport } from '../../src/transport/quic.ts';
import { CONTROL_FLOW, type Credentials, FABRIC_ALPN, type Session, type SessionHandler } from '../../src/transport/session.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { CLUSTER, NODE } from '../unit/identity/forge.ts';
import { helloOf } from './attacker.ts';
import type { ScenarioTransport } from './hosts.ts';

/** `unshown`: no stack at hand would show it. */
export type Outcome = 'accepted' | 'unshown' | SelvedgeError['code'];

const never = new AbortController().signal;
const quiet: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };

/** Says hello as whoever the leaf names, and hears whether it is taken or why not. */
function greeting(session: Session, name: { site: string; node: string }): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    try {
      session.approve({ ...quiet, data: () => resolve('accepted'), closed: ({ code }) => resolve(code) });
    } catch (error) {
      // It was closed before: the reason is the cause.
      if (!(error instanceof SelvedgeError && error.cause instanceof SelvedgeError)) return reject(error);
      return resolve(error.cause.code);
    }
    session.write(CONTROL_FLOW, 'urgent', 100, encodeHello('hello', helloOf({ cluster: CLUSTER, ...name })), null);
  });
}

export class Presenter {
  readonly #transports = { quic: new QuicTransport(), tcp: new TcpTransport() };

  async close(): Promise<void> {
    await Promise.all([this.#transports.quic.close(), this.#transports.tcp.close()]);
  }

  /** Dials. */
  async dial(transport: ScenarioTransport, port: number, credentials: Credentials): Promise<Outcome> {
    try {
      const session = await this.#transports[transport].dial({ host: '127.0.0.1', port }, credentials, never);
      const outcome = await greeting(session, nameIn(credentials));
      session.close('session_closed', 'seen');
      return outcome;
    } catch (error) {
      if (!(error instanceof SelvedgeError)) throw error;
      if (!isOwnRefusal(error)) return error.code;
      return transport === 'tcp' ? await dialWithOpenSsl(port, credentials) : 'unshown';
    }
  }
}

/** Our own stack would not show it: the code of a caller's mistake, not of a peer. */
function isOwnRefusal({ code, facts }: SelvedgeError): boolean {
  return code === 'argument_invalid' || (code === 'certificate_invalid' && facts.peer === 'this node');
}

function nameIn({ chain: [leaf] }: Credentials): { site: string; node: string } {
  const match = /spiffe:\/\/c1\/site\/([a-z0-9-]+)\/node\/([0-9a-f]{12}|tower)/.exec(Buffer.from(leaf ?? []).toString('latin1'));
  return { site: match?.[1] ?? 's1', node: match?.[2] ?? NODE };
}

/** Not with a key that the other end asks for no signature of: nothing would be shown then. */
function openSslContext({ chain, key }: Credentials): SecureContext | null {
  if (createPrivateKey({ key: Buffer.from(key), format: 'der', type: 'pkcs8' }).asymmetricKeyDetails?.namedCurve !== 'prime256v1') return null;
  const pem = (label: string, der: Uint8Array): string => `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64')}\n-----END ${label}-----\n`;
  try {
    return createSecureContext({ cert: chain.map((der) => pem('CERTIFICATE', der)).join(''), key: pem('PRIVATE KEY', key), minVersion: 'TLSv1.3', ca: [] });
  } catch {
    return null;
  }
}

/** As the other end of TLS 1.3 sees it: it believes the handshake done, and then hears an alert. */
async function outcomeOf(socket: TLSSocket): Promise<Outcome> {
  return await new Promise((resolve) => {
    socket.on('error', (error: Error & { readonly code?: string }) =>
      resolve(error.code?.startsWith('ERR_SSL') ? 'tls_handshake_failed' : 'network_unreachable'),
    );
    socket.once('data', () => resolve('accepted')).once('close', () => resolve('session_closed'));
  });
}

async function dialWithOpenSsl(port: number, credentials: Credentials): Promise<Outcome> {
  const secureContext = openSslContext(credentials);
  if (secureContext === null) return 'unshown';
  const socket = connectTls({ host: '127.0.0.1', port, secureContext, rejectUnauthorized: false, ALPNProtocols: [FABRIC_ALPN] });
  const outcome = await outcomeOf(socket);
  socket.destroy();
  return outcome;
}

/** A place to be dialed at, where one chain is shown. */
export interface Stand {
  readonly port: number;
  /** Of the next one that dials; it never comes where TLS has ended it. */
  readonly outcome: Promise<Outcome>;
  close(): Promise<void>;
}

/** Null where no stack at hand would show it. */
export async function stand(transport: ScenarioTransport, credentials: Credentials): Promise<Stand | null> {
  const outcome = Promise.withResolvers<Outcome>();
  const onSession = (session: Session): void => {
    void new Promise<Outcome>((resolve) => session.approve({ ...quiet, data: () => resolve('accepted'), closed: ({ code }) => resolve(code) })).then(
      (heard) => {
        session.close('session_closed', 'seen');
        outcome.resolve(heard);
      },
    );
  };
  try {
    if (transport === 'quic') {
      const listener = await listenQuic({ host: '127.0.0.1', port: 0, credentials, onSession });
      return { port: listener.address.port, outcome: outcome.promise, close: () => listener.close() };
    }
    const listener = await listen({ host: '127.0.0.1', tcpPort: 0, udpPort: null, credentials, onSession, onHttp: null, listenQuic: null });
    return { port: listener.tcp.port, outcome: outcome.promise, close: () => listener.close() };
  } catch (error) {
    if (!(error instanceof SelvedgeError) || !isOwnRefusal(error)) throw error;
    return transport === 'tcp' ? standWithOpenSsl(credentials) : null;
  }
}

async function standWithOpenSsl(credentials: Credentials): Promise<Stand | null> {
  const secureContext = openSslContext(credentials);
  if (secureContext === null) return null;
  const outcome = Promise.withResolvers<Outcome>();
  const server = createServer((raw) => {
    raw.on('error', () => {});
    const socket = new TLSSocket(raw, { isServer: true, secureContext, requestCert: true, rejectUnauthorized: false, ALPNProtocols: [FABRIC_ALPN] });
    void outcomeOf(socket).then(outcome.resolve);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { port: (server.address() as AddressInfo).port, outcome: outcome.promise, close: async () => void server.close() };
}
