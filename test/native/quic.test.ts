/** What QUIC promises beyond the session suite: refusals, restarts, migration, the governor's window, floods. */
import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { listenQuic, type QuicListenOptions, QuicTransport } from '../../src/transport/quic.ts';
import type { Session, SessionHandler, SessionListener } from '../../src/transport/session.ts';
import type { SelvedgeError } from '../../src/base/errors.ts';
import { makeAuthority } from '../fixtures/certs.ts';

const authority = await makeAuthority();
const credentials = await authority.issue({ node: '0000000000aa' });
const never = new AbortController().signal;
const quiet: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };

/** A handler that lets a test wait for octets and for the end. */
function hearing(): { handler: SessionHandler; end: Promise<SelvedgeError>; octets(count: number): Promise<void> } {
  const end = Promise.withResolvers<SelvedgeError>();
  let received = 0;
  let wake = (): void => {};
  const handler: SessionHandler = {
    ...quiet,
    data(_source, bytes) {
      received += bytes.length;
      wake();
    },
    closed: end.resolve,
  };
  const octets = async (count: number): Promise<void> => {
    while (received < count) await new Promise<void>((resolve) => (wake = resolve));
  };
  return { handler, end: end.promise, octets };
}

async function joined(
  options: Partial<QuicListenOptions> = {},
): Promise<{ listener: SessionListener; transport: QuicTransport; dialer: Session; acceptor: Session }> {
  const accepted = Promise.withResolvers<Session>();
  const listener = await listenQuic({ host: '127.0.0.1', port: 0, credentials, onSession: accepted.resolve, ...options });
  const transport = new QuicTransport();
  const dialer = await transport.dial(listener.address, credentials, never);
  return { listener, transport, dialer, acceptor: await accepted.promise };
}

await t.test('a dial that nobody answers says so', async (t) => {
  const deaf = createSocket('udp4').bind(0, '127.0.0.1');
  await once(deaf, 'listening');
  const transport = new QuicTransport({ handshake_ms: 200 });
  await t.rejects(transport.dial({ host: '127.0.0.1', port: deaf.address().port }, credentials, never), { code: 'network_unreachable' });
  const given = new AbortController();
  const dial = transport.dial({ host: '127.0.0.1', port: deaf.address().port }, credentials, given.signal);
  given.abort();
  await t.rejects(dial, { code: 'network_unreachable' });
  await t.rejects(transport.dial({ host: 'no-such-host.invalid', port: 1 }, credentials, never), { code: 'network_unreachable' });
  await transport.close();
  deaf.close();
});

await t.test('a certificate that is not P-256 fails the handshake, whoever shows it', async (t) => {
  const p384 = await authority.issue({ node: '0000000000cc', namedCurve: 'P-384' });
  const transport = new QuicTransport();
  const bad = await listenQuic({ host: '127.0.0.1', port: 0, credentials: p384, onSession() {} });
  await t.rejects(transport.dial(bad.address, credentials, never), { code: 'tls_handshake_failed' });
  const good = await listenQuic({ host: '127.0.0.1', port: 0, credentials, onSession: () => t.fail('a session came of it') });
  // The dialing end has finished its part before the other end judges what it showed.
  const ear = hearing();
  const refused = async (): Promise<unknown> => {
    const session = await transport.dial(good.address, p384, never);
    session.approve(ear.handler);
    throw await ear.end;
  };
  const error = (await refused().catch((error) => error)) as SelvedgeError;
  const codes = [error, error.cause as SelvedgeError | undefined].map((each) => each?.code);
  t.ok(codes.includes('tls_handshake_failed'), String(codes));
  await transport.close();
  await bad.close();
  await good.close();
});

await t.test('garbage to the port changes nothing for a live session', async (t) => {
  const { listener, transport, dialer, acceptor } = await joined();
  const ear = hearing();
  acceptor.approve(ear.handler);
  dialer.approve(quiet);
  const socket = createSocket('udp4');
  for (let index = 0; index < 500; index++) {
    const bytes = new Uint8Array(1 + ((index * 37) % 1_400));
    bytes.fill(index * 7 + 3);
    await new Promise<void>((resolve) => socket.send(bytes, listener.address.port, '127.0.0.1', () => resolve()));
  }
  socket.close();
  dialer.write(1, 'bulk', 1, new Uint8Array(10), new Uint8Array(50_000));
  await ear.octets(50_010);
  t.notOk(acceptor.isClosed);
  dialer.close('session_closed', '');
  await ear.end;
  await listener.close();
  await transport.close();
});

await t.test('an endpoint that was killed and started again with the same key tells an old session at once', async (t) => {
  const killed = spawn(process.execPath, [fileURLToPath(new URL('./listen-until-killed.ts', import.meta.url))], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(killed.stdout, 'data');
  const port = Number(String(line));
  const transport = new QuicTransport();
  const dialer = await transport.dial({ host: '127.0.0.1', port }, credentials, never);
  const ear = hearing();
  dialer.approve(ear.handler);
  dialer.write(1, 'urgent', 1, new Uint8Array(100), null);
  await ear.octets(100);
  killed.kill('SIGKILL');
  await once(killed, 'close');
  const again = await listenQuic({ host: '127.0.0.1', port, credentials, resetKey: new Uint8Array(32).fill(9), onSession() {} });
  const from_ms = performance.now();
  dialer.write(1, 'urgent', 1, new Uint8Array(100), null);
  t.match(await ear.end, { code: 'network_unreachable', message: /restarted/ });
  t.ok(performance.now() - from_ms < 5_000, 'long before it would have noticed the silence');
  await again.close();
  await transport.close();
});

await t.test('a session survives a move to another port', async (t) => {
  const { listener, transport, dialer, acceptor } = await joined();
  const ear = hearing();
  acceptor.approve(ear.handler);
  dialer.approve(quiet);
  dialer.write(1, 'urgent', 1, new Uint8Array(100), null);
  await ear.octets(100);
  transport.rebind(4);
  dialer.write(1, 'urgent', 1, new Uint8Array(100), null);
  await ear.octets(200);
  t.notOk(dialer.isClosed);
  dialer.close('session_closed', '');
  await ear.end;
  await listener.close();
  await transport.close();
});

await t.test('the governor’s window is the congestion window while it is set', async (t) => {
  const { listener, transport, dialer, acceptor } = await joined();
  const ear = hearing();
  acceptor.approve(ear.handler);
  dialer.approve(quiet);
  const send = async (total: number): Promise<void> => {
    dialer.write(1, 'bulk', 1, new Uint8Array(0), new Uint8Array(50_000));
    await ear.octets(total);
  };
  dialer.govern({ window_bytes: 123_456, rate_bytes_per_s: 100_000_000 });
  await send(50_000);
  await send(100_000);
  t.equal(dialer.facts().congestion_window_bytes, 123_456);
  dialer.govern(null);
  await send(150_000);
  t.not(dialer.facts().congestion_window_bytes, 123_456);
  const sample = dialer.sample();
  t.ok(sample !== null && sample.sent_bytes >= 100_000 && sample.acked_bytes > 0 && (sample.rtt_min_ms ?? -1) >= 0);
  t.same(dialer.sample()?.lost_bytes, 0);
  dialer.close('session_closed', '');
  await ear.end;
  await listener.close();
  await transport.close();
});

await t.test('new credentials are for new sessions only', async (t) => {
  const { listener, transport, dialer, acceptor } = await joined();
  const renewed = await authority.issue({ node: '0000000000bb' });
  listener.setCredentials(renewed);
  const second = await transport.dial(listener.address, credentials, never);
  t.same(Buffer.from(second.peerChain[0] ?? []), Buffer.from(renewed.chain[0] ?? []));
  t.notOk(dialer.isClosed);
  for (const session of [dialer, acceptor, second]) session.close('session_closed', '');
  await listener.close();
  await transport.close();
});

await t.test('one address cannot hold more pending sessions than the limit', async (t) => {
  const { listener, transport, dialer, acceptor } = await joined();
  const dials = await Promise.allSettled(Array.from({ length: 80 }, () => transport.dial(listener.address, credentials, never)));
  const refused = dials.filter((dial) => dial.status === 'rejected');
  t.ok(refused.length >= 80 - 64, `${refused.length} of 80 refused`);
  for (const dial of refused) t.equal((dial.reason as SelvedgeError).code, 'network_unreachable');
  acceptor.approve(quiet);
  for (const session of [dialer, acceptor]) session.close('session_closed', '');
  await transport.close();
  await listener.close();
});
