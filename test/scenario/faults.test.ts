/** What breaks around a node: a peer that freezes, places for files that one peer would take. */
import t from 'tap';
import { Liveness } from '../../src/channel/liveness.ts';
import { limits } from '../../src/base/limits.ts';
import { systemRandom } from '../../src/transport/system.ts';
import { honestNode, startVictim } from './attacker.ts';
import { beta, codes } from './hosts.ts';
import { transports } from './ways.ts';

t.test('a peer that freezes is noticed by heartbeats in their time, on either transport, and welcomed back', async (t) => {
  const victim = await startVictim(t);
  const nodes = await Promise.all(
    transports.map(async (transport, index) => ({ transport, node: await honestNode(t, victim, transport, `0a000000000${index}`) })),
  );
  const frozen_ms = Date.now();
  victim.child.kill('SIGSTOP');
  await Promise.all(
    nodes.map(async ({ transport, node }) => {
      await node.host.until(() => codes(node.host.logs).includes('heartbeat_timeout'));
      const ms = Date.now() - frozen_ms;
      const most_ms = limits.heartbeat_ms_active * (1 + limits.heartbeat_jitter_part) + limits.heartbeat_retry_ms * (limits.heartbeat_retries_max + 1);
      t.ok(ms < most_ms + 2_000, `${transport}: noticed after ${ms} ms, at most ${most_ms} promised`);
    }),
  );
  victim.child.kill('SIGCONT');
  await Promise.all(nodes.map(({ node }) => node.echo()));
  for (const { node } of nodes) await node.host.host.close();
  await victim.stop();
});

t.test('a peer whose program hangs while its transport acknowledges is given up all the same', async (t) => {
  const liveness = new Liveness(systemRandom, 0);
  let dead_ms: number | null = null;
  for (let now = 0; now < 60_000 && dead_ms === null; now += 100) {
    liveness.heard(now);
    const action = liveness.handleTimeout(now);
    if (action === 'send_heartbeat') liveness.heartbeatSent(now);
    if (action === 'dead') dead_ms = now;
  }
  t.ok(dead_ms !== null && dead_ms >= limits.heartbeat_unanswered_ms_max && dead_ms < limits.heartbeat_unanswered_ms_max + 2_000, `after ${dead_ms} ms`);
});

t.test('one peer cannot take all the places for files or echoes', async (t) => {
  const victim = await startVictim(t);
  const greedy = await honestNode(t, victim, 'quic', '0a0000000001');
  const modest = await honestNode(t, victim, 'tcp', '0a0000000002');
  const { mesh } = greedy.host.host;
  const flows = Array.from({ length: limits.transfers_per_peer_max + 1 }, () => mesh.open(beta.node, 'file_transfer', 'stream', 'files'));
  const last = flows.at(-1);
  t.ok(await last?.readable());
  t.match(Buffer.from(last?.read() ?? []).toString(), /"limit_reached".*transfers_per_peer_max/);
  const echoes = Array.from({ length: limits.echo_flows_per_peer_max }, () => mesh.open(beta.node, 'clipboard', 'stream', 'echo'));
  t.match(await echoes.at(-1)?.closed, { code: 'limit_reached' });
  const other = modest.host.host.mesh.open(beta.node, 'file_transfer', 'stream', 'files');
  other.write(new Uint8Array([0, 0, 0, 2, 0x7b, 0x7d]));
  t.ok(await other.readable());
  t.match(Buffer.from(other.read() ?? []).toString(), /"flow_violation"/, 'another peer is heard');
  await modest.echo();
  await greedy.host.host.close();
  await modest.host.host.close();
  await victim.stop();
});
