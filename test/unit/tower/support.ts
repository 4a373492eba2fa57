/** A tower in a directory of the test's own, real in every part, and a clock that the test may set. */
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createServer, type TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import type { Clock } from '../../../src/base/seam.ts';
import type { Proof } from '../../../src/enroll/proof.ts';
import type { Endpoint } from '../../../src/enroll/wire.ts';
import type { UnsealKey } from '../../../src/identity/unseal.ts';
import type { Credentials } from '../../../src/transport/session.ts';
import { systemClock, systemRandom } from '../../../src/transport/system.ts';
import { publicApi } from '../../../src/tower/api.ts';
import { initTower, openTower } from '../../../src/tower/init.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { freshDirectory } from '../../compliance/store.ts';

export const unseal: UnsealKey = { kind: 'key', key: new Uint8Array(32).fill(7) };
export const random = systemRandom;
export const endpoints: readonly Endpoint[] = [{ host: '127.0.0.1', tcp: 8443, udp: 8443 }];
export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;

/** Real time, moved by `offset_ms`. */
export function shiftedClock(): Clock & { offset_ms: number } {
  return {
    offset_ms: 0,
    now() {
      return systemClock.now() + this.offset_ms;
    },
    wall() {
      return systemClock.wall() + this.offset_ms;
    },
  };
}

export async function makeTower(t: Test, options: { cluster?: string; clock?: Clock; proofs?: readonly Proof[] } = {}): Promise<Tower & { state: string }> {
  const { cluster = 'alpha', clock = systemClock, proofs = [] } = options;
  const state = join(freshDirectory(t), 'tower');
  await initTower({ state, cluster, unseal, endpoints, clock, random });
  const tower = await openTower({ state, unseal, proofs, clock, random });
  t.teardown(() => tower.close());
  return Object.assign(tower, { state });
}

export interface Served {
  readonly host: string;
  readonly port: number;
  /** Connections that finished their TLS handshake. */
  readonly sockets: readonly TLSSocket[];
}

/** Serves the public API over real TLS on loopback. `intercept` may keep a socket from the API. */
export async function serve(
  t: Test,
  tower: Tower,
  options: { credentials?: Credentials; clock?: Clock; intercept?: (socket: TLSSocket) => boolean } = {},
): Promise<Served> {
  const api = await publicApi(tower, { clock: options.clock ?? systemClock });
  const served = await serveTls(t, options.credentials ?? tower.credentials, (socket) => {
    if (options.intercept?.(socket) !== true) api.server.emit('connection', socket);
  });
  t.teardown(() => api.close());
  return served;
}

export async function serveTls(t: Test, credentials: Credentials, onSocket: (socket: TLSSocket) => void): Promise<Served> {
  const pem = (label: string, der: Uint8Array) =>
    `-----BEGIN ${label}-----\n${Buffer.from(der)
      .toString('base64')
      .replace(/(.{64})/g, '$1\n')}\n-----END ${label}-----\n`;
  const sockets: TLSSocket[] = [];
  const server = createServer({
    cert: credentials.chain.map((der) => pem('CERTIFICATE', der)).join(''),
    key: pem('PRIVATE KEY', credentials.key),
    ALPNProtocols: ['selvedge/1', 'http/1.1'],
    minVersion: 'TLSv1.3',
  });
  server.on('secureConnection', (socket) => {
    sockets.push(socket);
    socket.on('error', () => undefined);
    onSocket(socket);
  });
  server.on('tlsClientError', () => undefined);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  });
  return { host: '127.0.0.1', port: (server.address() as AddressInfo).port, sockets };
}
