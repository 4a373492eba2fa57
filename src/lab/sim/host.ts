/** One simulated host: a program with the real dialer and channel table, a clock of its own, and a disk that outlives the program. */
import type { NodeIdentity } from '../../base/ids.ts';
import { trafficClassNames } from '../../channel/classes.ts';
import type { AdmissionRate } from '../../peering/admission.ts';
import type { Candidate, FlowHandle, Mesh } from '../../peering/mesh.ts';
import { PeerMesh } from '../../peering/peer-mesh.ts';
import { judgeWithoutRules } from '../../policy/judge.ts';
import { Dialer } from '../../transport/dialer.ts';
import type { Timers } from '../../transport/system.ts';
import type { Agenda } from './agenda.ts';
import { chainOf, type Directory, judgeChain, shortName, type Snapshot, TOWER } from './directory.ts';
import type { SimNetwork } from './network.ts';

export interface HostWorld {
  readonly agenda: Agenda;
  readonly network: SimNetwork;
  readonly directory: Directory;
  readonly note: (who: string, what: string) => void;
  /** False: nodes know what they knew at the start, and do not ask for more. */
  readonly isFollowing?: boolean;
  readonly admission?: AdmissionRate;
}

/** Name of the flow on which nodes hear of the directory. */
const DIRECTORY_SERVICE = 'directory';

export class SimHost {
  readonly identity: NodeIdentity;
  readonly #world: HostWorld;
  readonly #serve: (mesh: Mesh, host: SimHost) => void;
  /** What was synced; a crash leaves no other. */
  #disk: { snapshot: Snapshot; leaf: number };
  #mesh: PeerMesh | null = null;
  #known: Snapshot;
  #followed: FlowHandle | null = null;
  /** The tower's flows to nodes that follow. */
  readonly #followers = new Set<FlowHandle>();
  #wallOffset_ms = 0;
  #drift_part = 0;
  #runs = 0;

  constructor(identity: NodeIdentity, world: HostWorld, serve: (mesh: Mesh, host: SimHost) => void) {
    this.identity = identity;
    this.#world = world;
    this.#serve = serve;
    this.#known = world.directory.snapshot;
    this.#disk = { snapshot: this.#known, leaf: 1 };
  }

  get name(): string {
    return shortName(this.identity.node);
  }

  get isTower(): boolean {
    return this.identity.node === TOWER.node;
  }

  get mesh(): PeerMesh | null {
    return this.#mesh;
  }

  get isUp(): boolean {
    return this.#mesh !== null;
  }

  /** Its own clock: what it shows may be stepped, how fast it goes may be off. */
  get #timers(): Timers {
    const { agenda } = this.#world;
    const run = this.#runs;
    return {
      clock: { now: () => agenda.now * (1 + this.#drift_part), wall: () => agenda.now * (1 + this.#drift_part) + this.#wallOffset_ms },
      // The timers of a program that has died do not fire in the next one.
      after: (delay_ms, action) => agenda.at(agenda.now + delay_ms / (1 + this.#drift_part), () => run === this.#runs && action()),
    };
  }

  stepClock(ms: number): void {
    this.#wallOffset_ms += ms;
  }

  driftClock(part: number): void {
    if (!this.isUp) this.#drift_part = part;
  }

  start(): void {
    if (this.#mesh !== null) return;
    const { agenda, network } = this.#world;
    const timers = this.#timers;
    this.#known = this.isTower ? this.#world.directory.snapshot : this.#disk.snapshot;
    const chain = chainOf(this.identity, this.#disk.leaf);
    const credentials = { chain, key: new Uint8Array() };
    const run = this.#runs;
    const isAlive = (): boolean => run === this.#runs;
    const { node } = this.identity;
    const dialer = new Dialer({
      transports: { quic: network.transport('quic', node, isAlive), tcp: network.transport('tcp', node, isAlive) },
      timers,
      random: agenda.random,
    });
    const destination = ({ identity, name, endpoints }: Candidate) => ({ key: identity.node, name, endpoints });
    const mesh = new PeerMesh({
      self: this.identity,
      timers,
      random: agenda.random,
      dialer: {
        dial: (candidate, signal) => dialer.dial(destination(candidate), credentials, this.#judge(candidate.identity.node), signal),
        probe: (candidate, signal) => dialer.probe(destination(candidate), credentials, this.#judge(candidate.identity.node), signal),
        noteSilent: (candidate, transport) => dialer.noteSilent(destination(candidate), transport),
      },
      judge: this.#judge(null),
      judgeAgain: ({ node }, peerChain) => void this.#judge(node)({ peerChain }),
      mayBegin: () => null,
      policy: judgeWithoutRules(this.identity, trafficClassNames),
      versions: () => ({ directory: this.#known.version, trust: 1 }),
      nameOf: shortName,
      isGoverned: false,
      children: () => (this.isTower ? this.#known.entries.length : 0),
      ...(this.#world.admission === undefined ? {} : { admission: this.#world.admission }),
      log: (message, facts) => isAlive() && this.#world.note(this.name, `${message} ${Object.values(facts).join(' ')}`),
      onChange: () => isAlive() && this.#poke(),
    });
    this.#mesh = mesh;
    network.start(this.identity.node, { chain, onSession: (session) => mesh.accept(session) });
    this.#serve(mesh, this);
    if (this.isTower) mesh.handle(DIRECTORY_SERVICE, (flow) => this.#serveDirectory(flow));
    this.#follow();
  }

  /** Without a word to anybody. */
  crash(): void {
    const mesh = this.#mesh;
    if (mesh === null) return;
    this.#mesh = null;
    this.#runs++;
    this.#followed = null;
    this.#followers.clear();
    this.#world.network.kill(this.identity.node);
  }

  #judge(expected: string | null): (session: { readonly peerChain: readonly Uint8Array[] }) => ReturnType<typeof judgeChain> {
    return ({ peerChain }) => judgeChain(peerChain, this.#known, expected);
  }

  /** Peers of the site: the smaller id dials, as a node does it; and the tower. */
  #follow(): void {
    if (this.isTower || this.#mesh === null) return;
    const { node, site } = this.identity;
    const at = (host: string) => [{ host, tcp: 443, udp: 443 }];
    const peers = this.#known.entries
      .filter((entry) => entry.site === site && entry.node !== node && entry.leaf !== null)
      .map((entry): Candidate => {
        const identity = { ...this.identity, node: entry.node };
        return { identity, name: shortName(entry.node), endpoints: at(entry.node), isDialed: node < entry.node };
      });
    this.#mesh.setCandidates([{ identity: TOWER, name: 'tower', endpoints: at(TOWER.node), isDialed: true }, ...peers]);
    this.#mesh.revalidate();
  }

  // ---- hearing of the directory

  #poke(): void {
    if (this.isTower || this.#followed !== null || this.#mesh === null || this.#world.isFollowing === false) return;
    try {
      const flow = this.#mesh.open(TOWER.node, 'fabric_control', 'messages', DIRECTORY_SERVICE);
      this.#followed = flow;
      void this.#hear(flow);
    } catch {
      // No channel yet; the next change asks again.
    }
  }

  async #hear(flow: FlowHandle): Promise<void> {
    const run = this.#runs;
    for (let message = await flow.receive(); message !== null && run === this.#runs; message = await flow.receive()) {
      const snapshot = JSON.parse(new TextDecoder().decode(message)) as Snapshot;
      if (snapshot.version <= this.#known.version) continue;
      this.#known = snapshot;
      // Taken at once, synced a little later: a crash in between leaves the old one.
      this.#timers.after(20, () => {
        this.#disk = { ...this.#disk, snapshot };
      });
      this.#world.note(this.name, `snapshot ${snapshot.version}`);
      this.#follow();
    }
    if (run !== this.#runs) return;
    this.#followed = null;
    this.#timers.after(500, () => this.#poke());
  }

  #serveDirectory(flow: FlowHandle): void {
    this.#followers.add(flow);
    void flow.closed.then(() => this.#followers.delete(flow));
    this.#tell(flow);
  }

  #tell(flow: FlowHandle): void {
    try {
      flow.send(new TextEncoder().encode(JSON.stringify(this.#world.directory.snapshot)));
    } catch {
      // It has just ended.
    }
  }

  /** The tower's rows have changed. */
  directoryChanged(): void {
    if (this.#mesh === null) return;
    this.#known = this.#world.directory.snapshot;
    this.#mesh.revalidate();
    for (const flow of this.#followers) this.#tell(flow);
  }

  /** Version of what it knows. */
  get version(): number {
    return this.#known.version;
  }

  knowsRevoked(node: string): boolean {
    return this.#known.entries.some((entry) => entry.node === node && entry.leaf === null);
  }

  async close(): Promise<void> {
    await this.#mesh?.close();
  }
}
