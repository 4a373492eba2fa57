/** Whom a node lets in while its tower is away: real agents, with the snapshot that they were given when they enrolled, and a peer that dials them over each way. */
import t from 'tap';
import { DAY_MS, shiftedClock } from '../unit/tower/support.ts';
import { as, cluster, dials, start } from './agents.ts';
import { ways } from './ways.ts';

t.setTimeout(120_000);

for (const way of ways) {
  t.test(`a node lets in a peer of its snapshot, and refuses one that was revoked before it (${way})`, async (t) => {
    const { tower, enroll } = await cluster(t);
    const [good, lost] = [await enroll('good'), await enroll('lost')];
    await tower.revokeNode(lost.identity.node);
    const node = await enroll('node');
    const running = await start(t, node);
    const { agent } = running;
    t.equal(await dials(t, as(good), running, way), 'established');
    t.equal(await dials(t, as(lost), running, way), 'certificate_revoked');
    t.notOk(agent.mesh.status().some(({ peer, state }) => peer === lost.identity.node && state === 'established'));
  });

  t.test(`a node with an expired snapshot begins no new channel with a peer, whoever dials (${way})`, async (t) => {
    const clock = Object.assign(shiftedClock(), { offset_ms: -2 * DAY_MS });
    const { enroll } = await cluster(t, clock);
    const peer = await enroll('peer');
    const node = await enroll('node');
    const running = await start(t, node);
    const { agent } = running;
    t.equal(agent.facts.snapshot_is_expired, true);
    t.equal(await dials(t, as(peer), running, way), 'policy_denied');
    t.notOk(agent.mesh.status().some(({ peer: id, state }) => id === peer.identity.node && state === 'established'));
  });
}
