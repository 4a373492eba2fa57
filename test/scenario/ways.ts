/**
 * What each scenario of spec section 15 runs over. A row says how a host is reached over it and dials over it; a relayed path is one more row. Hosts over
 * memory differ from the others in their sessions alone: certificates, judgement, hello and channel are the same.
 */
import type { Test } from 'tap';
import type { Endpoint } from '../../src/peering/mesh.ts';
import type { HostOptions } from '../../src/peering/host.ts';
import type { PeerMesh } from '../../src/peering/peer-mesh.ts';
import type { Listener } from '../../src/transport/listener.ts';
import { QuicTransport } from '../../src/transport/quic.ts';
import type { Transport } from '../../src/transport/session.ts';
import { TcpTransport } from '../../src/transport/tcp.ts';
import { MemoryNetwork } from '../fixtures/memory-network.ts';
import { type Middle, tcpMiddle, udpMiddle } from '../fixtures/middle.ts';

/** Over real sockets. */
export const transports = ['quic', 'tcp'] as const;
export type ScenarioTransport = (typeof transports)[number];

export const ways = ['memory', ...transports] as const;
export type ScenarioWay = (typeof ways)[number];

/** A host, or the agent of a node. */
interface Reached {
  readonly mesh: Pick<PeerMesh, 'accept'>;
  readonly listener: Pick<Listener, 'tcp' | 'udp'> | null;
}

interface Way {
  /** What a host is started with. */
  readonly options: Pick<HostOptions, 'listen' | 'transports'>;
  /** Where this host is dialed from now on. */
  reach(host: Reached, credentials: HostOptions['credentials']): Endpoint;
  /** For whoever speaks raw. */
  dialer(t: Test): Transport;
  /** Another way to that endpoint, which can go silent. */
  through(t: Test, endpoint: Endpoint): Promise<{ readonly endpoint: Endpoint; silence(): void }>;
}

const LOOPBACK = '127.0.0.1';
const network = new MemoryNetwork();

const table: Record<ScenarioWay, Way> = {
  memory: {
    // It stands in the place of QUIC; nobody offers TCP there.
    options: { listen: null, transports: { quic: network.transport, tcp: new TcpTransport() } },
    reach: (host, credentials) => ({ host: 'memory', tcp: null, udp: network.listen({ credentials, accept: (session) => host.mesh.accept(session) }) }),
    dialer: () => network.transport,
    through: async (_t, endpoint) => ({ endpoint, silence: () => network.silence() }),
  },
  quic: {
    options: { listen: { host: LOOPBACK, tcpPort: 0, udpPort: 0 } },
    reach: ({ listener }) => ({ host: LOOPBACK, tcp: null, udp: mustListen(listener?.udp).port }),
    dialer: (t) => closedAfter(t, new QuicTransport()),
    through: async (t, endpoint) => {
      const middle = closedAfter(t, await udpMiddle(portOf(endpoint)));
      return { endpoint: { ...endpoint, udp: middle.port }, silence: () => middle.silence() };
    },
  },
  tcp: {
    options: { listen: { host: LOOPBACK, tcpPort: 0, udpPort: null } },
    reach: ({ listener }) => ({ host: LOOPBACK, tcp: mustListen(listener?.tcp).port, udp: null }),
    dialer: (t) => closedAfter(t, new TcpTransport()),
    through: async (t, endpoint) => {
      const middle = closedAfter(t, await tcpMiddle(portOf(endpoint)));
      return { endpoint: { ...endpoint, tcp: middle.port }, silence: () => middle.silence() };
    },
  },
};

export const wayOf = (name: ScenarioWay): Way => table[name];

/** The port of an endpoint with one transport. */
export function portOf({ tcp, udp }: Endpoint): number {
  const port = udp ?? tcp;
  if (port === null) throw new Error('an endpoint without a port');
  return port;
}

function closedAfter<Thing extends { close(): unknown } & (Middle | Transport)>(t: Test, thing: Thing): Thing {
  t.teardown(() => thing.close());
  return thing;
}

function mustListen<Address>(address: Address | null | undefined): Address {
  if (!address) throw new Error('the host does not listen');
  return address;
}
