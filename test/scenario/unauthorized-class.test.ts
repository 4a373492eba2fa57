/**
 * Spec 15: an unauthorized class is rejected. By who opens, before anything leaves; by who accepts, whatever the other believes; and while flows are under way, when rules
 * change.
 */
import t from 'tap';
import { policy } from '../unit/peering/hosts.ts';
import { alpha, answered, beta, codes, dial, isEstablished, judgeOf, lastError, overEach, startHost, viewWith } from './hosts.ts';

t.setTimeout(120_000);

const noInput = policy('no-input', { effect: 'deny', classes: ['input'] });
const apart = policy('apart', { effect: 'deny' });

overEach(t, 'who opens a flow of a class that rules deny is told which policy did it, and nothing leaves', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport, policy: judgeOf(alpha, [noInput]) });
  const b = await startHost(t, { self: beta, authority, transport });
  dial(a, b, beta);
  await a.until(isEstablished);
  t.throws(() => a.host.mesh.open(beta.node, 'input', 'messages', 'echo'), { code: 'channel_class_denied', message: /policy no-input/ });
  t.notOk(b.host.mesh.status()[0]?.classes.includes('input'));
  t.ok(await answered(a.host.mesh.open(beta.node, 'clipboard', 'messages', 'echo')), 'another class passes');
});

overEach(t, 'who accepts judges for itself: a flow that the other end believes allowed reaches no service', async (t, transport, authority) => {
  const a = await startHost(t, { self: alpha, authority, transport });
  const b = await startHost(t, { self: beta, authority, transport, policy: judgeOf(beta, [noInput]) });
  let served = 0;
  b.host.mesh.handle('till', () => served++);
  dial(a, b, beta);
  await a.until(isEstablished);
  const flow = a.host.mesh.open(beta.node, 'input', 'messages', 'till');
  flow.send(new Uint8Array(8));
  t.match(await flow.closed, { code: 'channel_class_denied' });
  t.equal(served, 0);
  t.ok(isEstablished(b.host.mesh.status()), 'the channel lives on');
});

overEach(t, 'a class that is denied while flows of it are under way is cut at both ends, and the others notice nothing', async (t, transport, authority) => {
  const policies = { a: judgeOf(alpha), b: judgeOf(beta) };
  const a = await startHost(t, { self: alpha, authority, transport, policy: policies.a });
  const b = await startHost(t, { self: beta, authority, transport, policy: policies.b });
  dial(a, b, beta);
  await a.until(isEstablished);
  const [input, clipboard] = [a.host.mesh.open(beta.node, 'input', 'messages', 'echo'), a.host.mesh.open(beta.node, 'clipboard', 'messages', 'echo')];
  t.ok(await answered(input));
  t.ok(await answered(clipboard));
  // The accepting end hears of it first; the opening end believes otherwise still.
  policies.b.follow(viewWith(beta, [noInput]));
  b.host.mesh.revalidate();
  t.match(await input.closed, { code: 'channel_class_denied', message: /policy no-input/ });
  t.ok(await answered(clipboard), 'the same flow goes on');
  t.equal(a.host.mesh.status()[0]?.reconnects, 0);
  policies.b.follow(viewWith(beta, []));
  b.host.mesh.revalidate();
  t.ok(await answered(a.host.mesh.open(beta.node, 'input', 'messages', 'echo')), 'allowed again, it works again');
});

overEach(
  t,
  'two nodes that may use no class have no channel: the one that dials is refused, and a live one ends, with policy_denied',
  async (t, transport, authority) => {
    const judge = judgeOf(beta, [apart]);
    const a = await startHost(t, { self: alpha, authority, transport });
    const b = await startHost(t, { self: beta, authority, transport, policy: judge });
    dial(a, b, beta);
    await a.until((status) => lastError(status) === 'policy_denied');
    t.ok(codes(b.logs).includes('policy_denied'));
    t.same(b.host.mesh.status(), []);
    judge.follow(viewWith(beta, []));
    await a.until(isEstablished);
    judge.follow(viewWith(beta, [apart]));
    b.host.mesh.revalidate();
    await a.until((status) => lastError(status) === 'policy_denied');
  },
);
