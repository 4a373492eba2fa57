/** Spec 15: draining stops new channels; and, by spec 9.2, new flows: what is under way finishes, control goes on, and policy decides about what is left at the deadline. */
import t from 'tap';
import { encodeControl } from '../../src/channel/frame-encoder.ts';
import { encodeHello } from '../../src/channel/hello.ts';
import { CONTROL_FLOW } from '../../src/transport/session.ts';
import { LeapingTimers } from '../fixtures/leaping-timers.ts';
import { alpha, answered, beta, codes, dial, isEstablished, lastError, overEach, startHost } from './hosts.ts';
import { hello, hostileSession, speak } from './raw-session.ts';

t.setTimeout(60_000);

const gamma = { ...alpha, node: '0c0000000003' };
const HOUR_MS = 3_600_000;

overEach(t, 'a node that drains takes no new channel and no new flow, lets what is under way finish, and is drained then', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, transport });
  const c = await startHost(t, { self: gamma, authority, transport });
  dial(a, b, beta);
  await Promise.all([a, b].map((end) => end.until(isEstablished)));
  const flow = a.host.mesh.open(beta.node, 'clipboard', 'messages', 'echo');
  t.ok(await answered(flow));

  const drained = b.host.mesh.drain({ deadline_ms: HOUR_MS, force: false });
  await a.until((status) => status[0]?.state === 'draining');
  t.throws(() => a.host.mesh.open(beta.node, 'clipboard', 'messages', 'echo'), { code: 'peer_draining' });
  t.throws(() => b.host.mesh.open(alpha.node, 'clipboard', 'messages', 'echo'), { code: 'peer_draining' });
  dial(c, b, beta);
  await c.until((status) => lastError(status) === 'peer_draining');
  t.ok(codes(b.logs).includes('peer_draining'));
  t.ok(await answered(flow), 'what was under way goes on');
  t.ok(await answered(a.host.mesh.open(beta.node, 'fabric_control', 'messages', 'echo')), 'and so does control, with a flow that is new');

  flow.end();
  t.equal(await flow.closed, null);
  t.match(await drained, { state: 'drained', flows: 0, forced: 0 });
  b.host.mesh.undrain();
  await c.until(isEstablished);
});

overEach(t, 'a flow that a peer opens though it was told is refused by the node that drains', async (t, transport, authority) => {
  const b = await startHost(t, { self: beta, authority, transport });
  const { session } = await hostileSession(t, transport, b, await authority.issue({ node: alpha.node, site: alpha.site }));
  const heard = speak(session);
  session.write(CONTROL_FLOW, 'urgent', 100, encodeHello('hello', { ...hello, classes: ['clipboard'] }), null);
  await b.until(isEstablished);
  void b.host.mesh.drain({ deadline_ms: HOUR_MS, force: false });
  session.write(1, 'urgent', 50, encodeControl({ type: 'open', flow: 1, class: 'clipboard', kind: 'messages', service: 'echo' }), null);
  t.match(await heard.firstReset, { type: 'reset', code: 'peer_draining' });
  session.close('session_closed', 'done');
});

overEach(t, 'what is left at the deadline is ended with peer_draining where policy forces, and goes on where it does not', async (t, transport, authority) => {
  for (const force of [true, false]) {
    const timers = new LeapingTimers();
    const a = await startHost(t, { self: alpha, authority, transport });
    const b = await startHost(t, { self: beta, authority, transport, timers });
    dial(a, b, beta);
    await Promise.all([a, b].map((end) => end.until(isEstablished)));
    const flow = a.host.mesh.open(beta.node, 'clipboard', 'messages', 'echo');
    t.ok(await answered(flow));
    const settled = b.host.mesh.drain({ deadline_ms: HOUR_MS, force });
    await timers.leap(HOUR_MS / 2);
    t.ok(await answered(flow), 'before the deadline');
    await timers.leap(HOUR_MS / 2);
    t.match(await settled, force ? { state: 'drained', forced: 1 } : { state: 'overdue', flows: 1 });
    if (force) t.match(await flow.closed, { code: 'peer_draining' });
    else t.ok(await answered(flow), 'after it');
  }
});
