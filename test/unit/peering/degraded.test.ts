/** Channels while one end has lost its tower (spec 9.5): which go on, which end, what begins on them, and what becomes of them once the snapshot is too old. */
import t from 'tap';
import type { Snapshot } from '../../../src/enroll/wire.ts';
import { SnapshotExpiry } from '../../../src/peering/snapshot-expiry.ts';
import { endOf } from '../../../src/policy/judge.ts';
import { noRules, type PolicyRule } from '../../../src/policy/rules.ts';
import { codeOf } from '../../fixtures/code-of.ts';
import { A, converse, echo, Hosts, policy } from './hosts.ts';

const TTL_MS = 200_000;

/** A and B, connected; A's snapshot has a time to live, and A alone may lose its tower. */
async function connected(policies: readonly PolicyRule[] = []) {
  const hosts = new Hosts(7);
  hosts.b.handle('echo', (flow) => void echo(flow).catch(() => {}));
  const state = { snapshotExpires_ms: hosts.timers.clock.wall() + TTL_MS, snapshot: { version: 1 } as Snapshot };
  const rules = { ...noRules, policies };
  let isDegraded = false;
  const judge = (): void => {
    hosts.policyOf(A).follow({ self: endOf(A), peer: endOf, rules, degraded: isDegraded, epochOf: () => 0, objection: (peer) => expiry.objection(peer) });
    hosts.a.revalidate();
  };
  const expiry = new SnapshotExpiry({ state, timers: hosts.timers, onChange: judge, log: () => undefined });
  const degrade = (is: boolean): void => {
    isDegraded = is;
    judge();
  };
  expiry.follow();
  judge();
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  return { hosts, state, expiry, degrade };
}

t.test('a channel that the snapshot permits is degraded while the tower is away, loses nothing, and is established again after', async (t) => {
  const { hosts, expiry, degrade } = await connected();
  const flow = hosts.a.open('beta', 'file_transfer', 'stream', 'echo');
  const talk = converse(flow, 2_000_000);
  await hosts.run(50);
  degrade(true);
  t.equal(hosts.state, 'degraded');
  await hosts.run(70_000);
  t.equal(hosts.state, 'degraded', 'also when it is judged again by time');
  degrade(false);
  t.equal(hosts.state, 'established');
  t.same(await talk, { received: 2_000_000, isRight: true });
  t.equal(hosts.links.length, 1);
  expiry.close();
  t.same(await hosts.close(), []);
});

t.test('while the tower is away only policies count that say so: flows of other classes end, and none begins', async (t) => {
  const policies = [policy('always', { priority: 200, classes: ['clipboard', 'health'], degraded: true }), policy('near', { priority: 100 })];
  const { hosts, expiry, degrade } = await connected(policies);
  const denied = hosts.a.open('beta', 'input', 'messages', 'echo');
  const kept = hosts.a.open('beta', 'clipboard', 'messages', 'echo');
  await hosts.run(50);
  degrade(true);
  t.equal(hosts.state, 'degraded');
  t.match(await denied.closed, { code: 'channel_class_denied', message: /only while the tower can be reached/ });
  t.equal(
    codeOf(() => hosts.a.open('beta', 'input', 'messages', 'echo')),
    'channel_class_denied',
  );
  t.equal(
    codeOf(() => hosts.a.open('beta', 'clipboard', 'messages', 'echo')),
    'opened',
  );
  kept.end();
  expiry.close();
  t.same(await hosts.close(), []);
});

t.test('a channel that drains while the tower goes away is degraded once it is back in service, whichever end drained', async (t) => {
  for (const who of ['a', 'b'] as const) {
    const { hosts, expiry, degrade } = await connected();
    void hosts[who].drain({ deadline_ms: 60_000, force: false });
    await hosts.run(100);
    degrade(true);
    t.equal(hosts.state, 'draining', `${who} drains`);
    hosts[who].undrain();
    await hosts.run(100);
    t.equal(hosts.state, 'degraded');
    degrade(false);
    t.equal(hosts.state, 'established');
    expiry.close();
    t.same(await hosts.close(), []);
  }
});

t.test('a channel that no policy permits without the tower ends with policy_denied, and none begins until the tower is there', async (t) => {
  const { hosts, expiry, degrade } = await connected([policy('near')]);
  degrade(true);
  t.equal(hosts.state, 'failed');
  t.match(hosts.a.status()[0]?.last_error, { code: 'policy_denied' });
  await hosts.run(30_000);
  t.equal(hosts.state, 'failed');
  degrade(false);
  t.ok(await hosts.until(() => hosts.state === 'established', 60_000));
  expiry.close();
  t.same(await hosts.close(), []);
});

t.test(
  'one tick before the time to live is over a degraded channel lives, one tick after it was closed with policy_denied, until a fresh snapshot',
  async (t) => {
    const { hosts, state, expiry, degrade } = await connected();
    degrade(true);
    await hosts.run(state.snapshotExpires_ms - hosts.timers.clock.wall() - 1);
    t.equal(hosts.state, 'degraded');
    await hosts.run(2);
    t.equal(hosts.state, 'failed');
    t.match(hosts.a.status()[0]?.last_error, { code: 'policy_denied', message: /the snapshot of this node expired at/ });
    await hosts.run(60_000);
    t.equal(hosts.state, 'failed');
    state.snapshotExpires_ms += TTL_MS;
    expiry.follow();
    degrade(false);
    t.ok(await hosts.until(() => hosts.state === 'established', 60_000));
    expiry.close();
    t.same(await hosts.close(), []);
  },
);
