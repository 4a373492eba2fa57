/** Whom a node lets in while its tower is away: real agents, with the snapshot that they were given when they enrolled, and a peer that dials them over each transport. */
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Clock } from '../../src/base/seam.ts';
import { callHome } from '../../src/enroll/call-home.ts';
import { tokenMaker } from '../../src/enroll/proofs/token.ts';
import type { NodeState } from '../../src/enroll/state.ts';
import { Agent } from '../../src/node/agent.ts';
import { Host } from '../../src/peering/host.ts';
import type { Tower } from '../../src/tower/tower.ts';
import { systemClock, systemTimers } from '../../src/transport/system.ts';
import { freshDirectory } from '../compliance/store.ts';
import { DAY_MS, HOUR_MS, makeTower, random, serve, shiftedClock, unseal } from '../unit/tower/support.ts';
import { freePort } from './daemons.ts';
import { transports, type ScenarioTransport } from './hosts.ts';

t.setTimeout(120_000);

/** Enrolls nodes of site `north`, as of `clock`. */
async function cluster(t: Test, clock: Clock = systemClock) {
  const tower = await makeTower(t, { clock });
  const served = await serve(t, tower, { clock });
  const enroll = async (name: string): Promise<NodeState> => {
    const proof = tokenMaker((await tower.createToken({ uses: 1, life_ms: HOUR_MS })).text);
    const state = await callHome({
      state: join(freshDirectory(t), name),
      unseal,
      tower: { host: served.host, port: served.port },
      fingerprint: tower.rootFingerprint,
      proof,
      cluster: proof.cluster,
      name,
      site: 'north',
      listen: [],
      timers: { ...systemTimers, clock },
      random,
      attempts_max: 1,
    });
    t.teardown(() => state.secrets.close());
    return state;
  };
  return { tower, enroll };
}

/** The node's agent, listening; its tower does not answer. */
async function start(t: Test, state: NodeState): Promise<{ agent: Agent; port: number }> {
  const port = await freePort();
  await state.secrets.close();
  const listen = { host: '127.0.0.1', port, advertise: ['127.0.0.1'] };
  const agent = await Agent.start({ state: state.path, unseal, listen, isGoverned: false, app: {}, log: () => undefined });
  t.teardown(() => agent.close());
  return { agent, port };
}

/** Dials the agent as that node, and tells how it went. */
async function dials(t: Test, tower: Tower, from: NodeState, to: NodeState, port: number, transport: ScenarioTransport): Promise<string> {
  const heard = Promise.withResolvers<string>();
  const { cluster, site, node } = from.identity;
  const host = await Host.start({
    self: { cluster, site, node },
    credentials: () => from.credentials,
    roots: () => tower.roots,
    recordedFingerprint: () => 'any',
    versions: () => ({ directory: 1, trust: 1 }),
    nameOf: (id) => id,
    listen: null,
    onHttp: null,
    isGoverned: false,
    log: (_message, { code }) => {
      if (typeof code === 'string') heard.resolve(code);
    },
    onChange: () => {
      if (host.mesh.status().some(({ state }) => state === 'established')) heard.resolve('established');
    },
  });
  t.teardown(() => host.close());
  const endpoint = { host: '127.0.0.1', tcp: transport === 'tcp' ? port : null, udp: transport === 'quic' ? port : null };
  host.mesh.setCandidates([{ identity: { cluster, site, node: to.identity.node }, name: 'wanted', endpoints: [endpoint], isDialed: true }]);
  return await heard.promise;
}

for (const transport of transports) {
  t.test(`a node lets in a peer of its snapshot, and refuses one that was revoked before it (${transport})`, async (t) => {
    const { tower, enroll } = await cluster(t);
    const [good, lost] = [await enroll('good'), await enroll('lost')];
    await tower.revokeNode(lost.identity.node);
    const node = await enroll('node');
    const { agent, port } = await start(t, node);
    t.equal(await dials(t, tower, good, node, port, transport), 'established');
    t.equal(await dials(t, tower, lost, node, port, transport), 'certificate_revoked');
    t.notOk(agent.mesh.status().some(({ peer, state }) => peer === lost.identity.node && state === 'established'));
  });

  t.test(`a node with an expired snapshot begins no new channel with a peer, whoever dials (${transport})`, async (t) => {
    const clock = Object.assign(shiftedClock(), { offset_ms: -2 * DAY_MS });
    const { tower, enroll } = await cluster(t, clock);
    const peer = await enroll('peer');
    const node = await enroll('node');
    const { agent, port } = await start(t, node);
    t.equal(agent.facts.snapshot_is_expired, true);
    t.equal(await dials(t, tower, peer, node, port, transport), 'policy_denied');
    t.notOk(agent.mesh.status().some(({ peer: id, state }) => id === peer.identity.node && state === 'established'));
  });
}
