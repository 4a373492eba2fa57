/** The local control API end to end: a server on a socket, a mesh in memory, and the client that the CLI uses. */
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { createServer as createSocketServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { callControl, type Json, streamControl } from '../../../src/node/control-client.ts';
import { controlServer } from '../../../src/node/control-server.ts';
import type { ChannelStatus, Mesh } from '../../../src/peering/mesh.ts';
import { serveEcho } from '../../../src/services/echo.ts';
import { serveFiles } from '../../../src/services/file-receive.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { MemoryNet } from '../services/memory-mesh.ts';

const channel: ChannelStatus = {
  peer: 'bbbbbbbbbbbb',
  name: 'b',
  site: 'harbor',
  side: 'dialer',
  state: 'established',
  since_ms: 1_000,
  suspect: false,
  transport: 'memory',
  why: 'memory',
  remote: '192.0.2.1:443',
  rtt_ms: 1.5,
  rtt_min_ms: 1,
  loss_part: 0,
  heartbeat_rtt_ms: 1.5,
  heartbeat_jitter_ms: 0.1,
  heartbeat_loss_part: 0,
  mtu_bytes: null,
  classes: ['input'],
  bytes_sent: 1,
  bytes_received: 2,
  certificate_days: 29.5,
  reconnects: 0,
  last_error: null,
  governor: null,
};

/** A folder with a short name: the path of a socket has at most 107 octets. */
function shortFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  return folder;
}

async function setUp(t: Test) {
  const folder = shortFolder(t);
  const socketPath = join(folder, 's');
  const net = new MemoryNet();
  const near = net.mesh('aaaaaaaaaaaa');
  const mesh: Mesh = { open: near.open, handle: near.handle, status: () => [channel], close: async () => {} };
  const far = net.mesh('bbbbbbbbbbbb');
  serveEcho(far);
  const files = await serveFiles(far, { inbox: join(folder, 'inbox'), timers: systemTimers });
  const server = await controlServer(socketPath, { mesh, timers: systemTimers, facts: () => ({ role: 'node', name: 'a' }) });
  t.teardown(async () => {
    await server.close();
    await files.close();
  });
  return { folder, socketPath, net, mesh };
}

async function all(lines: AsyncGenerator<Json>): Promise<Json[]> {
  const got: Json[] = [];
  for await (const line of lines) got.push(line);
  return got;
}

t.test('the socket is its owner’s alone, and tells status, channels and peers', async (t) => {
  const { socketPath } = await setUp(t);
  t.equal(statSync(socketPath).mode & 0o777, 0o600);
  const get = (path: string) => callControl({ socketPath, method: 'GET', path });
  t.same(await get('/v1/status'), { role: 'node', name: 'a' });
  t.match(await get('/v1/channels'), { self: { name: 'a' }, channels: [{ name: 'b', state: 'established', why: 'memory' }] });
  t.same(await get('/v1/peers'), { peers: [{ peer: 'bbbbbbbbbbbb', name: 'b', site: 'harbor', state: 'established', remote: '192.0.2.1:443' }] });
});

t.test('ping answers line by line and ends with its summary', async (t) => {
  const { socketPath, net } = await setUp(t);
  const body = { node: 'bbbbbbbbbbbb', class: 'input', count: 3, interval_ms: 1, size_bytes: 64 };
  const lines = await all(streamControl({ socketPath, method: 'POST', path: '/v1/ping', body }));
  t.equal(lines.length, 4);
  t.match(lines[0], { sequence: 0, rtt_ms: Number, at_ms: Number });
  t.match(lines.at(-1), { done: true, sent: 3, received: 3, samples_ms: [Number, Number, Number] });
  t.equal(net.flows.size, 0);
});

t.test('a client that goes away ends the work it asked for', async (t) => {
  const { socketPath, net } = await setUp(t);
  const stop = new AbortController();
  const lines = streamControl({ socketPath, method: 'POST', path: '/v1/ping', body: { node: 'bbbbbbbbbbbb', interval_ms: 1 }, signal: stop.signal });
  await lines.next();
  const flows = [...net.flows];
  t.equal(flows.length, 2);
  stop.abort();
  await t.rejects(all(lines), { name: 'AbortError' });
  await Promise.all(flows.map((flow) => flow.closed));
  t.equal(net.flows.size, 0);
});

t.test('send reports progress and ends with digest, size and rate', async (t) => {
  const { socketPath, folder } = await setUp(t);
  const content = randomBytes(2_000_000);
  const path = join(folder, 'file');
  writeFileSync(path, content);
  const lines = await all(streamControl({ socketPath, method: 'POST', path: '/v1/send', body: { node: 'bbbbbbbbbbbb', path } }));
  t.match(lines[0], { total: 2_000_000, bytes: Number, rate_mbit: Number });
  const sha256 = createHash('sha256').update(content).digest('hex');
  t.match(lines.at(-1), { done: true, sha256, bytes: 2_000_000, seconds: Number, mbit: Number });
  t.equal(readFileSync(join(folder, 'inbox/file')).length, 2_000_000);
});

t.test('refusals carry their code: no such file, wrong class, relative path, unknown route, too much', async (t) => {
  const { socketPath } = await setUp(t);
  const post = (path: string, body: Json) => all(streamControl({ socketPath, method: 'POST', path, body }));
  await t.rejects(post('/v1/send', { node: 'bbbbbbbbbbbb', path: '/no/such/file' }), { code: 'not_found' });
  await t.rejects(post('/v1/send', { node: 'bbbbbbbbbbbb', path: 'relative' }), { code: 'request_invalid' });
  await t.rejects(post('/v1/ping', { node: 'bbbbbbbbbbbb', class: 'everything' }), { code: 'request_invalid' });
  await t.rejects(post('/v1/ping', { node: 'bbbbbbbbbbbb', count: '3' }), { code: 'request_invalid' });
  await t.rejects(post('/v1/ping', { node: 'bbbbbbbbbbbb', more: 1 }), { code: 'request_invalid' });
  await t.rejects(post('/v1/ping', { node: 'bbbbbbbbbbbb', more: 'x'.repeat(100_000) }), { code: 'body_too_large' });
  await t.rejects(callControl({ socketPath, method: 'GET', path: '/v1/nothing' }), { code: 'not_found' });
});

t.test('a channel that is not there is named before anything is answered', async (t) => {
  const { socketPath, net } = await setUp(t);
  net.isConnected = false;
  await t.rejects(all(streamControl({ socketPath, method: 'POST', path: '/v1/ping', body: { node: 'bbbbbbbbbbbb' } })), { code: 'not_connected' });
});

t.test('a second daemon on the same state is refused, a dead one’s socket is taken over', async (t) => {
  const { socketPath, mesh, folder } = await setUp(t);
  const control = { mesh, timers: systemTimers, facts: () => ({}) };
  await t.rejects(controlServer(socketPath, control), { code: 'state_in_use' });
  const stale = join(folder, 'stale');
  // A socket file without a listener, as SIGKILL leaves it: the file is renamed away from the server that would remove it.
  const leftover = createSocketServer().listen(`${stale}.made`);
  await once(leftover, 'listening');
  renameSync(`${stale}.made`, stale);
  leftover.close();
  await once(leftover, 'close');
  const server = await controlServer(stale, control);
  await server.close();
  mkdirSync(join(folder, 'd'));
  writeFileSync(join(folder, 'd/file'), '');
  await t.rejects(controlServer(join(folder, 'd/file'), control), { code: 'file_exists' });
  await t.rejects(controlServer(`/${'x'.repeat(120)}`, control), { code: 'argument_invalid' });
});

t.test('no daemon, a daemon that stops in the middle, and a stranger on the socket are told apart from refusals', async (t) => {
  const folder = shortFolder(t);
  const socketPath = join(folder, 's');
  await t.rejects(callControl({ socketPath, method: 'GET', path: '/v1/status' }), { code: 'daemon_unreachable', message: /there is no socket/ });
  const stranger = createServer((incoming, response) => {
    if (incoming.url === '/half') {
      response.write('{"a":1}\n');
      setImmediate(() => response.destroy());
    } else response.end('hello');
  });
  stranger.listen(socketPath);
  await once(stranger, 'listening');
  t.teardown(() => stranger.close());
  await t.rejects(callControl({ socketPath, method: 'GET', path: '/v1/status' }), { code: 'daemon_unreachable' });
  await t.rejects(all(streamControl({ socketPath, method: 'GET', path: '/half' })), { code: 'daemon_unreachable' });
});

t.test('garbage on the socket is answered and ended', async (t) => {
  const { socketPath } = await setUp(t);
  const outgoing = request({ socketPath, method: 'POST', path: '/v1/ping', agent: false, headers: { 'content-type': 'application/json' } });
  outgoing.end('{not json');
  const [response] = await once(outgoing, 'response');
  t.equal(response.statusCode, 400);
  response.resume();
});
