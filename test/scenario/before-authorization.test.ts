/**
 * Spec 15: no traffic before authorization. A node with a good certificate of the cluster, which rules do not let in, says all it wants at once without waiting to be let in:
 * its hello, a flow, and octets. Nothing of it reaches a service.
 */
import t from 'tap';
import { encodeControl, encodeDataHead } from '../../src/channel/frame-encoder.ts';
import { encodeHello } from '../../src/channel/hello.ts';
import { CONTROL_FLOW, type Session } from '../../src/transport/session.ts';
import type { ChannelStatus } from '../../src/peering/mesh.ts';
import { policy } from '../unit/peering/hosts.ts';
import { alpha, beta, dial, isEstablished, judgeOf, lastError, overEach, startHost } from './hosts.ts';
import { hello, hostileSession, speak } from './raw-session.ts';

t.setTimeout(60_000);

const apart = policy('apart', { effect: 'deny' });

function sayEverything(session: Session): void {
  session.write(CONTROL_FLOW, 'urgent', 100, encodeHello('hello', { ...hello, classes: ['input'] }), null);
  session.write(1, 'urgent', 50, encodeControl({ type: 'open', flow: 1, class: 'input', kind: 'messages', service: 'till' }), null);
  session.write(1, 'urgent', 50, encodeDataHead(1, 0, 1, false, null), new Uint8Array(1));
}

overEach(t, 'what a node says that rules do not let in reaches no service, and its session is closed with policy_denied', async (t, transport, authority) => {
  const b = await startHost(t, { self: beta, authority, transport, policy: judgeOf(beta, [apart]) });
  let served = 0;
  b.host.mesh.handle('till', () => served++);
  const { session } = await hostileSession(t, transport, b, await authority.issue({ node: alpha.node, site: alpha.site }));
  const heard = speak(session);
  sayEverything(session);
  t.match(await heard.error, { code: 'policy_denied' });
  t.equal(served, 0);
  t.notOk(isEstablished(b.host.mesh.status()));
});

overEach(t, 'the same said by a node that rules let in is served, once it has been let in', async (t, transport, authority) => {
  const b = await startHost(t, { self: beta, authority, transport, policy: judgeOf(beta) });
  const served = Promise.withResolvers<boolean>();
  b.host.mesh.handle('till', () => served.resolve(isEstablished(b.host.mesh.status())));
  const { session } = await hostileSession(t, transport, b, await authority.issue({ node: alpha.node, site: alpha.site }));
  speak(session);
  sayEverything(session);
  t.ok(await served.promise, 'the channel was established first');
  session.close('session_closed', 'done');
});

overEach(t, 'neither end opens a flow before there is a channel that rules allow', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, transport, policy: judgeOf(beta, [apart]) });
  const opened: string[] = [];
  b.host.mesh.handle('till', () => opened.push('served'));
  const tryBoth = (status: readonly ChannelStatus[]): boolean => {
    t.throws(() => a.host.mesh.open(beta.node, 'input', 'messages', 'till'), { code: 'not_connected' });
    t.throws(() => b.host.mesh.open(alpha.node, 'input', 'messages', 'till'), { code: 'not_found' });
    return lastError(status) === 'policy_denied';
  };
  dial(a, b, beta);
  // At each change on the way there.
  await a.until(tryBoth);
  t.same([opened, b.host.mesh.status()], [[], []]);
});
