/** Two hosts of a small cluster, over one way, for the scenarios of spec section 15: the real listener, dialer, channels and chain decision. */
import type { Test } from 'tap';
import type { NodeIdentity } from '../../src/base/ids.ts';
import type { RecordedFingerprint } from '../../src/identity/verify.ts';
import { Host } from '../../src/peering/host.ts';
import { endOf, Judge, type View } from '../../src/policy/judge.ts';
import { noRules, type PolicyRule } from '../../src/policy/rules.ts';
import { trafficClassNames } from '../../src/channel/classes.ts';
import type { ChannelState } from '../../src/channel/states.ts';
import type { ChannelStatus, Endpoint, FlowHandle } from '../../src/peering/mesh.ts';
import { serveEcho } from '../../src/services/echo.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { systemTimers, type Timers } from '../../src/transport/system.ts';
import { type LeafOptions, makeAuthority, type TestAuthority } from '../fixtures/certs.ts';
import { type ScenarioWay, wayOf, ways } from './ways.ts';

export const alpha: NodeIdentity = { cluster: 'test', site: 'harbor', node: '0a0000000001' };
export const beta: NodeIdentity = { cluster: 'test', site: 'harbor', node: '0b0000000002' };

export interface Log {
  readonly message: string;
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;
}

export interface ScenarioHost {
  readonly host: Host;
  /** Where it is dialed. */
  readonly endpoint: Endpoint;
  readonly logs: Log[];
  /** States that its channels have come to, oldest first. */
  readonly states: ChannelState[];
  /** Resolves once `wanted` holds of the status; asked again at each change. */
  until(wanted: (status: readonly ChannelStatus[]) => boolean): Promise<void>;
}

export interface HostSetting {
  readonly self: NodeIdentity;
  readonly authority: TestAuthority;
  readonly leaf?: LeafOptions;
  /** In the place of a leaf of `authority`, or of one after the other. */
  readonly credentials?: Credentials | (() => Credentials);
  /** In the place of the root of `authority`; asked at each look. */
  readonly roots?: () => readonly Uint8Array[];
  readonly recorded?: (identity: NodeIdentity) => RecordedFingerprint;
  readonly transport: ScenarioWay;
  readonly timers?: Timers;
  /** What rules say; those of a site without any, unless told. */
  readonly policy?: Judge;
}

/** What a host of the site knows by these policies. */
export const viewWith = (self: NodeIdentity, policies: readonly PolicyRule[]): View => ({
  self: endOf(self),
  peer: endOf,
  epochOf: () => 0,
  rules: { ...noRules, policies },
  degraded: false,
});

export const judgeOf = (self: NodeIdentity, policies: readonly PolicyRule[] = []): Judge => new Judge(trafficClassNames, viewWith(self, policies));

/** A host that listens on loopback and is closed when the test ends. */
export async function startHost(
  t: Test,
  { self, authority, leaf, credentials, roots = () => [authority.root], recorded = () => 'any', transport, timers = systemTimers, policy }: HostSetting,
): Promise<ScenarioHost> {
  const given = credentials ?? (await authority.issue({ node: self.node, site: self.site, ...leaf }));
  const own = typeof given === 'function' ? given : () => given;
  const way = wayOf(transport);
  const logs: Log[] = [];
  const states: ChannelState[] = [];
  const waiting = new Set<() => void>();
  const look = (): void => {
    for (const check of [...waiting]) check();
  };
  const host = await Host.start({
    self,
    credentials: own,
    roots,
    recordedFingerprint: recorded,
    ...(policy !== undefined && { policy }),
    versions: () => ({ directory: 1, trust: 1 }),
    nameOf: (node) => node,
    ...way.options,
    timers,
    observer: {
      moved(_channel, { now }) {
        states.push(now);
        look();
      },
      carried: () => {},
    },
    onHttp: null,
    isGoverned: true,
    log: (message, facts) => {
      logs.push({ message, facts });
      look();
    },
    onChange: look,
  });
  t.teardown(() => host.close());
  serveEcho(host.mesh);
  const until = (wanted: (status: readonly ChannelStatus[]) => boolean): Promise<void> =>
    new Promise((resolve) => {
      const check = (): void => {
        if (!wanted(host.mesh.status())) return;
        waiting.delete(check);
        resolve();
      };
      waiting.add(check);
      check();
    });
  return { host, endpoint: way.reach(host, own), logs, states, until };
}

/** Lets `from` dial `to`, believing it to be `identity`. */
export function dial(from: ScenarioHost, { endpoint }: Pick<ScenarioHost, 'endpoint'>, identity: NodeIdentity): void {
  from.host.mesh.setCandidates([{ identity, name: identity.node, endpoints: [endpoint], isDialed: true }]);
}

export const isEstablished = (status: readonly ChannelStatus[]): boolean =>
  status.some(({ state, transport }) => state === 'established' && transport !== null);
export const lastError = (status: readonly ChannelStatus[]): string | undefined => status[0]?.last_error?.code;
export const codes = (logs: readonly Log[]): unknown[] => logs.map(({ facts }) => facts.code);

/** One message there and back. */
export async function answered(flow: FlowHandle): Promise<boolean> {
  flow.send(new Uint8Array([7]));
  return (await flow.receive())?.[0] === 7;
}

/** Runs a scenario over each way. */
export function overEach(t: Test, promise: string, scenario: (t: Test, transport: ScenarioWay, authority: TestAuthority) => Promise<void>): void {
  for (const transport of ways) {
    t.test(`${promise} (${transport})`, async (t) => scenario(t, transport, await makeAuthority('test')));
  }
}

export const nodeUri = (identity: NodeIdentity): string => `spiffe://${identity.cluster}/site/${identity.site}/node/${identity.node}`;
