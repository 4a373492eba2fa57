/** Channels whose peer's certificate ends while they live: real chains and the real decision, on a clock that the test steps. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import type { NodeIdentity } from '../../../src/base/ids.ts';
import { verifyPeer } from '../../../src/identity/verify.ts';
import type { Credentials } from '../../../src/transport/session.ts';
import { makeAuthority } from '../../fixtures/certs.ts';
import { A, B, echo, Hosts } from './hosts.ts';

const HOUR_MS = 3_600_000;
/** Between two judgements of a channel, with the most jitter. */
const JUDGED_MS_MAX = limits.revalidation_ms * (1 + limits.revalidation_jitter_part);

/** Two hosts with a stream between them; the certificate of `ending` ends in an hour. */
async function talking(ending: NodeIdentity) {
  const hosts = new Hosts(21);
  const now_ms = hosts.timers.clock.wall();
  const authority = await makeAuthority('c', now_ms);
  const chains = new Map<string, Credentials>();
  for (const { node, site } of [A, B]) {
    const notAfter_ms = now_ms + (node === ending.node ? HOUR_MS : 24 * HOUR_MS);
    chains.set(node, await authority.issue({ node, site, notAfter_ms }));
  }
  hosts.certificateOf = (identity) =>
    verifyPeer({
      chain: chains.get(identity.node)?.chain ?? [],
      roots: [authority.root],
      cluster: identity.cluster,
      now_ms: hosts.timers.clock.wall(),
      usage: identity.node === A.node ? 'client' : 'server',
      expectedNode: identity.node,
    });
  hosts.b.handle('echo', (flow) => void echo(flow).catch(() => {}));
  hosts.connect();
  await hosts.until(() => hosts.state === 'established');
  const flow = hosts.a.open('beta', 'file_transfer', 'stream', 'echo');
  await hosts.run(100);
  const ends_at = hosts.world.now + (now_ms + HOUR_MS - hosts.timers.clock.wall());
  const renew = async (): Promise<void> =>
    void chains.set(ending.node, await authority.issue({ node: ending.node, site: ending.site, notAfter_ms: now_ms + 24 * HOUR_MS }));
  return { hosts, flow, ends_at, renew };
}

for (const ending of [A, B]) {
  const who = ending === A ? 'dialed' : 'was dialed';
  t.test(`a stream is cut once the certificate of the peer that ${who} has ended: it lives until then, and both ends hear why`, async (t) => {
    const { hosts, flow, ends_at } = await talking(ending);
    await hosts.run(ends_at - hosts.world.now);
    t.equal(hosts.state, 'established', 'to the last second');
    flow.write(new Uint8Array(1_000));
    await hosts.run(1_000 + JUDGED_MS_MAX);
    t.match(await flow.closed, { code: 'flow_lost' });
    t.not(hosts.state, 'established');
    t.same(hosts.b.status(), []);
    const judge = ending === A ? 'b' : 'a';
    t.ok(
      hosts.log.some(
        (line) => line.startsWith(`${judge}: channel revalidation failed`) && line.includes('certificate_invalid') && line.includes('it expired at'),
      ),
      hosts.log.join('\n'),
    );
    await hosts.run(60_000);
    t.equal(hosts.a.status()[0]?.last_error?.code, 'certificate_invalid', 'and it does not come back');
    t.same(await hosts.close(), []);
  });
}

t.test('a certificate that was renewed in time ends nothing', async (t) => {
  const { hosts, flow, ends_at, renew } = await talking(B);
  await hosts.run(ends_at - hosts.world.now - 60_000);
  await renew();
  await hosts.run(60_000 + 2 * JUDGED_MS_MAX);
  t.equal(hosts.state, 'established');
  t.equal(await Promise.race([flow.closed, hosts.run(1_000).then(() => 'open')]), 'open');
  t.same(await hosts.close(), []);
});
