/** Two hosts of a small cluster on loopback, over one transport, for the scenarios of spec section 15: the real listener, dialer, sessions and chain decision. */
import type { Test } from 'tap';
import type { NodeIdentity } from '../../src/base/ids.ts';
import type { RecordedFingerprint } from '../../src/identity/verify.ts';
import { Host } from '../../src/peering/host.ts';
import { endOf, Judge, type View } from '../../src/policy/judge.ts';
import { noRules, type PolicyRule } from '../../src/policy/rules.ts';
import { trafficClassNames } from '../../src/channel/classes.ts';
import type { ChannelStatus } from '../../src/peering/mesh.ts';
import { serveEcho } from '../../src/services/echo.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { type LeafOptions, makeAuthority, type TestAuthority } from '../fixtures/certs.ts';

export const transports = ['quic', 'tcp'] as const;
export type ScenarioTransport = (typeof transports)[number];

export const alpha: NodeIdentity = { cluster: 'test', site: 'harbor', node: '0a0000000001' };
export const beta: NodeIdentity = { cluster: 'test', site: 'harbor', node: '0b0000000002' };

export interface Log {
  readonly message: string;
  readonly facts: Readonly<Record<string, string | number | boolean | null>>;
}

export interface ScenarioHost {
  readonly host: Host;
  readonly logs: Log[];
  /** Resolves once `wanted` holds of the status; asked again at each change. */
  until(wanted: (status: readonly ChannelStatus[]) => boolean): Promise<void>;
}

export interface HostSetting {
  readonly self: NodeIdentity;
  readonly authority: TestAuthority;
  readonly leaf?: LeafOptions;
  /** In the place of a leaf of `authority`. */
  readonly credentials?: Credentials;
  readonly recorded?: (identity: NodeIdentity) => RecordedFingerprint;
  readonly transport: ScenarioTransport;
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
  { self, authority, leaf, credentials, recorded = () => 'any', transport, policy }: HostSetting,
): Promise<ScenarioHost> {
  const own = credentials ?? (await authority.issue({ node: self.node, site: self.site, ...leaf }));
  const logs: Log[] = [];
  const waiting = new Set<() => void>();
  const look = (): void => {
    for (const check of [...waiting]) check();
  };
  const host = await Host.start({
    self,
    credentials: () => own,
    roots: () => [authority.root],
    recordedFingerprint: recorded,
    ...(policy !== undefined && { policy }),
    versions: () => ({ directory: 1, trust: 1 }),
    nameOf: (node) => node,
    listen: { host: '127.0.0.1', tcpPort: 0, udpPort: transport === 'quic' ? 0 : null },
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
  return { host, logs, until };
}

/** Lets `from` dial `to`, believing it to be `identity`. */
export function dial(from: ScenarioHost, to: ScenarioHost, identity: NodeIdentity): void {
  const { listener } = to.host;
  if (!listener) throw new Error('the dialed host does not listen');
  const endpoint = { host: '127.0.0.1', tcp: listener.udp ? null : listener.tcp.port, udp: listener.udp?.port ?? null };
  from.host.mesh.setCandidates([{ identity, name: identity.node, endpoints: [endpoint], isDialed: true }]);
}

export const isEstablished = (status: readonly ChannelStatus[]): boolean =>
  status.some(({ state, transport }) => state === 'established' && transport !== null);
export const lastError = (status: readonly ChannelStatus[]): string | undefined => status[0]?.last_error?.code;
export const codes = (logs: readonly Log[]): unknown[] => logs.map(({ facts }) => facts.code);

/** Runs a scenario over each transport. */
export function overEach(t: Test, promise: string, scenario: (t: Test, transport: ScenarioTransport, authority: TestAuthority) => Promise<void>): void {
  for (const transport of transports) {
    t.test(`${promise} (${transport})`, async (t) => scenario(t, transport, await makeAuthority('test')));
  }
}

export const nodeUri = (identity: NodeIdentity): string => `spiffe://${identity.cluster}/site/${identity.site}/node/${identity.node}`;
