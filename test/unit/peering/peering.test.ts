/** Channels over changing sessions, from both ends: greeting, resuming, moving, giving up. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import type { FlowHandle } from '../../../src/peering/mesh.ts';
import { A, B, converse, echo, Hosts } from './hosts.ts';

const unreachable = new SelvedgeError('network_unreachable', { peer: 'beta', why: 'test' });

async function connected(hosts: Hosts): Promise<void> {
  hosts.b.handle('echo', (flow) => void echo(flow).catch(() => {}));
  hosts.connect();
  await hosts.until(() => hosts.state === 'established' && hosts.b.status()[0]?.state === 'established');
}

async function outcome<T>(hosts: Hosts, promise: Promise<T>, ms = 20_000): Promise<T | 'pending'> {
  let result: T | 'pending' = 'pending';
  promise.then(
    (value) => {
      result = value;
    },
    () => {},
  );
  await hosts.until(() => result !== 'pending', ms);
  return result;
}

t.test('a candidate is dialed, greeted and used, by id and by name, and everything closes', async (t) => {
  const hosts = new Hosts();
  t.throws(() => hosts.a.open('beta', 'input', 'stream', 'echo'), { code: 'not_found' });
  await connected(hosts);
  t.equal(hosts.state, 'established');
  for (const name of [B.node, 'beta'])
    t.same(await outcome(hosts, converse(hosts.a.open(name, 'clipboard', 'stream', 'echo'), 100_000)), { received: 100_000, isRight: true });
  t.same(await hosts.close(), []);
});

t.test('a service that is not there is refused with its name', async (t) => {
  const hosts = new Hosts();
  await connected(hosts);
  t.match(await outcome(hosts, hosts.a.open('beta', 'clipboard', 'stream', 'nonesuch').closed), { code: 'flow_refused', message: /nonesuch/ });
  t.same(await hosts.close(), []);
});

t.test('a conversation goes on over a session that is cut again and again', async (t) => {
  const hosts = new Hosts(4);
  await connected(hosts);
  const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 3_000_000);
  for (let cut = 0; cut < 5; cut++) {
    await hosts.run(40);
    hosts.links.at(-1)?.cut();
    await hosts.run(700);
  }
  t.same(await outcome(hosts, talk, 60_000), { received: 3_000_000, isRight: true });
  t.ok(hosts.links.length >= 6);
  t.equal(hosts.a.status()[0]?.state, 'established');
  t.same(await hosts.close(), []);
});

t.test('a host that begins no new channel keeps those that it has, over other sessions too', async (t) => {
  for (const node of [A.node, B.node]) {
    const hosts = new Hosts(4);
    await connected(hosts);
    hosts.isClosedToNew.add(node);
    const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 1_000_000);
    await hosts.run(40);
    hosts.links.at(-1)?.cut();
    t.same(await outcome(hosts, talk, 60_000), { received: 1_000_000, isRight: true });
    t.ok(hosts.links.length >= 2);
    await hosts.restartB();
    t.ok(await hosts.until(() => hosts.a.status()[0]?.last_error?.code === 'policy_denied', 60_000), `${node} refuses a new one`);
    if (node === A.node) t.not(hosts.state, 'established');
    else t.same(hosts.b.status(), []);
    hosts.isClosedToNew.clear();
    t.ok(await hosts.until(() => hosts.state === 'established', 60_000), 'and begins one again later');
    t.same(await hosts.close(), []);
  }
});

t.test('a silent session is replaced while it is silent, and nothing is lost', async (t) => {
  const hosts = new Hosts(5);
  await connected(hosts);
  await hosts.run(500);
  const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 1_000_000);
  await hosts.run(20);
  hosts.links[0]?.hold(true);
  t.ok(await hosts.until(() => hosts.links.length > 1, 2_000), 'another was dialed within two seconds');
  t.same(await outcome(hosts, talk, 60_000), { received: 1_000_000, isRight: true });
  hosts.links[0]?.hold(false);
  t.same(await hosts.close(), []);
});

t.test('back up to QUIC is make before break: nothing is lost, and the old session finishes and is gone', async (t) => {
  const hosts = new Hosts(6);
  hosts.dialAs = 'tcp';
  await connected(hosts);
  t.equal(hosts.a.status()[0]?.transport, 'tcp');
  const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 2_000_000);
  await hosts.run(60);
  t.equal(hosts.isProbing, true);
  hosts.quicIsBack();
  t.ok(await hosts.until(() => hosts.a.status()[0]?.transport === 'quic', 1_000));
  t.same(await outcome(hosts, talk, 60_000), { received: 2_000_000, isRight: true });
  await hosts.run(16_000);
  t.equal(hosts.liveSessions, 1);
  t.equal(hosts.dials, 1, 'no other session was needed');
  t.same(await hosts.close(), []);
});

t.test('the way back up dies in the greeting: the channel stays where it is, or comes back there', async (t) => {
  const hosts = new Hosts(7);
  hosts.dialAs = 'tcp';
  await connected(hosts);
  const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 2_000_000);
  await hosts.run(60);
  hosts.quicIsBack();
  // The acceptor has attached and its accept is under way when the new path dies.
  await hosts.run(8);
  hosts.links.at(-1)?.cut();
  t.same(await outcome(hosts, talk, 60_000), { received: 2_000_000, isRight: true });
  t.same(await hosts.close(), []);
});

t.test('a host that stops says so: its peers’ channels end at once, with shutting_down, and they dial on', async (t) => {
  const hosts = new Hosts();
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  const { dials } = hosts;
  void hosts.b.close();
  t.ok(await hosts.until(() => hosts.a.status()[0]?.last_error?.code === 'shutting_down', 100));
  t.ok(await hosts.until(() => hosts.dials > dials, 1_000));
  t.same(await hosts.close(), []);
});

t.test('an acceptor that restarted knows nothing: flows are lost with that reason, and a new channel takes over on the same session', async (t) => {
  const hosts = new Hosts(8);
  await connected(hosts);
  const flow = hosts.a.open('beta', 'file_transfer', 'stream', 'echo');
  flow.write(new Uint8Array(1_000));
  await hosts.run(100);
  await hosts.restartB();
  hosts.b.handle('echo', (accepted) => void echo(accepted).catch(() => {}));
  t.match(await outcome(hosts, flow.closed), { code: 'flow_lost', message: /channel_unknown/ });
  t.ok(await hosts.until(() => hosts.state === 'established'));
  t.same(await outcome(hosts, converse(hosts.a.open('beta', 'clipboard', 'stream', 'echo'), 5_000)), { received: 5_000, isRight: true });
  t.same(await hosts.close(), []);
});

t.test('dials that fail are repeated with growing waits, and the reason is told', async (t) => {
  const hosts = new Hosts(9);
  hosts.dialAs = unreachable;
  hosts.connect();
  await hosts.run(60_000);
  t.match(hosts.a.status()[0], { state: 'failed', last_error: { code: 'backoff_exhausted', message: /test/ } });
  t.ok(hosts.dials > 4 && hosts.dials < 40, `${hosts.dials} dials in a minute`);
  t.throws(() => hosts.a.open('beta', 'input', 'stream', 'echo'), { code: 'not_connected' });
  hosts.dialAs = 'quic';
  t.ok(await hosts.until(() => hosts.state === 'established', limits.backoff_ms_max + 1_000));
  t.same(await hosts.close(), []);
});

t.test('a channel without a session fails after its carrier time, with the reason', async (t) => {
  const hosts = new Hosts(10);
  await connected(hosts);
  const flow = hosts.a.open('beta', 'clipboard', 'stream', 'echo');
  hosts.dialAs = unreachable;
  hosts.links[0]?.cut();
  await hosts.run(limits.carrier_ms_max - 1_000);
  t.equal(hosts.state, 'established');
  await hosts.run(2_000);
  t.match(await outcome(hosts, flow.closed), { code: 'flow_lost' });
  t.equal(hosts.b.status().length, 0);
  t.same(await hosts.close(), []);
});

t.test('an accept, and a hello, must be of the node whose certificate was judged', async (t) => {
  for (const side of ['dialer', 'acceptor'] as const) {
    const hosts = new Hosts(11);
    hosts.identities[side] = { cluster: 'c', site: 's', node: 'cccccccccccc' };
    hosts.connect();
    await hosts.run(1_000);
    t.not(hosts.state, 'established');
    t.match(hosts.a.status()[0]?.last_error, { code: 'wrong_node' });
    if (side === 'dialer') t.ok((hosts.b.refusals.get('wrong_node') ?? 0) >= 1);
    t.same(await hosts.close(), []);
  }
});

t.test('a peer that leaves the directory is closed, and both ends hear why', async (t) => {
  const hosts = new Hosts(12);
  await connected(hosts);
  const flow = hosts.a.open('beta', 'clipboard', 'stream', 'echo');
  await hosts.run(50);
  hosts.a.setCandidates([]);
  t.match(await outcome(hosts, flow.closed), { code: 'flow_lost', message: /peer_disabled/ });
  await hosts.run(100);
  t.equal(hosts.b.status().length, 0);
  t.same(await hosts.close(), []);
});

t.test('a session that says nothing is closed when its handshake time is over', async (t) => {
  const { memoryPair } = await import('../../../src/transport/memory.ts');
  const hosts = new Hosts(13);
  const pair = memoryPair({ timers: hosts.timers, schedule: (action) => void hosts.world.at(hosts.world.now + 1, action) });
  hosts.b.accept(pair.acceptor);
  await hosts.run(limits.handshake_ms_max - 1);
  t.equal(pair.acceptor.isClosed, false);
  await hosts.run(2);
  t.equal(pair.acceptor.isClosed, true);
  t.equal(hosts.b.refusals.get('handshake_timeout'), 1);
  pair.cut();
  t.same(await hosts.close(), []);
});

t.test('flows that were reset leave no stream behind on the session', async (t) => {
  const hosts = new Hosts(14);
  await connected(hosts);
  const seen: FlowHandle[] = [];
  hosts.b.handle('sink', (flow) => void seen.push(flow));
  const rounds = limits.quic_streams_per_session_max + 200;
  for (let count = 0; count < rounds; count++) {
    const flow = hosts.a.open('beta', 'clipboard', 'stream', 'sink');
    flow.write(Uint8Array.of(1));
    if (count % 50 === 49) {
      await hosts.run(20);
      for (const open of seen.splice(0)) open.reset('session_closed', 'enough');
      await hosts.run(20);
    }
  }
  t.equal(hosts.state, 'established');
  t.equal(hosts.links.length, 1);
  t.same(await hosts.close(), []);
});

t.test('a certificate that is new moves the channel to another session, again and again, and a conversation loses nothing', async (t) => {
  for (const transport of ['quic', 'tcp'] as const) {
    const hosts = new Hosts(9);
    hosts.dialAs = transport;
    await connected(hosts);
    const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 3_000_000);
    for (let round = 0; round < 5; round++) {
      await hosts.run(40);
      t.same(await outcome(hosts, hosts.a.refresh()), { moved: 1, of: 1 });
    }
    t.same(await outcome(hosts, talk, 60_000), { received: 3_000_000, isRight: true });
    t.equal(hosts.a.status()[0]?.reconnects, 5, 'moves, each to a session of its own');
    t.equal(hosts.b.status().length, 1, 'one channel through all of them');
    t.same(await hosts.close(), []);
  }
});

t.test('a dial that is under way while the certificate becomes new is followed by one that shows it', async (t) => {
  const hosts = new Hosts(4);
  hosts.connect();
  t.equal(hosts.dials, 1);
  t.same(await outcome(hosts, hosts.a.refresh()), { moved: 1, of: 1 });
  t.equal(hosts.dials, 2);
  t.equal(hosts.a.status()[0]?.reconnects, 1, 'one channel, moved once');
  t.same(await hosts.close(), []);
});

t.test('a peer that is revoked loses its channel as soon as that is known here, whoever dialed, and comes back only when it is let in again', async (t) => {
  for (const judging of ['a', 'b'] as const) {
    const hosts = new Hosts(11);
    await connected(hosts);
    const flow = hosts.a.open('beta', 'file_transfer', 'stream', 'echo');
    await hosts.run(100);
    hosts.revoked.add(judging === 'a' ? B.node : A.node);
    hosts[judging].revalidate((peer) => peer.node === 'ffffffffffff');
    await hosts.run(20);
    t.equal(hosts.state, 'established', 'a change that does not concern it is none');
    hosts[judging].revalidate();
    await hosts.run(20);
    t.match(await flow.closed, { code: 'flow_lost' });
    t.not(hosts.state, 'established');
    t.same(hosts.b.status(), []);
    await hosts.run(60_000);
    t.equal(hosts.a.status()[0]?.last_error?.code, 'certificate_revoked', 'the other end is told why');
    hosts.revoked.clear();
    t.ok(await hosts.until(() => hosts.state === 'established', 60_000));
    t.same(await hosts.close(), []);
  }
});

t.test('a peer that shows another leaf than its session was judged by is dialed again, within the time for it, and once', async (t) => {
  const hosts = new Hosts(3);
  await connected(hosts);
  const dials = hosts.dials;
  const candidate = { identity: B, name: 'beta', endpoints: [{ host: 'b', tcp: 443, udp: 443 }], isDialed: true };
  hosts.a.setCandidates([{ ...candidate, leaf: new Uint8Array(32) }]);
  await hosts.run(limits.leaf_refresh_ms_max);
  t.equal(hosts.dials, dials, 'it is the same leaf');
  for (let push = 0; push < 3; push++) hosts.a.setCandidates([{ ...candidate, leaf: new Uint8Array(32).fill(1) }]);
  await hosts.run(limits.leaf_refresh_ms_max);
  t.equal(hosts.dials, dials + 1);
  t.equal(hosts.state, 'established');
  t.same(await hosts.close(), []);
});

t.test('a move that fails leaves the channel where it is', async (t) => {
  const hosts = new Hosts(5);
  await connected(hosts);
  hosts.dialAs = unreachable;
  t.same(await outcome(hosts, hosts.a.refresh()), { moved: 0, of: 1 });
  t.equal(hosts.state, 'established');
  hosts.dialAs = 'quic';
  await hosts.run(limits.leaf_refresh_ms_max);
  t.equal(hosts.a.status()[0]?.reconnects, 1, 'tried again by itself');
  t.same(await hosts.close(), []);
});

t.test('each channel is judged again by time: one tick before, it lives; at the next, it has failed with its reason', async (t) => {
  const hosts = new Hosts(12);
  await connected(hosts);
  hosts.revoked.add(A.node);
  await hosts.run(limits.revalidation_ms * (1 - limits.revalidation_jitter_part) - 200);
  t.equal(hosts.state, 'established');
  await hosts.run(2 * limits.revalidation_ms * limits.revalidation_jitter_part + 400);
  t.not(hosts.state, 'established');
  t.ok(hosts.log.some((line) => line.includes('channel revalidation failed') && line.includes('certificate_revoked')));
  t.same(await hosts.close(), []);
});

t.test('who is revoked between handshake and hello gets no channel', async (t) => {
  const hosts = new Hosts(13);
  hosts.connect();
  await hosts.run(3);
  hosts.revoked.add(A.node);
  await hosts.run(2_000);
  t.same(hosts.b.status(), []);
  t.equal(hosts.a.status()[0]?.last_error?.code, 'certificate_revoked');
  t.same(await hosts.close(), []);
});

t.test('backoff is forgiven once for a channel that lived, not for each failure after it', async (t) => {
  const hosts = new Hosts(14);
  await connected(hosts);
  await hosts.run(20_000);
  hosts.dialAs = new SelvedgeError('network_unreachable', { peer: 'b', why: 'test' });
  hosts.links.at(-1)?.cut();
  const before = hosts.dials;
  await hosts.run(10 * 60_000);
  t.ok(hosts.dials - before <= 60, `${hosts.dials - before} dials in ten minutes`);
  hosts.dialAs = 'quic';
  t.ok(await hosts.until(() => hosts.state === 'established', 60_000));
  t.same(await hosts.close(), []);
});

t.test('two hosts of one identity take turns slowly, not as fast as the path allows', async (t) => {
  const hosts = new Hosts(15);
  await connected(hosts);
  const twin = hosts.twin();
  await hosts.run(10 * 60_000);
  t.ok(hosts.dials <= 200, `${hosts.dials} dials of both in ten minutes`);
  void twin.close();
  t.ok(await hosts.until(() => hosts.state === 'established', 60_000));
  t.same(await hosts.close(), []);
});
