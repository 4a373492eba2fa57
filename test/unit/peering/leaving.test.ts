/** Channels with a peer that is being revoked with time to finish (spec 9.4): what is there drains, nothing begins, and at its time it ends, tower or no tower. */
import t from 'tap';
import { endOf } from '../../../src/policy/judge.ts';
import { noRules } from '../../../src/policy/rules.ts';
import { codeOf } from '../../fixtures/code-of.ts';
import { A, B, converse, echo, Hosts } from './hosts.ts';

const DRAIN_MS = 30_000;

/** B is to be revoked, and A has heard of it. */
async function leaving() {
  const hosts = new Hosts(9);
  hosts.b.handle('echo', (flow) => void echo(flow).catch(() => {}));
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  const begin = (): void => {
    const leaves_ms = hosts.timers.clock.wall() + DRAIN_MS;
    const leavesAt = ({ node }: typeof B): number | null => (node === B.node ? leaves_ms : null);
    hosts.policyOf(A).follow({ self: endOf(A), peer: endOf, epochOf: () => 0, rules: noRules, degraded: false, leavesAt });
    hosts.a.revalidate();
  };
  return { hosts, begin };
}

t.test('what is there finishes, and nothing begins from either end', async (t) => {
  const { hosts, begin } = await leaving();
  const talk = converse(hosts.a.open('beta', 'file_transfer', 'stream', 'echo'), 2_000_000);
  await hosts.run(20);
  begin();
  t.equal(hosts.state, 'draining');
  await hosts.run(1_000);
  t.equal(
    codeOf(() => hosts.a.open('beta', 'clipboard', 'messages', 'echo')),
    'peer_draining',
  );
  t.equal(
    codeOf(() => hosts.b.open(A.node, 'clipboard', 'messages', 'echo')),
    'peer_draining',
  );
  t.same(await talk, { received: 2_000_000, isRight: true });
  t.same(await hosts.close(), []);
});

t.test('one tick before its time the channel lives, one tick after it has ended with certificate_revoked, and no other begins', async (t) => {
  const { hosts, begin } = await leaving();
  begin();
  await hosts.run(DRAIN_MS - 1);
  t.equal(hosts.state, 'draining');
  await hosts.run(2);
  t.equal(hosts.state, 'failed');
  t.match(hosts.a.status()[0]?.last_error, { code: 'certificate_revoked' });
  await hosts.run(120_000);
  t.equal(hosts.state, 'failed');
  t.same(await hosts.close(), []);
});

t.test('a session that is lost meanwhile is followed by another; a channel that is lost is not', async (t) => {
  const { hosts, begin } = await leaving();
  begin();
  hosts.links.at(-1)?.cut();
  t.ok(await hosts.until(() => hosts.links.length === 2 && hosts.state === 'draining'));
  hosts
    .policyOf(B)
    .follow({ self: endOf(B), peer: endOf, epochOf: () => 0, rules: noRules, degraded: false, leavesAt: () => hosts.timers.clock.wall() + DRAIN_MS });
  await hosts.restartB();
  await hosts.run(DRAIN_MS / 2);
  t.not(hosts.state, 'established');
  t.same(await hosts.close(), []);
});
