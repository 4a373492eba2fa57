/**
 * Spec 15: trust rotation revalidates. What a node does with the bundles that it is given one after the other (spec 9.3): {old}, {old, new}, {new}. Which bundles it
 * takes is in test/unit/enroll/state.test.ts.
 */
import t, { type Test } from 'tap';
import type { NodeIdentity } from '../../src/base/ids.ts';
import { makeAuthority, type TestAuthority } from '../fixtures/certs.ts';
import { alpha, answered, beta, codes, dial, isEstablished, lastError, overEach, type ScenarioHost, startHost } from './hosts.ts';
import type { ScenarioWay } from './ways.ts';

t.setTimeout(60_000);

const gamma = { ...alpha, node: '0c0000000003' };

interface Member extends ScenarioHost {
  /** It has taken a bundle of these roots. */
  trust(...authorities: TestAuthority[]): void;
  /** It was given a leaf by this authority, and shows it from now on. */
  renew(authority: TestAuthority): Promise<{ readonly moved: number; readonly of: number }>;
}

/** A node with a leaf of `old`, which is all that it trusts. */
async function member(t: Test, self: NodeIdentity, old: TestAuthority, transport: ScenarioWay): Promise<Member> {
  const { node, site } = self;
  const held = { roots: [old.root], credentials: await old.issue({ node, site }) };
  const started = await startHost(t, { self, authority: old, transport, credentials: () => held.credentials, roots: () => held.roots });
  return {
    ...started,
    trust(...authorities) {
      held.roots = authorities.map(({ root }) => root);
      started.host.mesh.revalidate();
    },
    async renew(authority) {
      held.credentials = await authority.issue({ node, site });
      return started.host.renewed();
    },
  };
}

overEach(
  t,
  'through both bundles a channel lives on, judged again at each; who has only a leaf of the old root is cut off by the second, and refused',
  async (t, transport, old) => {
    const next = await makeAuthority('test');
    const [a, b, c] = [await member(t, alpha, old, transport), await member(t, beta, old, transport), await member(t, gamma, old, transport)];
    for (const node of [a, c]) dial(node, b, beta);
    await Promise.all([a, c].map((node) => node.until(isEstablished)));
    const flow = a.host.mesh.open(beta.node, 'input', 'messages', 'echo');
    const late = c.host.mesh.open(beta.node, 'input', 'messages', 'echo');
    t.ok((await answered(flow)) && (await answered(late)));

    for (const node of [a, b, c]) node.trust(old, next);
    for (const node of [a, b, c]) t.same(node.states.slice(-2), ['revalidating', 'established']);
    t.ok((await answered(flow)) && (await answered(late)), 'neither flow noticed');

    t.same(await b.renew(next), { moved: 0, of: 0 });
    t.same(await a.renew(next), { moved: 1, of: 1 }, 'its channel moves to a session with both new leaves');
    t.ok(await answered(flow));

    for (const node of [a, b]) node.trust(next);
    t.match(await late.closed, { code: 'flow_lost', message: /certificate_invalid/ });
    await c.until((status) => lastError(status) === 'certificate_invalid');
    await b.until(() => b.logs.some(({ message, facts }) => message === 'session refused' && facts.code === 'certificate_invalid'));
    t.ok(await answered(flow), 'the same flow, to the end');
    t.equal(a.host.mesh.status()[0]?.reconnects, 1, 'one move, and nothing else');
    t.notOk(codes(a.logs).includes('certificate_invalid'));
  },
);

overEach(t, 'a root that no bundle has told of counts for nothing: its leaf is refused by who dials and by who accepts', async (t, transport, old) => {
  const next = await makeAuthority('test');
  const [a, b] = [await member(t, alpha, old, transport), await member(t, beta, old, transport)];
  await b.renew(next);
  dial(a, b, beta);
  await a.until((status) => lastError(status) === 'certificate_invalid');
  dial(b, a, alpha);
  await a.until(() => a.logs.some(({ message, facts }) => message === 'session refused' && facts.code === 'certificate_invalid'));
  t.notOk([a, b].some(({ states }) => states.includes('established')));
});
