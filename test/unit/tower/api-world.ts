/** A tower's public API on a real shared port (ALPN, TLS 1.3), and somebody who asks it with a certificate, a bearer token, or nothing. */
import { once } from 'node:events';
import { type IncomingHttpHeaders, type IncomingMessage, request as httpRequest } from 'node:http';
import { connect, type TLSSocket } from 'node:tls';
import type { Test } from 'tap';
import type { Clock } from '../../../src/base/seam.ts';
import { type Scope, scopes as allScopes } from '../../../src/api/access.ts';
import type { Api } from '../../../src/api/http.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { fromBase64 } from '../../../src/identity/base64.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { publicApi, type PublicApiOptions } from '../../../src/tower/api.ts';
import type { Tower } from '../../../src/tower/tower.ts';
import { listen } from '../../../src/transport/listener.ts';
import type { Credentials } from '../../../src/transport/session.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { HOUR_MS } from './support.ts';

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: { readonly code?: string; readonly facts?: Record<string, unknown>; readonly [key: string]: unknown };
}

export interface Ask {
  readonly method?: string;
  readonly path: string;
  readonly body?: unknown;
  readonly credentials?: Credentials;
  readonly bearer?: string;
  readonly headers?: Record<string, string>;
}

export interface Route {
  readonly method: string;
  readonly url: string;
  readonly scope: string | undefined;
}

export interface ApiWorld {
  readonly port: number;
  readonly api: Api;
  /** Every route that the public port has, as fastify itself knows them. */
  readonly routes: readonly Route[];
  connect(credentials?: Credentials, localAddress?: string): Promise<TLSSocket>;
  ask(ask: Ask): Promise<Answer>;
}

export async function apiWorld(
  t: Test,
  tower: Tower,
  { register, clock = systemClock, ...options }: Partial<Omit<PublicApiOptions, 'clock'>> & { readonly clock?: Clock } = {},
): Promise<ApiWorld> {
  const routes: Route[] = [];
  const api = await publicApi(tower, {
    clock,
    ...options,
    onRoute: ({ method, url, config }) => {
      for (const verb of [method].flat()) routes.push({ method: verb, url, scope: config?.scope });
    },
    ...(register && { register }),
  });
  t.teardown(() => api.close());
  const listener = await listen({
    host: '127.0.0.1',
    tcpPort: 0,
    udpPort: null,
    credentials: tower.credentials,
    onSession: (session) => session.close('shutting_down', 'no fabric here'),
    onHttp: (socket) => api.server.emit('connection', socket),
    listenQuic: null,
  });
  t.teardown(() => listener.close());
  const { port } = listener.tcp;
  const world: ApiWorld = {
    port,
    api,
    routes,
    async connect(credentials, localAddress = '127.0.0.1') {
      // Node's types know where from only for plain sockets.
      const from: object = { localAddress };
      const socket = connect({
        host: '127.0.0.1',
        port,
        rejectUnauthorized: false,
        ALPNProtocols: ['http/1.1'],
        ...from,
        ...(credentials && asPem(credentials)),
      });
      await once(socket, 'secureConnect');
      t.teardown(() => socket.destroy());
      return socket;
    },
    async ask({ credentials, ...rest }) {
      const socket = await world.connect(credentials);
      try {
        return await askOn(socket, rest);
      } finally {
        socket.destroy();
      }
    },
  };
  return world;
}

export async function askOn(socket: TLSSocket, { method = 'GET', path, body, bearer, headers }: Omit<Ask, 'credentials'>): Promise<Answer> {
  const response = await openOn(socket, { method, path, body, ...(bearer !== undefined && { bearer }), ...(headers && { headers }) });
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  return { status: response.statusCode ?? 0, headers: response.headers, body: text === '' ? {} : (JSON.parse(text) as Answer['body']) };
}

/** The answer's head; the rest is the caller's to read. */
export async function openOn(socket: TLSSocket, { method = 'GET', path, body, bearer, headers }: Omit<Ask, 'credentials'>): Promise<IncomingMessage> {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const request = httpRequest({
    createConnection: () => socket,
    method,
    path,
    headers: {
      host: 'tower',
      ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
      ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
      ...headers,
    },
  });
  request.end(text);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  return response;
}

/** A node of this tower, with the certificate that it got. */
export async function enrolledNode(tower: Tower, name: string, site = 'north'): Promise<Credentials & { readonly id: string }> {
  const { text } = await tower.createToken({ uses: 1, life_ms: HOUR_MS });
  const { privateKey } = generateKeyPair();
  const answer = await tower.enroll({ proof: { kind: 'token', token: text }, csr: csrOf(privateKey), name, site, listen: [] }, '192.0.2.1');
  return { chain: answer.chain.map((one) => fromBase64(one, 8192) ?? new Uint8Array()), key: privateKey, id: answer.node };
}

/** An operator of this tower, who has redeemed its bundle. */
export async function redeemedOperator(tower: Tower, name: string, scopes: readonly Scope[] = allScopes): Promise<Credentials & { readonly id: string }> {
  const { operators } = tower.access;
  const { bundle } = await operators.create({ name, scopes, life_ms: HOUR_MS }, 'local');
  const { privateKey } = generateKeyPair();
  const { row, chain } = await operators.redeem({ operator: bundle.operator, secret: bundle.secret, csr: csrOf(privateKey) });
  return { chain: chain.map((one) => fromBase64(one, 8192) ?? new Uint8Array()), key: privateKey, id: row.id };
}

export function csrOf(privateKey: Uint8Array): string {
  return Buffer.from(createCsr(privateKey)).toString('base64');
}

function asPem({ chain, key }: Credentials): { cert: string; key: string } {
  const pem = (label: string, der: Uint8Array) => `-----BEGIN ${label}-----\n${Buffer.from(der).toString('base64')}\n-----END ${label}-----\n`;
  return { cert: chain.map((der) => pem('CERTIFICATE', der)).join(''), key: pem('PRIVATE KEY', key) };
}
