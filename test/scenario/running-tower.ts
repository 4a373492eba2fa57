/** A whole tower in the process of a test, on real sockets, wired as its daemon wires it; and agents of nodes that joined it. */
import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import type { Test } from 'tap';
import { TOWER_ID, TOWER_SITE } from '../../src/base/ids.ts';
import { callHome } from '../../src/enroll/call-home.ts';
import { tokenMaker } from '../../src/enroll/proofs/token.ts';
import { Agent, type AgentOptions } from '../../src/node/agent.ts';
import { Host } from '../../src/peering/host.ts';
import { serveEcho } from '../../src/services/echo.ts';
import { publicApi } from '../../src/tower/api.ts';
import { serveSnapshots } from '../../src/tower/fabric.ts';
import { initTower, openTower } from '../../src/tower/init.ts';
import { serveRenewals } from '../../src/tower/renewing/fabric.ts';
import type { Tower } from '../../src/tower/tower.ts';
import { TowerPolicy } from '../../src/tower/tower-policy.ts';
import { followRetirement } from '../../src/tower/trust/fabric.ts';
import { serveSite } from '../../src/tower/unseal/site-service.ts';
import { systemClock, systemTimers } from '../../src/transport/system.ts';
import { freshDirectory } from '../compliance/store.ts';
import { freePort } from '../fixtures/free-port.ts';
import { HOUR_MS, random, unseal } from '../unit/tower/support.ts';

export interface LogLine {
  readonly host: string;
  readonly message: string;
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;
}

export interface RunningTower {
  readonly tower: Tower;
  readonly host: Host;
  readonly port: number;
  /** Of the tower and of every agent, in the order in which they came. */
  readonly lines: readonly LogLine[];
  /** Joins at the tower under the root that it is known by now, in a directory of its own. */
  joined(name: string): Promise<string>;
  /** Runs the node of such a directory, listening. */
  run(state: string, name: string, options?: Partial<AgentOptions>): Promise<{ readonly agent: Agent; readonly port: number }>;
  /** Resolves once this holds; looked at whenever the tower has changed or somebody has logged something. */
  until(holds: () => boolean | Promise<boolean>): Promise<void>;
}

export async function runningTower(t: Test, cluster = 'alpha'): Promise<RunningTower> {
  const port = await freePort();
  const state = join(freshDirectory(t), 'tower');
  await initTower({ state, cluster, unseal, endpoints: [{ host: '127.0.0.1', tcp: port, udp: port }], clock: systemClock, random });
  const tower = await openTower({ state, unseal, clock: systemClock, random });
  t.teardown(() => tower.close());
  const lines: LogLine[] = [];
  const events = new EventEmitter();
  const logOf = (host: string) => (message: string, facts: LogLine['facts']) => {
    lines.push({ host, message, facts });
    events.emit('news');
  };
  t.teardown(tower.onChange(() => void events.emit('news')));
  const api = await publicApi(tower, { clock: systemClock, per_minute_max: 10_000, open_per_minute_max: 10_000 });
  t.teardown(() => api.close());
  const policy = await TowerPolicy.open(tower);
  t.teardown(tower.onChange(() => policy.nodesChanged()));
  const host = await Host.start({
    self: { cluster, site: TOWER_SITE, node: TOWER_ID },
    credentials: () => tower.credentials,
    roots: () => tower.roots,
    liveRoots: () => tower.trust.liveRoots,
    recordedFingerprint: tower.recordedFingerprint,
    policy: policy.judge,
    versions: () => ({ directory: 0, trust: tower.trust.version }),
    nameOf: (node) => node,
    listen: { host: '127.0.0.1', tcpPort: port, udpPort: port },
    onPeer: ({ identity, fingerprint }) => void tower.renewals.seen(identity, fingerprint),
    onHttp: (socket) => api.server.emit('connection', socket),
    isGoverned: false,
    log: logOf('tower'),
    onChange: () => undefined,
  });
  t.teardown(() => host.close());
  t.teardown(followRetirement(tower, host, systemTimers, () => undefined));
  serveEcho(host.mesh);
  const services = [
    serveSnapshots(host.mesh, tower, systemTimers),
    serveRenewals(host.mesh, tower.renewals, systemTimers, () => undefined),
    serveSite(host.mesh, tower.unsealing, systemTimers, () => undefined),
  ];
  t.teardown(() => services.forEach((service) => void service.close()));

  return {
    tower,
    host,
    port,
    lines,
    async joined(name) {
      const proof = tokenMaker((await tower.createToken({ uses: 1, life_ms: HOUR_MS })).text);
      const path = join(freshDirectory(t), name);
      const node = await callHome({
        state: path,
        unseal,
        tower: { host: '127.0.0.1', port },
        fingerprint: tower.rootFingerprint,
        proof,
        cluster,
        name,
        site: 'north',
        listen: [],
        timers: systemTimers,
        random,
        attempts_max: 1,
      });
      await node.secrets.close();
      return path;
    },
    async run(path, name, options = {}) {
      const at = await freePort();
      const listen = { host: '127.0.0.1', port: at, advertise: ['127.0.0.1'] };
      const agent = await Agent.start({ state: path, unseal, listen, isGoverned: false, app: {}, log: logOf(name), ...options });
      t.teardown(() => agent.close());
      return { agent, port: at };
    },
    async until(holds) {
      for (let again = true; again; ) {
        const { promise, resolve } = Promise.withResolvers<void>();
        events.once('news', resolve);
        again = !(await holds());
        if (again) await promise;
      }
    },
  };
}
