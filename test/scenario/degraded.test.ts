/**
 * Spec 15: degraded honours its TTL and what it forbids (spec 9.5). A real agent whose tower is away; somebody who tries each of the six things that are never done
 * then, each refused with its code; and the end of the snapshot's time to live.
 */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type ErrorCode, SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { postAs } from '../../src/enroll/https.ts';
import { UNSEAL_ROUTE } from '../../src/enroll/unseal-route.ts';
import { SNAPSHOT_SERVICE } from '../../src/enroll/wire.ts';
import { callHome } from '../../src/enroll/call-home.ts';
import { tokenMaker } from '../../src/enroll/proofs/token.ts';
import { issueChain } from '../../src/identity/authority.ts';
import { generateKeyPair } from '../../src/identity/keys.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { openCarry } from '../../src/transport/carry/greeting.ts';
import { systemTimers } from '../../src/transport/system.ts';
import { freshDirectory } from '../compliance/store.ts';
import { makeAuthority } from '../fixtures/certs.ts';
import { LeapingTimers } from '../fixtures/leaping-timers.ts';
import { bootOf } from '../unit/tower/boot.ts';
import { HOUR_MS, random, unseal } from '../unit/tower/support.ts';
import { as, cluster, dialing, dials, type Running, start } from './agents.ts';
import { ways } from './ways.ts';

// Agents and their towers start, one after the other; a machine that is busy takes its time.
t.setTimeout(300_000);

const TTL_MS = limits.snapshot_ttl_s * 1_000;

/** A node of site `north` whose tower has been away long enough, and a peer of its site. */
async function degraded(t: Test) {
  const { tower, enroll } = await cluster(t);
  const between = { from: {}, to: {}, degraded: true };
  await tower.resources.create('policy', 'everywhere', between, 'test');
  const [near, far] = [await enroll('near'), await enroll('far', 'south')];
  const boot = await bootOf(tower, near.identity.node);
  const node = await enroll('node');
  const { promise, resolve } = Promise.withResolvers<void>();
  const timers = new LeapingTimers();
  const running = await start(t, node, { timers, towerAway_ms: 1, log: (message) => void (message.startsWith('degraded mode begins') && resolve()) });
  await promise;
  t.equal(running.agent.facts.degraded, true);
  return { tower, near, far, boot, node, running, agent: running.agent, timers };
}

for (const way of ways) {
  t.test(`in degraded mode (${way})`, async (t) => {
    const { tower, near, far, boot, node, running, agent, timers } = await degraded(t);

    t.test('a node lets in a peer of its site, by its snapshot, and the channel is degraded', async (t) => {
      t.equal(await dials(t, as(near), running, way), 'established');
      t.equal(agent.mesh.status().find(({ peer }) => peer === near.identity.node)?.state, 'degraded');
    });

    t.test('nobody enrolls', async (t) => {
      const proof = tokenMaker((await tower.createToken({ uses: 1, life_ms: HOUR_MS })).text);
      const { host, tcp } = running.at('tcp');
      const joining = callHome({
        state: join(freshDirectory(t), 'new'),
        unseal,
        tower: { host, port: tcp ?? 0 },
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

    t.test('no new root counts: who shows a chain to one is refused', async (t) => {
      const { cluster: name, site, node: id } = near.identity;
      const other = await makeAuthority(name);
      const credentials = await other.issue({ node: id, site });
      t.equal(await dials(t, { ...as(near), credentials }, running, way), 'certificate_invalid');
    });

    t.test('roles and trust do not change: a snapshot that a peer brings is not taken, though the tower signed it', async (t) => {
      await tower.resources.create('role', 'relay', {}, 'test');
      await tower.setNode(node.identity.node, { roles: ['relay'] }, null, 'test');
      const { envelope } = await tower.snapshot(node.identity.node);
      const before = agent.state.snapshot.version;
      const { host } = await dialing(t, as(near), running, way);
      const flow = host.mesh.open(node.identity.node, 'fabric_control', 'messages', SNAPSHOT_SERVICE);
      flow.send(new TextEncoder().encode(JSON.stringify(envelope)));
      t.match(await flow.closed, { code: 'flow_refused' });
      t.same([agent.state.snapshot.version, agent.state.snapshot.node.roles], [before, undefined]);
    });

    t.test('no other cluster is trusted, be its chain to the same root', async (t) => {
      const { privateKey: key, publicKey } = generateKeyPair();
      const identity = { cluster: 'elsewhere', site: near.identity.site, node: near.identity.node };
      const chain = await issueChain(tower.own, { identity, publicKey, now_ms: Date.now(), random });
      t.equal(await dials(t, { ...as(near), credentials: { chain, key } }, running, way), 'wrong_cluster');
    });

    t.test('a node is not promoted: what is for another node it does not pass on', async (t) => {
      const { host } = await dialing(t, as(near), running, way);
      const flow = openCarry(host.mesh, node.identity.node, { from: near.identity.node, to: far.identity.node });
      t.match(await flow.closed, { code: 'wrong_node' });
    });

    t.test('no channel with a node of another site begins, though a policy allows it', async (t) => {
      t.ok(agent.state.snapshot.peers.some(({ id }) => id === far.identity.node));
      t.equal(await dials(t, as(far), running, way), 'policy_denied');
    });

    t.test(
      'a channel with a peer lives until the snapshot has lived its time, and then ends with policy_denied; none begins any more, nor is a node helped to unseal',
      async (t) => {
        t.equal(await unsealing(running, boot), null, 'a node of the site is helped to unseal');
        const { host, outcome, ended } = await dialing(t, as(near), running, way);
        t.equal(outcome, 'established');
        await timers.leap(TTL_MS - HOUR_MS);
        t.equal(agent.facts.snapshot_is_expired, false);
        t.equal(host.mesh.status()[0]?.state, 'established');
        t.ok(agent.mesh.reaches(near.identity.node));
        await timers.leap(HOUR_MS);
        t.equal(agent.facts.snapshot_is_expired, true);
        await ended('policy_denied');
        t.notOk(agent.mesh.reaches(near.identity.node));
        t.equal(await dials(t, as(near), running, way), 'policy_denied');
        t.equal(await unsealing(running, boot), 'policy_denied');
      },
    );
  });
}

/** The code with which the agent refuses to say the key of this node's store; null: it says it. */
async function unsealing(running: Running, boot: Credentials): Promise<ErrorCode | null> {
  const { host, tcp } = running.at('tcp');
  const body = Buffer.from(JSON.stringify({ generation: 1 }));
  const request = { path: UNSEAL_ROUTE, body, answer_bytes_max: limits.api_body_bytes_max, signal: AbortSignal.timeout(60_000), judge: () => undefined };
  try {
    await postAs({ host, port: tcp ?? 0 }, boot, request);
    return null;
  } catch (error) {
    return error instanceof SelvedgeError ? error.code : 'internal_error';
  }
}
