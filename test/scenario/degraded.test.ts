/** Spec 9.5: what is never done in degraded mode. A real agent whose tower is away, and somebody who tries each of the six; each is refused with its code. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { SNAPSHOT_SERVICE } from '../../src/enroll/wire.ts';
import { callHome } from '../../src/enroll/call-home.ts';
import { tokenMaker } from '../../src/enroll/proofs/token.ts';
import { issueChain } from '../../src/identity/authority.ts';
import { generateKeyPair } from '../../src/identity/keys.ts';
import { openCarry } from '../../src/transport/carry/greeting.ts';
import { systemTimers } from '../../src/transport/system.ts';
import { freshDirectory } from '../compliance/store.ts';
import { makeAuthority } from '../fixtures/certs.ts';
import { HOUR_MS, random, unseal } from '../unit/tower/support.ts';
import { as, cluster, dialing, dials, start } from './agents.ts';

// Seven agents and their towers start, one after the other; a machine that is busy takes its time.
t.setTimeout(300_000);

/** A node of site `north` whose tower has been away long enough, and a peer of its site. */
async function degraded(t: Test) {
  const { tower, enroll } = await cluster(t);
  const between = { from: {}, to: {}, degraded: true };
  await tower.resources.create('policy', 'everywhere', between, 'test');
  const [near, far] = [await enroll('near'), await enroll('far', 'south')];
  const node = await enroll('node');
  const { promise, resolve } = Promise.withResolvers<void>();
  const { agent, port } = await start(t, node, { towerAway_ms: 1, log: (message) => void (message.startsWith('degraded mode begins') && resolve()) });
  await promise;
  t.equal(agent.facts.degraded, true);
  return { tower, near, far, node, agent, port };
}

t.test('in degraded mode a node lets in a peer of its site, by its snapshot, and the channel is degraded', async (t) => {
  const { near, node, agent, port } = await degraded(t);
  t.equal(await dials(t, as(near), node, port, 'quic'), 'established');
  t.equal(agent.mesh.status().find(({ peer }) => peer === near.identity.node)?.state, 'degraded');
});

t.test('in degraded mode nobody enrolls', async (t) => {
  const { tower, port } = await degraded(t);
  const proof = tokenMaker((await tower.createToken({ uses: 1, life_ms: HOUR_MS })).text);
  const joining = callHome({
    state: join(freshDirectory(t), 'new'),
    unseal,
    tower: { host: '127.0.0.1', port },
    fingerprint: tower.rootFingerprint,
    proof,
    cluster: proof.cluster,
    name: 'new',
    listen: [],
    timers: systemTimers,
    random,
    attempts_max: 1,
  });
  await t.rejects(joining, { code: 'fingerprint_mismatch' }, 'a node is no tower, and cannot pass for one');
});

t.test('in degraded mode no new root counts: who shows a chain to one is refused', async (t) => {
  const { near, node, port } = await degraded(t);
  const { cluster: name, site, node: id } = near.identity;
  const other = await makeAuthority(name);
  const credentials = await other.issue({ node: id, site });
  t.equal(await dials(t, { ...as(near), credentials }, node, port, 'tcp'), 'certificate_invalid');
});

t.test('in degraded mode roles and trust do not change: a snapshot that a peer brings is not taken, though the tower signed it', async (t) => {
  const { tower, near, node, agent, port } = await degraded(t);
  await tower.resources.create('role', 'relay', {}, 'test');
  await tower.setNode(node.identity.node, { roles: ['relay'] }, null, 'test');
  const { envelope } = await tower.snapshot(node.identity.node);
  const before = agent.state.snapshot.version;
  const { host } = await dialing(t, as(near), node, port, 'quic');
  const flow = host.mesh.open(node.identity.node, 'fabric_control', 'messages', SNAPSHOT_SERVICE);
  flow.send(new TextEncoder().encode(JSON.stringify(envelope)));
  t.match(await flow.closed, { code: 'flow_refused' });
  t.same([agent.state.snapshot.version, agent.state.snapshot.node.roles], [before, undefined]);
});

t.test('in degraded mode no other cluster is trusted, be its chain to the same root', async (t) => {
  const { tower, near, node, port } = await degraded(t);
  const { privateKey: key, publicKey } = generateKeyPair();
  const identity = { cluster: 'elsewhere', site: near.identity.site, node: near.identity.node };
  const chain = await issueChain(tower.own, { identity, publicKey, now_ms: Date.now(), random });
  t.equal(await dials(t, { ...as(near), credentials: { chain, key } }, node, port, 'quic'), 'wrong_cluster');
});

t.test('in degraded mode a node is not promoted: what is for another node it does not pass on', async (t) => {
  const { near, far, node, port } = await degraded(t);
  const { host } = await dialing(t, as(near), node, port, 'quic');
  const flow = openCarry(host.mesh, node.identity.node, { from: near.identity.node, to: far.identity.node });
  t.match(await flow.closed, { code: 'wrong_node' });
});

t.test('in degraded mode no channel with a node of another site begins, though a policy allows it', async (t) => {
  const { far, node, agent, port } = await degraded(t);
  t.ok(agent.state.snapshot.peers.some(({ id }) => id === far.identity.node));
  t.equal(await dials(t, as(far), node, port, 'tcp'), 'policy_denied');
});
