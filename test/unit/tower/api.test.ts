/** The two APIs over real sockets: TLS on loopback, and a Unix socket. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, statSync, writeFileSync } from 'node:fs';
import { type IncomingMessage, request as httpRequest, type RequestOptions } from 'node:http';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import t, { type Test } from 'tap';
import { management } from '../../../src/api/access.ts';
import { limits } from '../../../src/base/limits.ts';
import { createCsr } from '../../../src/identity/csr.ts';
import { generateKeyPair } from '../../../src/identity/keys.ts';
import { systemClock } from '../../../src/transport/system.ts';
import { adminApi, publicApi } from '../../../src/tower/api.ts';
import { freshDirectory, rejectsWith } from '../../compliance/store.ts';
import { HOUR_MS, makeTower, serve, serveTls, type Served } from './support.ts';

interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: { readonly code?: string; readonly facts?: Record<string, unknown>; readonly [key: string]: unknown };
}

async function ask(options: RequestOptions, body?: unknown): Promise<Answer> {
  const text = body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body);
  const request = httpRequest({
    ...options,
    headers: { ...(text !== undefined && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }), ...options.headers },
  });
  request.end(text);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  return { status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(Buffer.concat(chunks).toString()) as Answer['body'] };
}

async function tls(served: Served): Promise<TLSSocket> {
  const socket = connect({ host: served.host, port: served.port, rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
  await once(socket, 'secureConnect');
  return socket;
}

async function askPublic(served: Served, method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const socket = await tls(served);
  try {
    return await ask({ createConnection: () => socket, method, path, headers }, body);
  } finally {
    socket.destroy();
  }
}

const csr = Buffer.from(createCsr(generateKeyPair().privateKey)).toString('base64');
const good = { proof: { kind: 'token', token: 'svt_000000000000_AAAA' }, csr, name: 'one', listen: [] };

t.test('health answers anybody, and tells no more than the cluster', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const { status, body } = await askPublic(served, 'GET', '/v1/health');
  t.equal(status, 200);
  t.strictSame(body, { ok: true, cluster: 'alpha' });
});

t.test('a request that does not fit is refused with the place and the reason, nothing coerced and nothing dropped', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  const cases: [unknown, string][] = [
    [{ ...good, name: 7 }, '/body/name'],
    [{ ...good, name: 'Upper' }, '/body/name'],
    [{ ...good, extra: 1 }, '/body'],
    [{ ...good, listen: [{ host: 'h', tcp: '443', udp: null }] }, '/body/listen/0/tcp'],
    [{ ...good, listen: Array.from({ length: 5 }, () => ({ host: 'h', tcp: 1, udp: null })) }, '/body/listen'],
    [{ ...good, csr: 'not base64!' }, '/body/csr'],
    [{ ...good, proof: { kind: 'token', token: 'x'.repeat(1_000) } }, '/body/proof/token'],
    [{ ...good, proof: { kind: 'token', token: 'x', extra: 1 } }, '/body/proof'],
    [{ ...good, proof: { kind: 'sorcery' } }, '/body/proof/kind'],
    [{ ...good, proof: 'token' }, '/body/proof'],
    [{}, '/body'],
    [[], '/body'],
    ['{"a":', '/'],
    ['{"__proto__":{"a":1}}', '/'],
  ];
  for (const [body, path] of cases) {
    const answer = await askPublic(served, 'POST', '/v1/enroll', body);
    t.match(answer, { status: 400, body: { code: 'request_invalid', facts: { path }, remedy: String } }, JSON.stringify(body).slice(0, 60));
  }
  t.match(await askPublic(served, 'POST', '/v1/enroll', 'x', { 'content-type': 'text/plain' }), { status: 400, body: { code: 'request_invalid' } });
  t.match(await askPublic(served, 'POST', '/v1/enroll', good), { status: 403, body: { code: 'token_invalid' } });
  t.match(await askPublic(served, 'GET', '/v1/nodes'), { status: 401, body: { code: 'unauthorized' } });
  t.match(await askPublic(served, 'PUT', '/v1/enroll', good), { status: 404 });
});

t.test('a body, a head and garbage beyond their bounds are refused before they are read', async (t) => {
  const tower = await makeTower(t);
  const served = await serve(t, tower);
  t.match(await askPublic(served, 'POST', '/v1/enroll', { ...good, name: 'x'.repeat(limits.api_body_bytes_max) }), {
    status: 413,
    body: { code: 'body_too_large' },
  });
  const socket = await tls(served);
  socket.write(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(limits.api_header_bytes_max + 1_000)}\r\n\r\n`);
  t.match(await textOf(socket), /^HTTP\/1\.1 400 .*"code":"request_invalid"/s);
  const garbage = await tls(served);
  garbage.write(Buffer.alloc(64 * 1024, 0xff));
  t.match(await textOf(garbage), /^(HTTP\/1\.1 400 |$)/, 'refused, or cut off');
  t.match(await askPublic(served, 'GET', '/v1/health'), { status: 200 }, 'the next one is served');
});

t.test('one address asks only so often, and is told when to come back', async (t) => {
  const tower = await makeTower(t);
  const api = await publicApi(tower, { clock: systemClock, per_minute_max: 3 });
  t.teardown(() => api.close());
  const served = await serveTls(t, tower.credentials, (socket) => api.server.emit('connection', socket));
  for (let index = 0; index < 3; index++) t.equal((await askPublic(served, 'POST', '/v1/enroll', good)).status, 403);
  const refused = await askPublic(served, 'POST', '/v1/enroll', good);
  t.match(refused, { status: 429, body: { code: 'rate_limited', facts: { peer: '127.0.0.1' } } });
  t.ok(Number(refused.headers['retry-after']) >= 1);
});

t.test('what only a bug can cause says nothing of its inside, and is told to the owner', async (t) => {
  const tower = await makeTower(t);
  const heard: string[] = [];
  const broken = Object.assign(tower, { enroll: () => Promise.reject(new TypeError('secret inside')) });
  const api = await publicApi(broken, { clock: systemClock, onFailure: (error, where) => heard.push(`${where} ${error}`) });
  t.teardown(() => api.close());
  const served = await serveTls(t, tower.credentials, (socket) => api.server.emit('connection', socket));
  const answer = await askPublic(served, 'POST', '/v1/enroll', good);
  t.match(answer, { status: 500, body: { code: 'internal_error' } });
  t.notMatch(JSON.stringify(answer.body), 'secret');
  t.match(heard, ['POST /v1/enroll TypeError: secret inside']);
});

t.test('a connection that sends its head too slowly is ended, although the server never accepted it itself', async (t) => {
  const tower = await makeTower(t);
  const api = await publicApi(tower, { clock: systemClock });
  t.teardown(() => api.close());
  api.server.headersTimeout = 50;
  api.server.requestTimeout = 50;
  Object.assign(api.server, { connectionsCheckingInterval: 20 });
  api.server.emit('listening');
  const served = await serveTls(t, tower.credentials, (socket) => api.server.emit('connection', socket));
  const socket = await tls(served);
  socket.write('GET /v1/health HTTP/1.1\r\n');
  t.match(await textOf(socket), /^HTTP\/1\.1 408 .*"code":"timeout"/s);
});

t.test('closing the API ends the connections handed to it', async (t) => {
  const tower = await makeTower(t);
  const api = await publicApi(tower, { clock: systemClock });
  const served = await serveTls(t, tower.credentials, (socket) => api.server.emit('connection', socket));
  const socket = await tls(served);
  socket.on('error', () => undefined);
  await ask({ createConnection: () => socket, path: '/v1/health', headers: { connection: 'keep-alive' } });
  const closed = once(socket, 'close');
  await api.close();
  await closed;
  t.pass('closed');
});

async function admin(t: Test, options: Parameters<typeof adminApi>[2] = {}) {
  const tower = await makeTower(t);
  const socketPath = join(freshDirectory(t), 'tower.sock');
  const umask = process.umask();
  const api = await adminApi(tower, socketPath, options);
  t.equal(process.umask(), umask);
  t.teardown(() => api.close());
  return { tower, socketPath, api, call: (method: string, path: string, body?: unknown) => ask({ socketPath, method, path }, body) };
}

t.test('over the local socket, which only its owner may open, tokens are made, listed and revoked', async (t) => {
  const { tower, socketPath, call } = await admin(t);
  t.equal(statSync(socketPath).mode & 0o777, 0o600);
  const made = await call('POST', '/v1/tokens', { uses: 2, life_ms: HOUR_MS, site: 'north' });
  t.match(made, { status: 200, body: { text: /^svt_/, token: { uses: 0, uses_max: 2, site: 'north', revoked_ms: null } } });
  const { text, token } = made.body as unknown as { text: string; token: { id: string } };
  const answer = await tower.enroll({ proof: { kind: 'token', token: text }, csr, name: 'one', listen: [] }, '192.0.2.1');
  const listed = await call('GET', '/v1/tokens');
  t.match(listed.body, { items: [{ id: token.id, uses: 1 }], next: null });
  t.notMatch(JSON.stringify(listed.body), /hash|svt_/);
  t.match((await call('GET', '/v1/nodes')).body, { items: [{ id: answer.node, name: 'one', site: 'north' }], next: null });
  t.notOk(Number.isNaN(Number((await call('DELETE', `/v1/tokens/${token.id}`)).body.revoked_ms)));
  t.match(await call('DELETE', '/v1/tokens/000000000000'), { status: 404, body: { code: 'not_found' } });
  t.match(await call('DELETE', '/v1/tokens/nonsense'), { status: 400, body: { code: 'request_invalid', facts: { path: '/params/id' } } });
  t.match(await call('GET', '/v1/status'), { status: 200, body: { cluster: 'alpha', nodes: 1, tokens: 1, fingerprint: /^sha256:/ } });
  t.match((await call('POST', '/v1/tokens', {})).body, { token: { uses_max: 1, site: null } });
  for (const bad of [{ uses: 0 }, { uses: '1' }, { life_ms: 1e15 }, { site: 'Bad' }, { more: 1 }]) {
    t.match(await call('POST', '/v1/tokens', bad), { status: 400, body: { code: 'request_invalid' } }, JSON.stringify(bad));
  }
});

t.test('the API describes itself by its own schemas', async (t) => {
  const { call } = await admin(t, { register: (routes) => void routes.get('/v1/extra', management, async () => ({ here: true })) });
  t.match((await call('GET', '/v1/openapi.json')).body, {
    openapi: '3.1.0',
    paths: { '/v1/health': {}, '/v1/enroll': {}, '/v1/tokens': { post: {}, get: {} }, '/v1/nodes': {}, '/v1/status': {}, '/v1/extra': {} },
  });
  t.strictSame((await call('GET', '/v1/extra')).body, { here: true });
});

t.test('a socket file of a killed tower is replaced; one in use, another kind of file and too long a path are refused', async (t) => {
  const tower = await makeTower(t);
  const directory = freshDirectory(t);
  const path = join(directory, 'tower.sock');
  const live = createServer().listen(path);
  await once(live, 'listening');
  await rejectsWith(t, adminApi(tower, path), 'state_in_use');
  live.close();
  await once(live, 'close');

  const stale = join(directory, 'stale.sock');
  const child = spawn(process.execPath, ['--eval', `require('net').createServer().listen(${JSON.stringify(stale)}, () => console.log('up'))`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  child.kill('SIGKILL');
  await once(child, 'close');
  chmodSync(stale, 0o777);
  const api = await adminApi(tower, stale);
  t.equal(statSync(stale).mode & 0o777, 0o600);
  await api.close();

  writeFileSync(path, 'a file');
  await rejectsWith(t, adminApi(tower, path), 'file_exists');
  await rejectsWith(t, adminApi(tower, join(directory, 'x'.repeat(120))), 'argument_invalid');
  await rejectsWith(t, adminApi(tower, join(directory, 'no', 'tower.sock')), 'permission_denied');
});

async function textOf(socket: TLSSocket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk)).on('error', () => undefined);
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(chunks).toString();
}
