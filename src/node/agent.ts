/** The agent of one node: keeps channels with its tower and the peers that it may talk to, follows snapshots, serves `echo` and `files`. */
import { join } from 'node:path';
import type { Api } from '../api/http.ts';
import { asSelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { fromHex, type NodeIdentity, TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import { BootFile } from '../enroll/boot-file.ts';
import { NodeState, stateFiles } from '../enroll/state.ts';
import type { Endpoint, Snapshot } from '../enroll/wire.ts';
import { trafficClassNames } from '../channel/classes.ts';
import type { RecordedFingerprint } from '../identity/verify.ts';
import { lifetimeOf } from '../identity/lifetime.ts';
import type { TrustBundle } from '../identity/trust-bundle.ts';
import type { UnsealKey } from '../identity/unseal.ts';
import type { AdmissionRate } from '../peering/admission.ts';
import { Host } from '../peering/host.ts';
import type { Candidate } from '../peering/mesh.ts';
import { makeReport, type Report } from '../observe/report.ts';
import type { Observatory } from '../observe/observatory.ts';
import type { PeerMesh } from '../peering/peer-mesh.ts';
import { Judge, type View } from '../policy/judge.ts';
import { serveEcho } from '../services/echo.ts';
import { type FileReceiver, serveFiles } from '../services/file-receive.ts';
import type { AppNetworks } from '../overlay/app-networks.ts';
import type { ServerCertificate } from '../transport/listener.ts';
import { systemRandom, systemTimers, type Timers } from '../transport/system.ts';
import { type AppConfig, openApps } from './app.ts';
import { HealthReporter } from './health-reporter.ts';
import { LeafRenewal, type Renewed } from './leaf-renewal.ts';
import { viewOf } from './node-view.ts';
import { SnapshotExpiry } from '../peering/snapshot-expiry.ts';
import { SiteKeeper } from './site-keeper.ts';
import { followedRoot } from './reissue.ts';
import { SnapshotFollower } from './snapshot-follower.ts';
import { TowerAway } from '../peering/tower-away.ts';
import { unsealApi } from './unseal-api.ts';

export interface AgentOptions {
  readonly state: string;
  readonly unseal: UnsealKey;
  /** Null: a node without a listening socket, which is a full member. */
  readonly listen: { readonly host: string; readonly port: number; readonly advertise: readonly string[] } | null;
  /** What HTTP is shown here; absent or null: the cluster's certificate. The caller closes it. */
  readonly server?: ServerCertificate | null;
  readonly isGoverned: boolean;
  /** How many new channels begin here in a second; as usual, unless told. */
  readonly admission?: AdmissionRate;
  readonly app: AppConfig;
  /** Who watches its channels. */
  readonly observer?: Observatory;
  /** Without a session with the tower, until degraded mode begins; absent: `limits.tower_away_ms`. */
  readonly towerAway_ms?: number;
  /** What time it is here; this machine's, unless told. */
  readonly timers?: Timers;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

export class Agent {
  readonly state: NodeState;
  readonly #options: AgentOptions;
  readonly #timers: Timers;
  readonly #expiry: SnapshotExpiry;
  readonly #away: TowerAway;
  readonly #policy: Judge;
  #host: Host | null = null;
  #follower: SnapshotFollower | null = null;
  #files: FileReceiver | null = null;
  #apps: AppNetworks | null = null;
  #site: SiteKeeper | null = null;
  #boot: BootFile | null = null;
  #api: Api | null = null;
  #renewal: LeafRenewal | null = null;
  #reporter: HealthReporter | null = null;
  /** The bundle that channels were judged by last. */
  #trusts: TrustBundle | null = null;
  #cancelGrace: () => void = () => {};

  private constructor(state: NodeState, options: AgentOptions) {
    this.state = state;
    this.#options = options;
    const { timers = systemTimers } = options;
    this.#timers = timers;
    this.#expiry = new SnapshotExpiry({ state, timers, log: options.log, onChange: () => this.#standingChanged() });
    this.#away = new TowerAway({
      site: state.identity.site,
      after_ms: options.towerAway_ms ?? limits.tower_away_ms,
      timers,
      isReached: () => this.#host?.mesh.reaches(TOWER_ID) ?? false,
      ask: () => this.#follower?.askAgain(),
      onChange: () => this.#standingChanged(),
      log: options.log,
    });
    this.#policy = new Judge(trafficClassNames, this.#view);
  }

  /** @throws not_enrolled, store_damaged, store_locked, port_in_use, permission_denied */
  static async start(options: AgentOptions): Promise<Agent> {
    const agent = new Agent(await NodeState.load(options.state, options.unseal, (options.timers ?? systemTimers).clock.wall()), options);
    try {
      await agent.#start();
      return agent;
    } catch (error) {
      await agent.close();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { identity } = this.state;
    const { listen, server = null, log, isGoverned, app, admission, observer } = this.#options;
    const timers = this.#timers;
    const boot = await BootFile.open(this.#options.state, identity);
    this.#boot = boot;
    const api = listen === null ? null : await unsealApi({ state: this.state, expiry: this.#expiry, clock: timers.clock, log });
    this.#api = api;
    const host = await Host.start({
      self: { cluster: identity.cluster, site: identity.site, node: identity.node },
      credentials: () => this.state.credentials,
      roots: () => this.state.trust.roots,
      liveRoots: () => this.state.liveRoots(this.#timers.clock.wall()),
      recordedFingerprint: (peer) => recordedIn(this.state.snapshot, peer),
      policy: this.#policy,
      knownPast: () => ({ name: 'its snapshot', at_ms: this.state.snapshot.issued_ms }),
      mayBegin: (peer) => this.#away.objection(peer),
      versions: () => this.versions,
      nameOf: (node) => nameIn(this.state.snapshot, node),
      listen: listen && { host: listen.host, tcpPort: listen.port, udpPort: listen.port },
      server,
      onHttp: api === null ? null : (socket) => api.server.emit('connection', socket),
      isGoverned,
      timers,
      children: () => this.state.snapshot.peers.length,
      ...(admission === undefined ? {} : { admission }),
      log,
      ...(observer !== undefined && { observer }),
      onChange: () => {
        this.#away.channelsChanged();
        this.#follower?.poke();
        this.#site?.poke();
        this.#apps?.channelsChanged();
        this.#reporter?.poke();
      },
    });
    this.#host = host;
    serveEcho(host.mesh);
    this.#files = await serveFiles(host.mesh, { inbox: join(this.#options.state, stateFiles.inbox), timers });
    this.#apps = await openApps(this.state, host.mesh, app, listen !== null, log);
    this.#follower = new SnapshotFollower({
      mesh: host.mesh,
      state: this.state,
      timers,
      listen: this.#advertised(host),
      wantsFresh: () => this.#away.isDegraded || this.#expiry.isExpired,
      onSnapshot: () => {
        this.#follow(host);
        this.#away.snapshotTaken();
      },
      onKept: () => this.#renewal?.follow(),
      log,
    });
    this.#site = new SiteKeeper({
      mesh: host.mesh,
      secrets: this.state.secrets,
      boot,
      timers,
      wantedRoot: () => followedRoot(this.state),
      log,
    });
    this.#follow(host);
    this.#follower.start();
    this.#renewal = new LeafRenewal({
      mesh: host.mesh,
      state: this.state,
      timers,
      random: systemRandom,
      onRenewed: () => {
        this.#site?.look();
        return host.renewed();
      },
      others: () => server?.watched ?? [],
      log,
    });
    this.#renewal.start();
    this.#away.channelsChanged();
    if (observer !== undefined) {
      const report = () => this.#report(observer, host.mesh);
      this.#reporter = new HealthReporter({ mesh: host.mesh, timers, random: systemRandom, report });
    }
  }

  #report(seen: Observatory, mesh: PeerMesh): Report {
    const { snapshot, snapshotExpires_ms, credentials } = this.state;
    const facts = () => ({
      snapshot_version: snapshot.version,
      snapshot_expires_ms: snapshotExpires_ms,
      certificate_ends_ms: lifetimeOf(credentials.chain[0]).notAfter_ms,
    });
    return makeReport(seen, { channels: () => mesh.status(), drain: () => mesh.drainStatus, facts });
  }

  /** Renews this node's certificate now. @throws as LeafRenewal.renewNow */
  renew(): Promise<Renewed> {
    if (!this.#renewal) throw new Error('the agent has not started');
    return this.#renewal.renewNow();
  }

  get mesh(): PeerMesh {
    if (!this.#host) throw new Error('the agent has not started');
    return this.#host.mesh;
  }

  get apps(): AppNetworks {
    if (!this.#apps) throw new Error('the agent has not started');
    return this.#apps;
  }

  #advertised(host: Host): Endpoint[] {
    const { listen } = this.#options;
    const listener = host.listener;
    if (!listen || !listener) return [];
    return listen.advertise.map((address) => ({ host: address, tcp: listener.tcp.port, udp: listener.udp?.port ?? null }));
  }

  /** Where peers of the site find this node; null: nowhere. */
  get listening(): { readonly host: string; readonly tcp: number; readonly udp: number | null } | null {
    const [listen, listener] = [this.#options.listen, this.#host?.listener];
    return listen && listener ? { host: listen.host, tcp: listener.tcp.port, udp: listener.udp?.port ?? null } : null;
  }

  /** Of what this node was told. */
  get versions(): { readonly directory: number; readonly trust: number; readonly routes: number } {
    return { directory: this.state.snapshot.version, trust: this.state.trust.version, routes: this.state.snapshot.node.epoch ?? 0 };
  }

  /** For status: who this node is, and until when what it knows may be followed. */
  get facts(): Readonly<Record<string, string | number | boolean | null>> {
    const { cluster, site, node, name } = this.state.identity;
    return { role: 'node', cluster, site, node, name, ...this.#expiry.facts, ...this.#away.facts, ...this.#site?.facts, ...this.#renewal?.facts };
  }

  get #view(): View {
    return viewOf(this.state.snapshot, { degraded: this.#away.isDegraded, objection: (peer) => this.#expiry.objection(peer) });
  }

  /** How this node stands with its tower is something else now: what is there is judged by that, and what may begin again does. */
  #standingChanged(): void {
    if (this.#host === null) return;
    this.#policy.follow(this.#view);
    this.#host.mesh.revalidate();
    if (this.#expiry.isExpired) this.#follower?.askAgain();
    else this.#host.mesh.hurry();
  }

  #follow(host: Host): void {
    this.#followTrust(host);
    this.#expiry.follow();
    this.#policy.follow(this.#view);
    // Before those that are gone are let go, so that their channels end with the reason.
    host.mesh.revalidate();
    host.mesh.setCandidates(candidatesOf(this.state.snapshot, this.state.identity.node, this.state.identity.tower, this.#options.listen !== null));
    void this.#apps?.follow(this.state.snapshot.app ?? null);
    void this.#keepBoot();
  }

  /** Channels that stand on a root that counts no more move over to sessions that do not; those that cannot are ended when their time to do so is over. */
  #followTrust({ mesh }: Host): void {
    if (this.#trusts === this.state.trust) return;
    this.#trusts = this.state.trust;
    mesh.moveOver();
    this.#cancelGrace();
    this.#cancelGrace = this.#timers.after(limits.trust_grace_ms, () => mesh.revalidate());
  }

  /** What a start without the tower will stand on; a full disk keeps the last one. */
  async #keepBoot(): Promise<void> {
    try {
      await this.#boot?.follow(this.state.snapshot, this.state.identity.tower);
    } catch (error) {
      const { code, message } = asSelvedgeError(error, 'internal_error', { what: 'keeping the boot file' });
      this.#options.log('boot file not kept', { code, reason: message });
    }
  }

  /** In reverse order of start. */
  async close(): Promise<void> {
    this.#cancelGrace();
    this.#reporter?.close();
    this.#renewal?.close();
    this.#site?.close();
    this.#follower?.close();
    this.#away.close();
    this.#expiry.close();
    await this.#apps?.close();
    await this.#files?.close();
    await this.#host?.close();
    await this.#api?.close();
    await this.state.secrets.close();
  }
}

/** The tower, and the peers: the smaller id dials, unless only the other listens. */
export function candidatesOf(snapshot: Snapshot, self: string, joinedAt: Endpoint, isListening: boolean): Candidate[] {
  const { cluster } = snapshot;
  const towerAt = snapshot.tower.endpoints.length > 0 ? snapshot.tower.endpoints : [joinedAt];
  const tower: Candidate = {
    identity: { cluster, site: TOWER_SITE, node: TOWER_ID },
    name: 'tower',
    endpoints: towerAt,
    isDialed: true,
    ...leafOf(snapshot.tower.fingerprint),
  };
  const peers = snapshot.peers.map((peer): Candidate => {
    const isDialed = peer.endpoints.length > 0 && (!isListening || self < peer.id);
    return { identity: { cluster, site: peer.site, node: peer.id }, name: peer.name, endpoints: peer.endpoints, isDialed, ...leafOf(peer.fingerprint) };
  });
  return [tower, ...peers];
}

/**
 * The tower renews its own leaf, and a node that was away then must still be able to hear of it: root, cluster and node id are what it is
 * held to. A peer's leaf must be the one that the tower recorded.
 */
function recordedIn(snapshot: Snapshot, peer: NodeIdentity): RecordedFingerprint {
  if (peer.node === TOWER_ID) return 'any';
  const gone = snapshot.gone?.find(({ id, site }) => id === peer.node && site === peer.site);
  if (gone !== undefined) return gone.why;
  const recorded = snapshot.peers.find(({ id, site }) => id === peer.node && site === peer.site);
  const [first, ...others] = recorded === undefined ? [] : [recorded.fingerprint, ...(recorded.also ?? [])].map((hex) => fromHex(hex) ?? new Uint8Array());
  return first === undefined ? 'unknown' : [first, ...others];
}

function leafOf(hex: string): Pick<Candidate, 'leaf'> {
  const leaf = fromHex(hex);
  return leaf === null ? {} : { leaf };
}

function nameIn(snapshot: Snapshot, node: string): string {
  return node === TOWER_ID ? 'tower' : (snapshot.peers.find(({ id }) => id === node)?.name ?? node);
}
