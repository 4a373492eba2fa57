/**
 * The yardstick: `node:tls` with mutual TLS as one would write it plainly, one connection, no framing, one context for all connections. It
 * uses what channels use: TLS 1.3, AES-128-GCM, X25519, P-256 certificates, no tickets.
 */
import { constants } from 'node:crypto';
import { once } from 'node:events';
import { connect, createSecureContext, createServer, type SecureContextOptions, type TLSSocket } from 'node:tls';
import type { Credentials } from '../src/transport/session.ts';
import { type Acceptor, CHUNK_BYTES, type Dialer, ECHO_BYTES, inParallel, type Pki } from './subject.ts';

function pem(label: string, der: Uint8Array): string {
  return `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64')}\n-----END ${label}-----\n`;
}

function tlsOptions(pki: Pki, { chain, key }: Credentials): SecureContextOptions {
  return {
    cert: chain.map((der) => pem('CERTIFICATE', der)).join(''),
    key: pem('PRIVATE KEY', key),
    ca: pem('CERTIFICATE', pki.root),
    minVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_128_GCM_SHA256',
    ecdhCurve: 'X25519',
    sigalgs: 'ecdsa_secp256r1_sha256',
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

/** The first byte of a connection says what it is for. */
const purposes = { bulk: 1, echo: 2, hold: 3 } as const;

export async function acceptTls(pki: Pki, host: string): Promise<Acceptor> {
  const server = createServer({ ...tlsOptions(pki, pki.acceptor), requestCert: true, rejectUnauthorized: true, allowHalfOpen: true }, serve);
  const sockets = new Set<TLSSocket>();
  server.on('secureConnection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, host);
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function serve(socket: TLSSocket): void {
  let purpose = 0;
  socket.setNoDelay(true);
  socket.on('error', () => socket.destroy());
  // Confirms that the client's certificate was judged: the dialer's `secureConnect` comes before that.
  socket.write('.');
  socket.on('data', (bytes) => {
    if (purpose === 0) purpose = bytes[0] ?? 0;
    else if (purpose === purposes.echo) socket.write(bytes);
  });
  socket.on('end', () => socket.end('.'));
}

export async function dialTls(pki: Pki, host: string, port: number): Promise<Dialer> {
  const first = pki.dialers[0];
  if (first === undefined) throw new Error('no identity');
  const options = { secureContext: createSecureContext(tlsOptions(pki, first.credentials)), host, port, checkServerIdentity: () => undefined };
  const open = async (): Promise<TLSSocket> => {
    const socket = connect(options);
    socket.setNoDelay(true);
    await once(socket, 'data');
    return socket;
  };
  const held: TLSSocket[] = [];
  return {
    async bulk(bytes) {
      const socket = await open();
      socket.write(Uint8Array.of(purposes.bulk));
      const chunk = new Uint8Array(CHUNK_BYTES);
      for (let sent = 0; sent < bytes; sent += CHUNK_BYTES) if (!socket.write(chunk)) await once(socket, 'drain');
      const confirmed = once(socket, 'data');
      socket.end();
      await confirmed;
      socket.destroy();
    },
    async echo(count) {
      const socket = await open();
      socket.write(Uint8Array.of(purposes.echo));
      const times: number[] = [];
      let back = (): void => {};
      socket.on('data', () => back());
      for (let index = 0; index < count; index++) {
        const at = performance.now();
        await new Promise<void>((resolve) => {
          back = resolve;
          socket.write(new Uint8Array(ECHO_BYTES));
        });
        times.push(performance.now() - at);
      }
      socket.destroy();
      return times;
    },
    establish: (count, atOnce) =>
      inParallel(count, atOnce, async () => {
        (await open()).destroy();
      }),
    async hold() {
      await inParallel(pki.dialers.length, 8, async () => {
        held.push(await open());
      });
      return held.length;
    },
    async close() {
      for (const socket of held) socket.destroy();
    },
  };
}
