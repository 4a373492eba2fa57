/** One simulated host: a program with the real dialer, channel table and degraded mode, a clock of its own, and a disk that outlives it. */
import type { NodeIdentity } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { TrafficClass } from '../../channel/classes.ts';
import type { AdmissionRate } from '../../peering/admission.ts';
import type { DrainRequest } from '../../peering/drain.ts';
import type { Candidate, Mesh } from '../../peering/mesh.ts';
import type { PeerMesh } from '../../peering/peer-mesh.ts';
import type { Timers } from '../../transport/system.ts';
import type { Agenda } from './agenda.ts';
import {
  type Directory,
  entryOf,
  fingerprintOf,
  FIRST_LEAF,
  shortName,
  type Snapshot,
  SNAPSHOT_REFRESH_MS,
  SNAPSHOT_TTL_MS,
  TOWER,
  TOWER_CLASS,
  viewOf,
} from './directory.ts';
import type { SimNetwork } from './network.ts';
import { HostClock } from './host-clock.ts';
import { makeProgram, type Program } from './program.ts';

export interface HostWorld {
  readonly agenda: Agenda;
  readonly network: SimNetwork;
  readonly directory: Directory;
  readonly note: (who: string, what: string) => void;
  /** False: nodes know what they knew at the start, do not ask for more, and follow it for ever. */
  readonly isFollowing?: boolean;
  readonly admission?: AdmissionRate;
}

export class SimHost {
  readonly identity: NodeIdentity;
  readonly clock: HostClock;
  readonly #world: HostWorld;
  readonly #serve: (mesh: Mesh, host: SimHost) => void;
  /** What was synced; a crash leaves no other. */
  #disk: Snapshot;
  /** Synced before it is shown. */
  #leaf = FIRST_LEAF;
  #running: Program | null = null;
  #known: Snapshot;
  #cancelRefresh: () => void = () => {};
  /** When each class was denied, by what this host knows, and since when no session with the tower is there: virtual time. */
  readonly #denied = new Map<TrafficClass, number>();
  #towerLostAt: number | null = null;
  /** When it heard that a root is none any more: virtual time. */
  readonly #retired = new Map<number, number>();
  /** Until when something is wrong with it, with its clock, or with a path of it. */
  troubledUntil = 0;

  constructor(identity: NodeIdentity, world: HostWorld, serve: (mesh: Mesh, host: SimHost) => void) {
    this.identity = identity;
    this.clock = new HostClock(world.agenda);
    this.#world = world;
    this.#serve = serve;
    this.#known = world.directory.snapshot(world.agenda.now);
    this.#disk = this.#known;
  }

  get name(): string {
    return shortName(this.identity.node);
  }

  get isTower(): boolean {
    return this.identity.node === TOWER.node;
  }

  get program(): Program | null {
    return this.#running;
  }

  get mesh(): PeerMesh | null {
    return this.#running?.mesh ?? null;
  }

  get isUp(): boolean {
    return this.#running !== null;
  }

  get #timers(): Timers {
    return this.clock.timers;
  }

  start(): void {
    if (this.#running !== null) return;
    const { network } = this.#world;
    this.clock.isStepped = false;
    this.#known = this.isTower ? this.#asOfNow() : this.#disk;
    this.#noteDenied();
    const running = this.#run();
    this.#running = running;
    network.start(this.identity.node, {
      get chain() {
        return running.chain;
      },
      onSession: (session) => running.mesh.accept(session),
    });
    this.#serve(running.mesh, this);
    if (this.isTower) this.#refresh();
    else if (this.#isBound) {
      running.expiry.follow();
      this.#towerLostAt = this.#world.agenda.now;
      running.away.channelsChanged();
    }
    this.#follow();
  }

  #run(): Program {
    const isAlive = this.clock.isRunning;
    const { isFollowing, ...world } = this.#world;
    return makeProgram({
      ...world,
      identity: this.identity,
      timers: this.#timers,
      isAlive,
      known: () => this.#known,
      leaf: () => this.#leaf,
      keepLeaf: (leaf) => {
        this.#leaf = leaf;
      },
      heard: (snapshot) => isAlive() && this.#heard(snapshot),
      onChannels: () => isAlive() && this.#channelsChanged(),
      onStanding: () => this.#standingChanged(),
    });
  }

  /** It goes by what the tower says, for as long as that may be followed. */
  get #isBound(): boolean {
    return !this.isTower && this.#world.isFollowing !== false;
  }

  /** Without a word to anybody. */
  crash(): void {
    if (this.#running === null) return;
    this.#running = null;
    this.clock.endRun();
    this.#world.network.kill(this.identity.node);
  }

  // ---- draining

  drain(request: DrainRequest): void {
    void this.mesh?.drain(request);
  }

  undrain(): void {
    this.mesh?.undrain();
  }

  get isDraining(): boolean {
    return this.mesh !== null && this.mesh.drainStatus.state !== 'none';
  }

  // ---- what it knows

  /** As an agent follows a snapshot: what is there is judged, then who is wanted. Peers of the site: the smaller id dials; and the tower. */
  #follow(): void {
    const running = this.#running;
    if (running === null) return;
    this.#noteRetired();
    running.trust.follow(running.mesh);
    this.#judgeByNow(running);
    running.mesh.revalidate();
    if (this.isTower) return;
    const { node, site } = this.identity;
    const at = (host: string) => [{ host, tcp: 443, udp: 443 }];
    const peers = this.#known.entries
      .filter((entry) => entry.site === site && entry.node !== node && entry.leaf !== null)
      .map((entry): Candidate => {
        const identity = { ...this.identity, node: entry.node };
        const leaf = fingerprintOf(entry.leaf ?? 0);
        return { identity, name: shortName(entry.node), endpoints: at(entry.node), isDialed: node < entry.node, leaf };
      });
    running.mesh.setCandidates([{ identity: TOWER, name: 'tower', endpoints: at(TOWER.node), isDialed: true }, ...peers]);
  }

  #judgeByNow({ policy, away, expiry }: Program): void {
    const standing = this.#isBound ? { degraded: away.isDegraded, objection: (peer: NodeIdentity) => expiry.objection(peer) } : { degraded: false };
    policy.follow(viewOf(this.#known, this.identity, standing));
  }

  /** How it stands with its tower is something else now. */
  #standingChanged(): void {
    const running = this.#running;
    if (running === null) return;
    this.#judgeByNow(running);
    running.mesh.revalidate();
    if (running.expiry.isExpired) running.hearer.ask();
    else running.mesh.hurry();
  }

  #channelsChanged(): void {
    const running = this.#running;
    if (running === null || !this.#isBound) return;
    this.#towerLostAt = running.mesh.reaches(TOWER.node) ? null : (this.#towerLostAt ?? this.#world.agenda.now);
    running.away.channelsChanged();
    running.hearer.poke();
  }

  #heard(snapshot: Snapshot): void {
    const running = this.#running;
    const { version, issued_ms } = this.#known;
    if (running === null || snapshot.version < version || (snapshot.version === version && snapshot.issued_ms <= issued_ms)) return;
    this.#known = snapshot;
    // Taken at once, synced a little later: a crash in between leaves the old one.
    this.#timers.after(20, () => {
      this.#disk = snapshot;
    });
    if (snapshot.version > version) this.#world.note(this.name, `snapshot ${snapshot.version}`);
    this.#noteDenied();
    running.expiry.follow();
    // Told afresh only, it changes nothing but for how long it may be followed.
    if (snapshot.version > version) this.#follow();
    running.away.snapshotTaken();
  }

  /** The tower's rows have changed. */
  directoryChanged(): void {
    if (this.#running === null) return;
    this.#known = this.#asOfNow();
    this.#follow();
    this.#running.teller?.tellAll();
  }

  #asOfNow(): Snapshot {
    return this.#world.directory.snapshot(this.clock.wall_ms);
  }

  /** The tower tells afresh, before what it has told expires. */
  #refresh(): void {
    this.#cancelRefresh = this.#timers.after(SNAPSHOT_REFRESH_MS, () => {
      this.#known = this.#asOfNow();
      this.#running?.teller?.tellAll();
      this.#refresh();
    });
  }

  // ---- what it must hold to, for invariants

  knowsRevoked(node: string): boolean {
    return entryOf(this.#known, node)?.leaf === null;
  }

  #noteRetired(): void {
    for (let root = FIRST_LEAF.root; root < Math.max(...this.#known.roots); root++)
      if (!this.#known.roots.includes(root) && !this.#retired.has(root)) this.#retired.set(root, this.#world.agenda.now);
  }

  /** Since when it knows that a root is none any more: virtual time; null: it is one, as far as this host knows. */
  retiredSince(root: number): number | null {
    return this.#known.roots.includes(root) ? null : (this.#retired.get(root) ?? null);
  }

  /** Whether it is known to hold this root, or to show a leaf under it: what the tower counts. */
  holdsRoot(root: number): boolean {
    return this.#disk.roots.includes(root);
  }

  showsRoot(root: number): boolean {
    return this.#leaf.root === root;
  }

  #noteDenied(): void {
    for (const cls of this.#denied.keys()) if (!this.#known.denied.includes(cls)) this.#denied.delete(cls);
    for (const cls of this.#known.denied) if (!this.#denied.has(cls)) this.#denied.set(cls, this.#world.agenda.now);
  }

  /** Since when it may not use a class with another node, as it should know: virtual time; null: it may. */
  deniedSince(cls: TrafficClass): number | null {
    const denied = this.#denied.get(cls) ?? null;
    if (cls !== TOWER_CLASS || this.#towerLostAt === null) return denied;
    return Math.min(denied ?? Number.POSITIVE_INFINITY, this.#towerLostAt + limits.tower_away_ms);
  }

  /** For how long what it knows has been too old to have channels with nodes by; below 0: it is not. */
  get expired_ms(): number {
    return this.isTower ? Number.NEGATIVE_INFINITY : this.clock.wall_ms - this.#known.issued_ms - SNAPSHOT_TTL_MS;
  }

  async close(): Promise<void> {
    const running = this.#running;
    if (running === null) return;
    running.away.close();
    running.expiry.close();
    running.trust.close();
    this.#cancelRefresh();
    await running.mesh.close();
  }
}
