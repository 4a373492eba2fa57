/** Real agents that were enrolled at a real tower and have lost it, and whoever dials them: for scenarios about what a node decides by itself. */
import { join } from 'node:path';
import type { Test } from 'tap';
import type { Clock } from '../../src/base/seam.ts';
import { callHome } from '../../src/enroll/call-home.ts';
import { tokenMaker } from '../../src/enroll/proofs/token.ts';
import type { NodeState } from '../../src/enroll/state.ts';
import { Agent, type AgentOptions } from '../../src/node/agent.ts';
import { Host } from '../../src/peering/host.ts';
import type { Endpoint } from '../../src/peering/mesh.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { systemClock, systemTimers } from '../../src/transport/system.ts';
import { freshDirectory } from '../compliance/store.ts';
import { HOUR_MS, makeTower, random, serve, unseal } from '../unit/tower/support.ts';

import { freePort } from '../fixtures/free-port.ts';
import { type ScenarioWay, wayOf } from './ways.ts';

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

/** A node of which the agent runs; `at`: where it is dialed over a way. */
export interface Running {
  readonly agent: Agent;
  readonly node: NodeState;
  at(way: ScenarioWay): Endpoint;
}

/** The node's agent, listening; its tower does not answer. */
export async function start(t: Test, node: NodeState, options: Partial<AgentOptions> = {}): Promise<Running> {
  const port = await freePort();
  await node.secrets.close();
  const listen = { host: '127.0.0.1', port, advertise: ['127.0.0.1'] };
  const agent = await Agent.start({ state: node.path, unseal, listen, isGoverned: false, app: {}, log: () => undefined, ...options });
  t.teardown(() => agent.close());
  const own = { host: listen.host, port };
  return { agent, node, at: (way) => wayOf(way).reach({ mesh: agent.mesh, listener: { tcp: own, udp: own } }, () => agent.state.credentials) };
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
export async function dials(t: Test, from: Dialing, to: Running, way: ScenarioWay): Promise<string> {
  return (await dialing(t, from, to, way)).outcome;
}

export async function dialing(t: Test, { identity, credentials, roots }: Dialing, to: Running, way: ScenarioWay) {
  const heard = Promise.withResolvers<string>();
  const waiting = new Set<() => void>();
  const { cluster, site, node } = identity;
  const { snapshot, identity: wanted } = to.node;
  const host = await Host.start({
    self: { cluster, site, node },
    credentials: () => credentials,
    roots: () => roots,
    recordedFingerprint: () => 'any',
    versions: () => ({ directory: 1, trust: 1, routes: snapshot.peers.find(({ id }) => id === node)?.epoch ?? 0 }),
    nameOf: (id) => id,
    ...wayOf(way).options,
    listen: null,
    onHttp: null,
    isGoverned: false,
    log: (_message, { code }) => {
      if (typeof code === 'string') heard.resolve(code);
    },
    onChange: () => {
      if (host.mesh.status().some(({ state }) => state === 'established')) heard.resolve('established');
      for (const look of [...waiting]) look();
    },
  });
  t.teardown(() => host.close());
  /** Once the channel, or the last attempt at one, has ended like that. */
  const ended = (code: string): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (host.mesh.status()[0]?.last_error?.code !== code) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  const peer = { cluster, site: wanted.site, node: wanted.node };
  host.mesh.setCandidates([{ identity: peer, name: 'wanted', endpoints: [to.at(way)], isDialed: true }]);
  return { host, ended, outcome: await heard.promise };
}
