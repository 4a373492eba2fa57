/** TLS over TCP in the addon: whatever peers and callers do, memory and descriptors stay bounded, and every end is an error of the table. */
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createServer as createHttp, get } from 'node:http';
import { connect as connectTcp, createServer as createTcp, type Socket } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import t, { type Test } from 'tap';
import { SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { TlsConnection, type TlsHandler, TlsListening } from '../../src/native-tls.ts';
import { type Listener, listen } from '../../src/transport/listener.ts';
import type { Session, SessionHandler } from '../../src/transport/session.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { encodePreface } from '../../src/transport/tcp-preface.ts';
import { secureContextOf } from '../../src/transport/tcp-tls.ts';
import { makeAuthority } from '../fixtures/certs.ts';
import { openTcpProxy } from '../fixtures/tcp-proxy.ts';
import { packed, testEndings } from './exits.ts';

const KIB = 1024;
const authority = await makeAuthority();
const [mine, theirs] = await Promise.all([authority.issue({ node: '0000000000aa' }), authority.issue({ node: '0000000000bb' })]);
const signal = new AbortController().signal;
const deaf: TlsHandler = { connected() {}, readable() {}, writable() {}, closed() {} };
const quiet: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };

const http = createHttp((_request, response) => response.end('hello'));

interface Rig {
  readonly listener: Listener;
  next(): Promise<Session>;
  close(): Promise<void>;
}

/** A port that fabric and HTTP share. */
async function rig(handshake_ms = 2_000): Promise<Rig> {
  let wake = Promise.withResolvers<Session>();
  const listener = await listen({
    host: '127.0.0.1',
    tcpPort: 0,
    udpPort: null,
    credentials: theirs,
    handshake_ms,
    onSession(session) {
      wake.resolve(session);
      wake = Promise.withResolvers();
    },
    onHttp: (socket) => http.emit('connection', socket),
    listenQuic: null,
  });
  return { listener, next: () => wake.promise, close: () => listener.close() };
}

async function tls(target: { host: string; port: number }, alpn: string, raw?: Socket): Promise<TLSSocket> {
  const where = raw === undefined ? target : { socket: raw };
  const socket = connectTls({ ...where, secureContext: secureContextOf(mine), rejectUnauthorized: false, ALPNProtocols: [alpn] });
  await once(socket, 'secureConnect');
  return socket.on('error', () => {});
}

const closed = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.resume();
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });

function hello(socket: TLSSocket): Promise<string> {
  return new Promise((resolve, reject) => {
    get({ createConnection: () => socket, headers: { connection: 'close' } }, (response) => response.setEncoding('utf8').once('data', resolve)).once(
      'error',
      reject,
    );
  });
}

t.test('the ALPN is read out of a ClientHello that comes in pieces of a few octets, for fabric and for HTTP', async (t) => {
  const r = await rig();
  const proxy = await openTcpProxy(r.listener.tcp);
  const accepted = r.next();
  const session = await new TcpTransport().dial(proxy.address, mine, signal);
  t.same((await accepted).peerChain[0], mine.chain[0]);
  session.close('session_closed', 'done');
  t.equal(await hello(await tls(proxy.address, 'http/1.1')), 'hello');
  await proxy.close();
  await r.close();
});

t.test('a ClientHello that is too large, or none, ends the connection, and others are still served', async (t) => {
  const r = await rig();
  const head = (length: number) => Buffer.of(22, 3, 1, 0x40, 0, 1, 0, length >> 8, length & 0xff);
  const endless = Buffer.concat(Array.from({ length: 8_000 }, () => Buffer.of(22, 3, 1, 0, 1, 1)));
  for (const bytes of [Buffer.concat([head(0xffff), Buffer.alloc(20 * KIB)]), endless, Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.of(22, 3, 1, 0, 0)]) {
    const socket = connectTcp(r.listener.tcp).on('error', () => {});
    socket.write(bytes);
    await closed(socket);
  }
  t.equal(await hello(await tls(r.listener.tcp, 'http/1.1')), 'hello');
  await r.close();
});

t.test('two hundred connections, of fabric and of HTTP, leave no descriptor behind', async (t) => {
  const count = (): number => readdirSync('/proc/self/fd').length;
  const r = await rig();
  const transport = new TcpTransport();
  const visit = async (index: number): Promise<void> => {
    if (index % 4 === 0) {
      await hello(await tls(r.listener.tcp, 'http/1.1'));
      return;
    }
    const accepted = r.next();
    const session = await transport.dial(r.listener.tcp, mine, signal);
    const peer = await accepted;
    const ends = [session, peer].map((end) => new Promise<void>((resolve) => end.approve({ ...quiet, closed: () => resolve() })));
    session.close('session_closed', 'done');
    await Promise.all(ends);
  };
  for (let index = 0; index < 4; index++) await visit(index);
  const before = count();
  for (let index = 0; index < 200; index++) await visit(index);
  await transport.close();
  const deadline_ms = performance.now() + 3_000;
  while (count() > before && performance.now() < deadline_ms) await new Promise((resolve) => setImmediate(resolve));
  t.ok(count() <= before, `${before} before, ${count()} after`);
  await r.close();
});

for (const direct of [false, true]) {
  t.test(`what nobody takes is bounded, and arrives when somebody does, read by ${direct ? 'this thread' : 'the other thread'}`, (t) => bounded(t, direct));
}

async function bounded(t: Test, direct: boolean): Promise<void> {
  const incoming = Promise.withResolvers<TlsConnection>();
  const down = Promise.withResolvers<void>();
  const listening = new TlsListening(
    { host: '127.0.0.1', port: 0, credentials: theirs, sharesPort: false, handshake_ms: 2_000, pending_max: 8, pending_per_address_max: 8 },
    { incoming: incoming.resolve, foreign() {}, closed: down.resolve },
  );
  const sender = await tls(listening.address, 'selvedge/1');
  sender.write(encodePreface({ lane: 'urgent', session: new Uint8Array(16) }));
  const receiver = await incoming.promise;
  const block = Buffer.alloc(256 * KIB, 7);
  let sent = 0;
  const until = (event: string, ms: number) => Promise.race([once(sender, event).then(() => true), new Promise((resolve) => setTimeout(resolve, ms, false))]);
  const fill = async (): Promise<void> => {
    for (let moving = true; moving; moving = (await until('drain', 200)) === true) {
      do sent += block.length;
      while (sender.write(block));
    }
  };
  await fill();
  receiver.approve(direct);
  await fill();
  let received = 0;
  const buffer = new Uint8Array(64 * KIB);
  const take = (): void => {
    for (let got = receiver.read(buffer); got > 0; got = receiver.read(buffer)) received += got;
  };
  // Nothing else runs on this thread between these reads: they show what had been kept here.
  let kept = 0;
  for (let got = receiver.read(buffer); got > 0 && kept <= limits.tcp_inbox_bytes_max * 4; got = receiver.read(buffer)) kept += got;
  received += kept;
  t.ok(kept >= limits.tcp_inbox_bytes_max && kept <= limits.tcp_inbox_bytes_max * 3, `${kept} octets waited here`);
  const all = Promise.withResolvers<void>();
  receiver.handler = {
    ...deaf,
    readable() {
      take();
      if (received >= sent) all.resolve();
    },
  };
  take();
  await all.promise;
  t.equal(received, sent);
  receiver.destroy();
  await closed(sender);
  listening.close();
  await down.promise;
}

/** A way to `target` that counts connections, and after the first octets of each passes only so many more to it until told otherwise. */
async function narrow(target: { host: string; port: number }) {
  const ends = new Set<Socket>();
  let isFull = false;
  let left = 0;
  const server = createTcp((down) => {
    const up = connectTcp(target);
    for (const end of [down, up]) end.on('error', () => {}).once('close', () => ends.delete(end));
    ends.add(down);
    up.pipe(down);
    down.on('data', (bytes: Buffer) => {
      const passed = isFull ? bytes.subarray(0, left) : bytes;
      left -= passed.length;
      up.write(passed);
    });
    down.once('close', () => up.destroy());
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const address = server.address();
  return {
    address: { host: '127.0.0.1', port: typeof address === 'object' && address !== null ? address.port : 0 },
    connections: () => ends.size,
    passOnly(bytes: number) {
      isFull = true;
      left = bytes;
    },
    close: () => void server.close(),
  };
}

const soon = async (isSo: () => boolean): Promise<void> => {
  while (!isSo()) await new Promise((resolve) => setImmediate(resolve));
};

t.test('for bulk that waits both connections are made at once; what the session never asked for ends with it', async (t) => {
  const r = await rig();
  const way = await narrow(r.listener.tcp);
  const transport = new TcpTransport();
  for (const isApproved of [true, false]) {
    const accepted = r.next();
    const session = await transport.dial(way.address, mine, signal, undefined, true);
    const peer = await accepted;
    await soon(() => way.connections() === 2);
    const bulk = Promise.withResolvers<number>();
    peer.approve({ ...quiet, data: (source) => bulk.resolve(source) });
    if (isApproved) {
      session.approve(quiet);
      session.write(3, 'bulk', 0, new Uint8Array(100), null);
      t.equal(await bulk.promise, 1);
      t.equal(way.connections(), 2, 'and no third one');
    }
    session.close('session_closed', 'done');
    await soon(() => way.connections() === 0);
  }
  const given = new AbortController();
  const dialing = transport.dial(way.address, mine, given.signal, undefined, true);
  given.abort();
  await t.rejects(dialing);
  await soon(() => way.connections() === 0);
  way.close();
  await r.close();
});

t.test('of the first large frame a peer reads what has come, not only the whole', async (t) => {
  const r = await rig();
  const way = await narrow(r.listener.tcp);
  const accepted = r.next();
  const session = await new TcpTransport().dial(way.address, mine, signal);
  const peer = await accepted;
  let bytes = 0;
  const data = (_source: number, piece: Uint8Array): void => {
    bytes += piece.length;
  };
  peer.approve({ ...quiet, data });
  session.approve(quiet);
  session.write(0, 'urgent', 0, new Uint8Array(1), null);
  await soon(() => bytes === 1);
  way.passOnly(6 * KIB);
  session.write(0, 'urgent', 0, new Uint8Array(64), new Uint8Array(64 * KIB));
  await soon(() => bytes > 4 * KIB);
  t.ok(bytes < 6 * KIB, `${bytes} octets`);
  session.close('session_closed', 'done');
  await soon(() => way.connections() === 0);
  way.close();
  await r.close();
});

t.test('a peer that never reads holds its writer back, and a reset in the middle of bulk ends the session', async (t) => {
  const r = await rig();
  const accepted = r.next();
  const raw = connectTcp(r.listener.tcp);
  await once(raw, 'connect');
  const peer = await tls(r.listener.tcp, 'selvedge/1', raw);
  peer.pause();
  peer.write(encodePreface({ lane: 'urgent', session: new Uint8Array(16) }));
  const session = await accepted;
  const end = Promise.withResolvers<SelvedgeError>();
  session.approve({ ...quiet, closed: end.resolve });
  const body = new Uint8Array(64 * KIB);
  let refused = 0;
  for (let count = 0; count < 4_000 && refused < 20; count++) {
    if (session.ready('urgent')) session.write(1, 'urgent', 1, new Uint8Array(8), body);
    else refused = await new Promise((resolve) => setTimeout(resolve, 10, refused + 1));
  }
  t.equal(refused, 20, 'the lane stays full');
  t.ok(session.facts().unsent_bytes <= limits.tcp_urgent_unsent_bytes_max + 2 * body.length, `${session.facts().unsent_bytes} octets wait`);
  raw.resetAndDestroy();
  t.match(await end.promise, { code: 'network_unreachable', facts: { why: 'connection reset' } });
  await r.close();
});

t.test('a connection that is gone, and wrong arguments, are errors', async (t) => {
  const r = await rig();
  const socket = connectTcp(r.listener.tcp).pause() as Socket & { _handle?: { fd: number } };
  await once(socket, 'connect');
  const connection = TlsConnection.adopt(socket._handle?.fd ?? -1, mine);
  socket.destroy();
  const gone = Promise.withResolvers<void>();
  connection.handler = { ...deaf, closed: gone.resolve };
  connection.destroy();
  await gone.promise;
  const bytes = new Uint8Array(8);
  for (const use of [
    () => connection.read(bytes),
    () => connection.write(0, bytes, null),
    () => connection.flush(),
    () => connection.approve(false),
    () => connection.takePeer(),
  ]) {
    t.throws(use, { code: 'handle_closed' });
  }
  connection.destroy();
  connection.end(1, bytes);
  t.equal(connection.look(), null);
  t.throws(() => TlsConnection.adopt(-1, mine), { code: 'argument_invalid' });
  t.throws(() => TlsConnection.adopt(99_999, mine), { code: 'native_failed' });
  t.throws(() => TlsConnection.adopt(0, mine), SelvedgeError, 'what is no connected socket');
  await r.close();
});

t.test('a thread that ends takes its connections and its port along', async (t) => {
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     const addon = require(workerData.addon);
     addon.tlsOpen(() => {}, 65536, 20, 4, 8192);
     const { port } = addon.tlsListen('127.0.0.1', 0, workerData.chain, workerData.key, { sharesPort: true, handshakeMs: 1000, pendingMax: 8, pendingPerAddressMax: 8, connectionsMax: 8 });
     addon.tlsKeepAlive(true);
     parentPort.postMessage(port);
     parentPort.once('message', () => process.exit(0));`,
    {
      eval: true,
      workerData: {
        addon: fileURLToPath(new URL('../../native/session/build/selvedge-session.node', import.meta.url)),
        chain: packed(theirs.chain),
        key: theirs.key,
      },
    },
  );
  const [port] = (await once(worker, 'message')) as [number];
  const open = await tls({ host: '127.0.0.1', port }, 'selvedge/1');
  worker.postMessage('end');
  t.same(await once(worker, 'exit'), [0]);
  await closed(open);
  const late = connectTcp(port, '127.0.0.1');
  const [error] = await once(late, 'error');
  t.equal(error.code, 'ECONNREFUSED');
});

testEndings(t, 'tcp');
