/** Real agents that were enrolled at a real tower and have lost it, and whoever dials them: for scenarios about what a node decides by itself. */
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Clock } from '../../src/base/seam.ts';
import { callHome } from '../../src/enroll/call-home.ts';
import { tokenMaker } from '../../src/enroll/proofs/token.ts';
import type { NodeState } from '../../src/enroll/state.ts';
import { Agent, type AgentOptions } from '../../src/node/agent.ts';
import { Host } from '../../src/peering/host.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { systemClock, systemTimers } from '../../src/transport/system.ts';
import { freshDirectory } from '../compliance/store.ts';
import { HOUR_MS, makeTower, random, serve, unseal } from '../unit/tower/support.ts';

import { freePort } from '../fixtures/free-port.ts';
import type { ScenarioTransport } from './hosts.ts';

/** Enrolls nodes of site `north`, unless told, as of `clock`. */
export async function cluster(t: Test, clock: Clock = systemClock) {
  const tower = await makeTower(t, { clock });
  const served = await serve(t, tower, { clock });
  const enroll = async (name: string, site = 'north'): Promise<NodeState> => {
    const proof = tokenMaker((await tower.createToken({ uses: 1, life_ms: HOUR_MS })).text);
    const state = await callHome({
      state: join(freshDirectory(t), name),
      unseal,
      tower: { host: served.host, port: served.port },
      fingerprint: tower.rootFingerprint,
      proof,
      cluster: proof.cluster,
      name,
      site,
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
export async function start(t: Test, state: NodeState, options: Partial<AgentOptions> = {}): Promise<{ agent: Agent; port: number }> {
  const port = await freePort();
  await state.secrets.close();
  const listen = { host: '127.0.0.1', port, advertise: ['127.0.0.1'] };
  const agent = await Agent.start({ state: state.path, unseal, listen, isGoverned: false, app: {}, log: () => undefined, ...options });
  t.teardown(() => agent.close());
  return { agent, port };
}

/** Who dials, with what it shows and whom it believes. */
export interface Dialing {
  readonly identity: { readonly cluster: string; readonly site: string; readonly node: string };
  readonly credentials: Credentials;
  readonly roots: readonly Uint8Array[];
}

export function as({ identity, credentials, trust }: NodeState): Dialing {
  return { identity, credentials, roots: trust.roots };
}

/** Dials the agent as that node, and tells how it went. */
export async function dials(t: Test, from: Dialing, to: NodeState, port: number, transport: ScenarioTransport): Promise<string> {
  return (await dialing(t, from, to, port, transport)).outcome;
}

export async function dialing(t: Test, { identity, credentials, roots }: Dialing, to: NodeState, port: number, transport: ScenarioTransport) {
  const heard = Promise.withResolvers<string>();
  const { cluster, site, node } = identity;
  const host = await Host.start({
    self: { cluster, site, node },
    credentials: () => credentials,
    roots: () => roots,
    recordedFingerprint: () => 'any',
    versions: () => ({ directory: 1, trust: 1, routes: to.snapshot.peers.find(({ id }) => id === node)?.epoch ?? 0 }),
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
  host.mesh.setCandidates([{ identity: { cluster, site: to.identity.site, node: to.identity.node }, name: 'wanted', endpoints: [endpoint], isDialed: true }]);
  return { host, outcome: await heard.promise };
}
