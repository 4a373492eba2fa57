/** Channels of the product: a listening host, and dialing meshes that share one dialer's transports. */
import type { Endpoint, FlowHandle } from '../src/peering/mesh.ts';
import { Host } from '../src/peering/host.ts';
import { trafficClassNames } from '../src/channel/classes.ts';
import { judgeWithoutRules } from '../src/policy/judge.ts';
import { PeerMesh } from '../src/peering/peer-mesh.ts';
import { verifyPeer } from '../src/identity/verify.ts';
import { Dialer as SessionDialer } from '../src/transport/dialer.ts';
import { QuicTransport } from '../src/transport/quic.ts';
import { systemRandom, systemTimers } from '../src/transport/system.ts';
import { TcpTransport } from '../src/transport/tcp.ts';
import { Arrivals, echoesBeside } from './beside.ts';
import { ACCEPTOR, type Acceptor, CHUNK_BYTES, CLUSTER, type Dialer, ECHO_BYTES, inParallel, type Pki, SITE } from './subject.ts';

const quiet = {
  log: () => {},
  nameOf: (node: string) => node,
  versions: () => ({ directory: 1, trust: 1 }),
  judgeAgain: () => {},
  mayBegin: () => null,
  isGoverned: true,
};

const SINK_BYTES = 256 * 1024;
const UNBOUNDED_PER_S = 1e6;

export async function acceptMesh(pki: Pki, transport: 'tcp' | 'quic', address: string): Promise<Acceptor> {
  const host = await Host.start({
    ...quiet,
    self: { cluster: CLUSTER, site: SITE, node: ACCEPTOR },
    credentials: () => pki.acceptor,
    roots: () => [pki.root],
    recordedFingerprint: () => 'any',
    listen: { host: address, tcpPort: 0, udpPort: transport === 'quic' ? 0 : null },
    onHttp: null,
    onChange: () => {},
    // How many are let in a second is a setting; what is measured is what one costs.
    admission: { channels_per_s: UNBOUNDED_PER_S, burst: UNBOUNDED_PER_S },
  });
  const arrivals = new Arrivals();
  host.mesh.handle(
    'sink',
    (flow) =>
      void sink(flow, arrivals).catch(() => {
        // Given up: nobody waits for the confirmation.
      }),
  );
  host.mesh.handle('echo', (flow) => void echo(flow));
  const port = transport === 'quic' ? host.listener?.udp?.port : host.listener?.tcp.port;
  if (port === undefined) throw new Error('no port');
  return { port, arrivals: () => arrivals.octets, close: () => host.close() };
}

/** Reads all, then confirms. */
async function sink(flow: FlowHandle, arrivals: Arrivals): Promise<void> {
  const into = new Uint8Array(SINK_BYTES);
  while (await flow.readable()) {
    for (let count = flow.readInto(into); count > 0; count = flow.readInto(into)) arrivals.add(count);
  }
  flow.write(Uint8Array.of(1));
  flow.end();
}

async function echo(flow: FlowHandle): Promise<void> {
  for (let message = await flow.receive(); message !== null; message = await flow.receive()) flow.send(message);
  flow.end();
}

/** One dialing identity: its mesh, and its one channel. */
class Link {
  readonly mesh: PeerMesh;
  readonly #endpoint: Endpoint;
  #changed: () => void = () => {};

  constructor(pki: Pki, index: number, endpoint: Endpoint, transports: { quic: QuicTransport; tcp: TcpTransport }) {
    const own = pki.dialers[index];
    if (own === undefined) throw new Error('no such identity');
    this.#endpoint = endpoint;
    const dialer = new SessionDialer({ transports, timers: systemTimers, random: systemRandom });
    const judge = (usage: 'client' | 'server') => (session: { readonly peerChain: readonly Uint8Array[] }) =>
      verifyPeer({ chain: session.peerChain, roots: [pki.root], cluster: CLUSTER, now_ms: Date.now(), usage, expectedNode: ACCEPTOR, expectedSite: SITE });
    const destination = { key: ACCEPTOR, name: ACCEPTOR, endpoints: [endpoint] };
    this.mesh = new PeerMesh({
      ...quiet,
      self: { cluster: CLUSTER, site: SITE, node: own.node },
      timers: systemTimers,
      random: systemRandom,
      dialer: {
        dial: (_candidate, signal) => dialer.dial(destination, own.credentials, judge('server'), signal),
        probe: (_candidate, signal) => dialer.probe(destination, own.credentials, judge('server'), signal),
        noteSilent: (_candidate, transport) => dialer.noteSilent(destination, transport),
      },
      judge: judge('client'),
      policy: judgeWithoutRules({ cluster: CLUSTER, site: SITE, node: own.node }, trafficClassNames),
      onChange: () => this.#changed(),
    });
  }

  async up(): Promise<void> {
    const established = new Promise<void>((resolve) => {
      this.#changed = () => {
        if (this.mesh.status()[0]?.state === 'established') resolve();
      };
    });
    this.mesh.setCandidates([{ identity: { cluster: CLUSTER, site: SITE, node: ACCEPTOR }, name: ACCEPTOR, endpoints: [this.#endpoint], isDialed: true }]);
    this.#changed();
    await established;
  }

  down(): void {
    this.#changed = () => {};
    this.mesh.setCandidates([]);
  }
}

export async function dialMesh(pki: Pki, transport: 'tcp' | 'quic', host: string, port: number): Promise<Dialer> {
  const transports = { quic: new QuicTransport(), tcp: new TcpTransport() };
  const endpoint = { host, tcp: transport === 'tcp' ? port : null, udp: transport === 'quic' ? port : null };
  const links: Link[] = [];
  const linkOf = (index: number): Link => (links[index] ??= new Link(pki, index, endpoint, transports));
  const own = linkOf(0);
  await own.up();
  return {
    async bulk(bytes) {
      const flow = own.mesh.open(ACCEPTOR, 'file_transfer', 'stream', 'sink');
      const chunk = new Uint8Array(CHUNK_BYTES);
      for (let sent = 0; sent < bytes; sent += CHUNK_BYTES) if (!flow.write(chunk)) await flow.drained();
      flow.end();
      await flow.readable();
      const confirmed = flow.read();
      if (confirmed === null) throw new Error('the other end did not confirm');
      await flow.closed;
    },
    async echo(count) {
      const flow = own.mesh.open(ACCEPTOR, 'input', 'messages', 'echo');
      const times: number[] = [];
      for (let index = 0; index < count; index++) {
        const at = performance.now();
        flow.send(new Uint8Array(ECHO_BYTES));
        if ((await flow.receive()) === null) throw new Error('the echo ended');
        times.push(performance.now() - at);
      }
      flow.end();
      await flow.closed;
      return times;
    },
    establish: (count, atOnce) =>
      inParallel(count, atOnce, async (_index, worker) => {
        const link = linkOf(worker + 1);
        await link.up();
        link.down();
      }),
    async hold() {
      await inParallel(pki.dialers.length - 1, 8, (index) => linkOf(index + 1).up());
      return pki.dialers.length - 1;
    },
    beside: (times) => echoesBeside(own.mesh, ACCEPTOR, times),
    async close() {
      await Promise.all(links.map((link) => link?.mesh.close()));
      await transports.quic.close();
      await transports.tcp.close();
    },
  };
}
