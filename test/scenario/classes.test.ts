/** What the wire itself refuses of classes and services: what nobody offers, and octets before the hello. What rules refuse is in unauthorized-class.test.ts. */
import t from 'tap';
import { encodeControl, encodeDataHead } from '../../src/channel/frame-encoder.ts';
import { encodeHello } from '../../src/channel/hello.ts';
import { CONTROL_FLOW } from '../../src/transport/session.ts';
import { alpha, beta, codes, dial, isEstablished, overEach, startHost } from './hosts.ts';
import { hello, hostileSession, speak } from './raw-session.ts';

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
