/** Spec 15: valid mutual TLS succeeds. Two nodes with certificates of one cluster; the channel that they get carries what both say. */
import t from 'tap';
import { alpha, answered, beta, dial, isEstablished, overEach, startHost } from './hosts.ts';

overEach(t, 'two nodes with valid certificates get an established channel, and an echo comes back', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, transport });
  dial(a, b, beta);
  await a.until(isEstablished);
  await b.until(isEstablished);
  const [channel] = a.host.mesh.status();
  t.match(channel, { peer: beta.node, state: 'established', transport });
  t.equal(b.host.mesh.status()[0]?.peer, alpha.node, 'each knows the other by its certificate');
  const flow = a.host.mesh.open(beta.node, 'input', 'messages', 'echo');
  t.ok(await answered(flow));
  flow.end();
  t.equal(await flow.closed, null);
});
