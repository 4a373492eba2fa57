/** Spec 15: an unauthorized class is rejected; no traffic before authorization. */
import t from 'tap';
import type { SelvedgeError } from '../../src/base/errors.ts';
import { FrameDecoder } from '../../src/channel/frame-decoder.ts';
import { encodeControl, encodeDataHead } from '../../src/channel/frame-encoder.ts';
import { encodeHello } from '../../src/channel/hello.ts';
import { QuicTransport } from '../../src/transport/quic.ts';
import { CONTROL_FLOW, type Session } from '../../src/transport/session.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { alpha, beta, codes, dial, isEstablished, overEach, type ScenarioHost, type ScenarioTransport, startHost } from './hosts.ts';

overEach(t, 'a flow of a service that nobody offers is refused, and the channel lives on', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, transport });
  dial(a, b, beta);
  await a.until(isEstablished);
  const flow = a.host.mesh.open(beta.node, 'clipboard', 'messages', 'nobody');
  t.match(await flow.closed, { code: 'flow_refused' });
  t.ok(isEstablished(a.host.mesh.status()));
});

overEach(t, 'a class that the other end does not offer is denied, and the channel lives on', async (t, transport, authority) => {
  const b = await startHost(t, { self: beta, authority, transport });
  const { session } = await hostileSession(t, transport, b, await authority.issue({ node: alpha.node, site: alpha.site }));
  const closed = speak(session);
  // This hello offers `health` only; the class of the flow that follows is another.
  session.write(CONTROL_FLOW, 'urgent', 100, encodeHello('hello', { ...hello, classes: ['health'] }), null);
  await b.until(isEstablished);
  session.write(1, 'urgent', 50, encodeControl({ type: 'open', flow: 1, class: 'clipboard', kind: 'messages', service: 'echo' }), null);
  t.match(await closed.firstReset, { type: 'reset', code: 'channel_class_denied' });
  t.ok(isEstablished(b.host.mesh.status()));
  session.close('session_closed', 'done');
});

overEach(t, 'octets of a flow before the hello are refused, and nothing is opened', async (t, transport, authority) => {
  const b = await startHost(t, { self: beta, authority, transport });
  const { session } = await hostileSession(t, transport, b, await authority.issue({ node: alpha.node, site: alpha.site }));
  const closed = speak(session);
  session.write(1, 'urgent', 50, encodeControl({ type: 'open', flow: 1, class: 'input', kind: 'messages', service: 'echo' }), null);
  session.write(1, 'urgent', 50, encodeDataHead(1, 0, 1, false, null), new Uint8Array(1));
  t.match(await closed.error, { code: 'frame_invalid' });
  t.ok(codes(b.logs).includes('frame_invalid'));
  t.notOk(isEstablished(b.host.mesh.status()));
});

const hello = {
  version: 1,
  mode: 'new',
  channel: new Uint8Array(16),
  secret: new Uint8Array(32),
  cluster: 'test',
  node: alpha.node,
  classes: [],
  transports: ['quic', 'tcp'],
  configVersion: 0,
  directoryVersion: 0,
  trustVersion: 0,
  routeEpoch: 0,
  draining: false,
  return_ms: 0,
} as const;

async function hostileSession(
  t: Parameters<Parameters<typeof overEach>[2]>[0],
  transport: ScenarioTransport,
  b: ScenarioHost,
  credentials: Parameters<QuicTransport['dial']>[1],
): Promise<{ session: Session }> {
  const dialer = transport === 'quic' ? new QuicTransport() : new TcpTransport();
  t.teardown(() => dialer.close());
  const { listener } = b.host;
  const port = transport === 'quic' ? listener?.udp?.port : listener?.tcp.port;
  if (port === undefined) throw new Error('the host does not listen');
  return { session: await dialer.dial({ host: '127.0.0.1', port }, credentials, new AbortController().signal) };
}

/** Approves a session and hears what comes: the first reset, and the end. */
function speak(session: Session): { error: Promise<SelvedgeError>; firstReset: Promise<unknown> } {
  const error = Promise.withResolvers<SelvedgeError>();
  const firstReset = Promise.withResolvers<unknown>();
  const decoder = new FrameDecoder({
    data: () => {},
    latest: () => {},
    datagram: () => {},
    hello: () => {},
    control: (frame) => {
      if (frame.type === 'reset') firstReset.resolve(frame);
    },
  });
  session.approve({
    // All that is awaited comes on the control source.
    data: (_source, bytes) => decoder.push(bytes),
    sourceEnd: () => {},
    ready: () => {},
    writable: () => {},
    datagram: () => {},
    finished: () => {},
    closed: (why) => error.resolve(why),
  });
  return { error: error.promise, firstReset: firstReset.promise };
}
