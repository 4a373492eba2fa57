import { once } from 'node:events';
import { createServer as createHttp, request } from 'node:http';
import { connect as connectTcp, createServer } from 'node:net';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { type Listener, type ListenOptions, listen } from '../../../src/transport/listener.ts';
import type { Session, SessionHandler, SessionListener } from '../../../src/transport/session.ts';
import { TcpTransport } from '../../../src/transport/tcp.ts';
import { encodePreface } from '../../../src/transport/tcp-preface.ts';
import { secureContextOf } from '../../../src/transport/tcp-tls.ts';
import { makeAuthority } from '../../fixtures/certs.ts';

const authority = await makeAuthority();
const [mine, theirs, third] = await Promise.all([
  authority.issue({ node: '0000000000aa' }),
  authority.issue({ node: '0000000000bb' }),
  authority.issue({ node: '0000000000cc' }),
]);
const signal = new AbortController().signal;
const silent: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };

interface Rig {
  readonly listener: Listener;
  readonly sessions: Session[];
  next(): Promise<Session>;
  [Symbol.asyncDispose](): Promise<void>;
}

async function rig(options: Partial<ListenOptions> = {}): Promise<Rig> {
  const sessions: Session[] = [];
  let wake = Promise.withResolvers<Session>();
  const onSession = (session: Session): void => {
    sessions.push(session);
    wake.resolve(session);
    wake = Promise.withResolvers();
  };
  const listener = await listen({ host: '127.0.0.1', tcpPort: 0, udpPort: null, credentials: theirs, onSession, onHttp: null, listenQuic: null, ...options });
  return {
    listener,
    sessions,
    next: () => wake.promise,
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.close('session_closed', 'end of the test');
      await listener.close();
    },
  };
}

/** A TLS connection of the test's own, which may say anything. */
async function tls(listener: Listener, credentials = mine, alpn: string[] | null = ['selvedge/1']): Promise<TLSSocket> {
  const socket = connectTls({
    ...listener.tcp,
    secureContext: secureContextOf(credentials),
    rejectUnauthorized: false,
    ...(alpn === null ? {} : { ALPNProtocols: alpn }),
  });
  await new Promise<void>((resolve, reject) => socket.once('secureConnect', resolve).once('error', reject));
  return socket.on('error', () => {});
}

const closed = (socket: { once(event: 'close', listener: () => void): unknown; closed: boolean; resume(): unknown }): Promise<void> =>
  new Promise((resolve) => {
    socket.resume();
    if (socket.closed) resolve();
    else socket.once('close', () => resolve());
  });

const told = (session: Session): Promise<SelvedgeError> => new Promise((resolve) => session.approve({ ...silent, closed: resolve }));
const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'no error',
    (error: unknown) => (error instanceof SelvedgeError ? error.code : String(error)),
  );

t.test('http/1.1 and no ALPN at all go to the HTTP server, selvedge/1 to the fabric, on one port', async (t) => {
  const http = createHttp((_request, response) => response.end('hello'));
  await using r = await rig({ onHttp: (socket) => http.emit('connection', socket) });
  for (const alpn of [['http/1.1'], null]) {
    const socket = await tls(r.listener, mine, alpn);
    const answer = await new Promise<string>((resolve, reject) => {
      request({ createConnection: () => socket, headers: { connection: 'close' } }, (response) => response.setEncoding('utf8').once('data', resolve))
        .once('error', reject)
        .end();
    });
    t.equal(answer, 'hello');
    await closed(socket);
  }
  const accepted = r.next();
  const session = await new TcpTransport().dial(r.listener.tcp, mine, signal);
  t.equal((await accepted).peerChain.length, 2);
  session.close('session_closed', 'done');
});

t.test('a fabric-only listener takes no HTTP, and a dialer says that a peer does not speak fabric', async (t) => {
  await using r = await rig();
  await t.rejects(tls(r.listener, mine, ['http/1.1']));
  await closed(await tls(r.listener, mine, null));
  t.same(r.sessions, []);

  const web = createServer((raw) => raw.end('HTTP/1.0 400 Bad Request\r\n\r\n'));
  await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve));
  const address = web.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  t.equal(await codeOf(new TcpTransport().dial({ host: '127.0.0.1', port }, mine, signal)), 'tls_handshake_failed');
  web.close();
});

t.test('where nobody listens, the dialer says network_unreachable and why', async (t) => {
  const r = await rig();
  await r[Symbol.asyncDispose]();
  const dial = new TcpTransport().dial(r.listener.tcp, mine, signal);
  t.match(await dial.catch((error: unknown) => error), { code: 'network_unreachable', facts: { why: 'connection refused' } });
});

t.test('a peer that accepts and stays silent ends the dial with handshake_timeout', async (t) => {
  const sockets: { destroy(): void }[] = [];
  const mute = createServer((raw) => sockets.push(raw));
  await new Promise<void>((resolve) => mute.listen(0, '127.0.0.1', resolve));
  const address = mute.address();
  const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
  t.equal(await codeOf(new TcpTransport({ handshake_ms: 100 }).dial({ host: '127.0.0.1', port }, mine, signal)), 'handshake_timeout');
  const abort = new AbortController();
  const dial = new TcpTransport().dial({ host: '127.0.0.1', port }, mine, abort.signal);
  abort.abort();
  t.equal(await codeOf(dial), 'network_unreachable', 'and it can be given up');
  for (const socket of sockets) socket.destroy();
  mute.close();
});

t.test('garbage instead of TLS, silence, and a preface that never comes are cut off in time', async (t) => {
  await using r = await rig({ handshake_ms: 150 });
  const garbage = connectTcp(r.listener.tcp.port, '127.0.0.1').on('error', () => {});
  garbage.write(Buffer.alloc(64 * 1024, 0x5a));
  const mute = connectTcp(r.listener.tcp.port, '127.0.0.1').on('error', () => {});
  const slow = await tls(r.listener);
  slow.write(encodePreface({ lane: 'urgent', session: new Uint8Array(16) }).subarray(0, 19));
  await Promise.all([closed(garbage), closed(mute), closed(slow)]);
  t.same(r.sessions, []);
  const session = await new TcpTransport().dial(r.listener.tcp, mine, signal);
  t.notOk(session.isClosed, 'and others are still served');
  session.close('session_closed', 'done');
});

t.test('a wrong preface is refused with its code', async (t) => {
  await using r = await rig();
  for (const [index, value] of [
    [0, 9],
    [1, 7],
    [2, 1],
  ] as const) {
    const socket = await tls(r.listener);
    const preface = encodePreface({ lane: 'urgent', session: new Uint8Array(16) });
    preface[index] = value;
    const answer = new Promise<Buffer>((resolve) => socket.once('data', resolve));
    socket.write(preface);
    t.equal((await answer)[0], 1, 'a close record');
    await closed(socket);
  }
  t.same(r.sessions, []);
});

t.test('the second connection joins only with the same leaf certificate, and only once', async (t) => {
  await using r = await rig();
  const id = new Uint8Array(16).fill(7);
  const urgent = await tls(r.listener);
  const accepted = r.next();
  urgent.write(encodePreface({ lane: 'urgent', session: id }));
  const session = await accepted;
  const data = Promise.withResolvers<number>();
  session.approve({ ...silent, data: (source) => data.resolve(source) });

  const thief = await tls(r.listener, third);
  thief.write(encodePreface({ lane: 'bulk', session: id }));
  await closed(thief);
  t.notOk(session.isClosed, 'a stranger who knows the id changes nothing');

  const bulk = await tls(r.listener);
  bulk.write(Buffer.concat([encodePreface({ lane: 'bulk', session: id }), Uint8Array.of(0, 0, 0, 1, 42)]));
  t.equal(await data.promise, 1, 'octets of the bulk lane arrive as source 1');
  const again = await tls(r.listener);
  again.write(encodePreface({ lane: 'bulk', session: id }));
  await closed(again);
  const same = await tls(r.listener);
  same.write(encodePreface({ lane: 'urgent', session: id }));
  await closed(same);
  t.notOk(session.isClosed);
  t.equal(r.sessions.length, 1);
  urgent.destroy();
  bulk.destroy();
});

t.test('a second connection that overtakes the first waits for it', async (t) => {
  await using r = await rig();
  const id = new Uint8Array(16).fill(9);
  const bulk = await tls(r.listener);
  bulk.write(Buffer.concat([encodePreface({ lane: 'bulk', session: id }), Uint8Array.of(0, 0, 0, 1, 42)]));
  const urgent = await tls(r.listener);
  const accepted = r.next();
  urgent.write(encodePreface({ lane: 'urgent', session: id }));
  const session = await accepted;
  const source = await new Promise<number>((resolve) => session.approve({ ...silent, data: resolve }));
  t.equal(source, 1);
  urgent.destroy();
  bulk.destroy();
});

t.test('records that nobody may send end the session with frame_invalid', async (t) => {
  await using r = await rig();
  const [finishTwice, afterFinish] = [Uint8Array.of(3, 0, 0, 1, 1, 3, 0, 0, 1, 1), Uint8Array.of(3, 0, 0, 1, 1, 0, 0, 0, 1, 5)];
  for (const record of [Uint8Array.of(9, 0, 0, 0), Uint8Array.of(1, 255, 255, 255), Uint8Array.of(2, 0, 0, 0), finishTwice, afterFinish]) {
    const accepted = r.next();
    const socket = await tls(r.listener);
    socket.write(Buffer.concat([encodePreface({ lane: 'urgent', session: crypto.getRandomValues(new Uint8Array(16)) }), record]));
    t.equal((await told(await accepted)).code, 'frame_invalid', `record ${record.join(' ')}`);
    await closed(socket);
  }
});

t.test('an end without a word is not a finish', async (t) => {
  await using r = await rig();
  const accepted = r.next();
  const socket = await tls(r.listener);
  socket.write(encodePreface({ lane: 'urgent', session: new Uint8Array(16) }));
  const end = told(await accepted);
  socket.end();
  t.match(await end, { code: 'network_unreachable', facts: { why: 'connection ended without a word' } });
});

t.test('no more than so many pending connections, in all and from one address', async (t) => {
  for (const limit of [{ pending_max: 2 }, { pending_per_address_max: 2 }]) {
    await using r = await rig(limit);
    const accepted = r.next();
    const first = await new TcpTransport().dial(r.listener.tcp, mine, signal);
    const firstAccepted = await accepted;
    const second = await new TcpTransport().dial(r.listener.tcp, mine, signal);
    t.not(await codeOf(new TcpTransport().dial(r.listener.tcp, mine, signal)), 'no error', 'the third is turned away');
    firstAccepted.approve(silent);
    const fourth = await new TcpTransport().dial(r.listener.tcp, mine, signal);
    t.notOk(fourth.isClosed, 'approval makes room');
    for (const session of [first, second, fourth]) session.close('session_closed', 'done');
  }
});

t.test('a few addresses that keep all places are made to leave some: the one that has waited longest of the largest goes', async (t) => {
  await using r = await rig({ pending_max: 8, pending_per_address_max: 4 });
  const crowd = [];
  for (const address of ['127.0.0.2', '127.0.0.3']) {
    for (let place = 0; place < 4; place++) {
      const socket = connectTcp({ ...r.listener.tcp, localAddress: address }).on('error', () => {});
      await once(socket, 'connect');
      crowd.push(socket);
    }
  }
  const accepted = r.next();
  const honest = await new TcpTransport().dial(r.listener.tcp, mine, signal);
  (await accepted).approve(silent);
  t.notOk(honest.isClosed);
  await Promise.race(crowd.map(closed));
  t.equal(crowd.filter((socket) => socket.closed).length, 1);
  honest.close('session_closed', 'done');
  for (const socket of crowd) socket.destroy();
});

t.test('new credentials serve new sessions; live ones go on', async (t) => {
  await using r = await rig();
  const accepted = r.next();
  const before = await new TcpTransport().dial(r.listener.tcp, mine, signal);
  before.approve(silent);
  (await accepted).approve(silent);
  r.listener.setCredentials(third);
  const after = await new TcpTransport().dial(r.listener.tcp, mine, signal);
  t.same([before.peerChain[0], after.peerChain[0]], [theirs.chain[0], third.chain[0]]);
  t.notOk(before.isClosed);
  for (const session of [before, after]) session.close('session_closed', 'done');
});

t.test('credentials that change between the two connections of a session: the dialer’s verdict on the second decides', async (t) => {
  const renewed = await authority.issue({ node: '0000000000bb' });
  for (const [shown, verdict] of [
    [renewed, true],
    [third, false],
  ] as const) {
    await using r = await rig();
    const accepted = r.next();
    const judged: Uint8Array[] = [];
    const session = await new TcpTransport().dial(r.listener.tcp, mine, signal, async ([leaf]) => {
      if (leaf) judged.push(leaf);
      return verdict;
    });
    const ended = told(session);
    const heard = Promise.withResolvers<void>();
    (await accepted).approve({ ...silent, data: () => heard.resolve() });
    r.listener.setCredentials(shown);
    session.write(1, 'bulk', 1, Uint8Array.of(1), null);
    if (verdict) {
      await heard.promise;
      t.notOk(session.isClosed);
    } else t.match(await ended, { code: 'network_unreachable', facts: { why: 'the second connection led to another certificate' } });
    t.same(judged, [shown.chain[0]]);
    session.close('session_closed', 'done');
  }
});

t.test('a chain longer than ours ever are is refused', async (t) => {
  await using r = await rig();
  const long = { ...mine, chain: [...mine.chain, authority.root, authority.intermediate, authority.root] };
  t.ok(long.chain.length > limits.certificate_chain_certs_max);
  const socket = await tls(r.listener, long);
  await closed(socket);
  t.same(r.sessions, []);
});

t.test('a port in use names protocol, port and address, and nothing stays open', async (t) => {
  await using r = await rig();
  const { host, port } = r.listener.tcp;
  await t.rejects(rig({ tcpPort: port }), { code: 'port_in_use', facts: { proto: 'TCP', port, address: host } });
  const taken = async (): Promise<SessionListener> => {
    throw Object.assign(new Error('bind'), { code: 'EADDRINUSE' });
  };
  await t.rejects(rig({ udpPort: 4433, listenQuic: taken }), { code: 'port_in_use', facts: { proto: 'UDP', port: 4433, address: host } });
  await t.rejects(rig({ host: '192.0.2.77' }), { code: 'argument_invalid' });
});

t.test('closing the listener turns pending peers away with shutting_down, and approved sessions live on', async (t) => {
  await using r = await rig();
  const accepted = r.next();
  const live = await new TcpTransport().dial(r.listener.tcp, mine, signal);
  const acceptor = await accepted;
  const echoed = Promise.withResolvers<void>();
  live.approve({ ...silent, data: () => echoed.resolve() });
  acceptor.approve(silent);
  const second = r.next();
  const pending = await new TcpTransport().dial(r.listener.tcp, mine, signal);
  await second;
  const end = told(pending);
  await r.listener.close();
  t.equal((await end).code, 'shutting_down');
  acceptor.write(1, 'urgent', 1, Uint8Array.of(1), null);
  await echoed.promise;
  live.close('session_closed', 'done');
});

t.test('closing the transport closes its sessions and waits for their sockets', async (t) => {
  await using r = await rig();
  const transport = new TcpTransport();
  const accepted = r.next();
  const session = await transport.dial(r.listener.tcp, mine, signal);
  const end = told(await accepted);
  await transport.close();
  t.ok(session.isClosed);
  t.equal((await end).code, 'shutting_down');
  t.not(await codeOf(transport.dial(r.listener.tcp, mine, signal)), 'no error');
});

t.test('unusable credentials are refused without a word of the key', async (t) => {
  const error = await codeOf(new TcpTransport().dial({ host: '127.0.0.1', port: 1 }, { chain: mine.chain, key: theirs.key }, signal));
  t.equal(error, 'certificate_invalid');
});
