/**
 * The app networks of one host: follows the snapshot, keeps the tunnel at the state that is desired, the tower told of this host's keys, and each peer on the
 * better path. It runs a tunnel only while this node is a member of some network, and leaves it running when the daemon ends.
 */
import { asSelvedgeError, isErrorCode, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import type { SecretStore } from '../identity/signer.ts';
import type { Timers } from '../transport/system.ts';
import type { AppNetwork, AppSnapshot, Underlay } from './app-snapshot.ts';
import { type Attachment, Attachments } from './attachments.ts';
import type { ChannelFacts, PacketCarrier } from './carrier.ts';
import { type AppCounters, makeCounters } from './counters.ts';
import { type DesiredOutcome, makeDesired, type Note } from './desired.ts';
import { KeyKeeper } from './key-keeper.ts';
import { PeerPaths } from './peer-paths.ts';
import { Places } from './places.ts';
import { Publisher } from './publisher.ts';
import { Reconciler } from './reconciler.ts';
import { type AppStatus, makeStatus } from './status.ts';
import { type AppMesh, TowerService } from './tower-service.ts';
import type { TunnelConnection } from './tunnel-client.ts';
import { dismissTunnel, TunnelLink } from './tunnel-link.ts';
import type { TunnelStarter } from './tunnel-process.ts';
import {
  ActualAnswer,
  AnyAnswer,
  ApplyAnswer,
  checker,
  type EngineChoice,
  type HelloAnswer,
  PingAnswer,
  StatsAnswer,
  type TunnelFailure,
  UnderlayEvent,
} from './tunnel-wire.ts';
import { UnderlayTable } from './underlay.ts';

export interface AppSettings {
  readonly engine: EngineChoice;
  readonly listenPort: number;
  readonly fwmark: number;
  /** The underlay never uses IPv6. */
  readonly isIpv4Only: boolean;
  readonly keyAge_ms_max: number;
  readonly socketPath: string;
}

export interface AppNetworksOptions {
  /** As the tunnel that belongs to this daemon calls itself: `selvedge-tunnel VERSION`. */
  readonly program: string;
  readonly self: { readonly cluster: string; readonly node: string; readonly name: string };
  readonly settings: AppSettings;
  /** Where attachments are remembered. */
  readonly attachmentsPath: string;
  readonly secrets: SecretStore;
  readonly mesh: AppMesh;
  readonly channels: () => readonly ChannelFacts[];
  /** Whether peers can be told an address of this host; which one, the tower knows from its channels. */
  readonly isReachable: boolean;
  readonly starter: TunnelStarter | null;
  /** Null: no way to carry packets but UDP. */
  readonly carrier: PacketCarrier | null;
  readonly timers: Timers;
  readonly random: Random;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

const checkApply = checker(ApplyAnswer);
const checkActual = checker(ActualAnswer);
const checkStats = checker(StatsAnswer);
const checkPing = checker(PingAnswer);
const checkAny = checker(AnyAnswer);
const checkUnderlayEvent = checker(UnderlayEvent);

export class AppNetworks {
  readonly #options: AppNetworksOptions;
  /** Namespaces of this host on its networks: connected, disconnected, looked after. */
  readonly places: Places;
  readonly #tower: TowerService;
  readonly #publisher: Publisher;
  readonly #reconciler: Reconciler;
  readonly #paths: PeerPaths;
  readonly #keys: KeyKeeper;
  readonly #underlay = new UnderlayTable();
  #app: AppSnapshot | null = null;
  #link: TunnelLink | null = null;
  #connection: TunnelConnection | null = null;
  #hello: HelloAnswer | null = null;
  #engine: string | null = null;
  #stats: StatsAnswer | null = null;
  #outcome: DesiredOutcome | null = null;
  #waiters: (() => void)[] = [];
  #cancelPoll: () => void = () => {};
  #following: Promise<void> = Promise.resolve();
  #isPollSoon = false;
  /** No tunnel is there: what one before may have left was removed. */
  #isDismissed = false;
  #isClosed = false;

  private constructor(options: AppNetworksOptions, attachments: Attachments) {
    this.#options = options;
    const { timers, random, log, settings } = options;
    this.#keys = new KeyKeeper({ secrets: options.secrets, timers, age_ms_max: settings.keyAge_ms_max, log });
    this.#tower = new TowerService(options.mesh, timers);
    this.places = new Places({
      node: options.self.node,
      attachments,
      tower: this.#tower,
      networks: () => this.#app?.networks ?? [],
      onChange: () => this.#reconcile(),
      untilMade: (attachment) => this.#untilMade(attachment),
      onFailure: (what, error) => this.#failed(what, error),
    });
    this.#publisher = new Publisher({ publish: (published) => this.#tower.publish(published), timers, random, log });
    this.#reconciler = new Reconciler({ timers, onApplied: (answer) => this.#applied(answer) });
    this.#paths = new PeerPaths({
      timers,
      carrier: options.carrier,
      onChange: (node, verdict) => {
        log('path of a peer changed', { peer: node, path: verdict.path, why: verdict.why });
        this.#connection?.call('path', { node, path: verdict.path }, checkAny).catch((error: unknown) => this.#failed('path', error));
        this.#reconcile();
      },
    });
    options.carrier?.onChange(() => this.#pollSoon(limits.carry_event_ms));
  }

  /** @throws store_damaged */
  static async open(options: AppNetworksOptions): Promise<AppNetworks> {
    return new AppNetworks(options, await Attachments.load(options.attachmentsPath));
  }

  /** What the newest snapshot says; null or without a network: this node is no member of any. One after the other; never rejects. */
  follow(app: AppSnapshot | null): Promise<void> {
    this.#following = this.#following.then(() => this.#follow(app)).catch((error: unknown) => this.#failed('following the snapshot', error));
    return this.#following;
  }

  async #follow(app: AppSnapshot | null): Promise<void> {
    if (this.#isClosed) return;
    if (app === null || app.networks.length === 0) return this.#leave();
    this.#app = app;
    this.#paths.follow(app.hosts);
    await this.places.look();
    if (this.#keys.ring.length === 0) await this.#keys.rotate();
    if (this.#isClosed) return;
    this.#keysChanged();
    this.places.askForAddresses();
    if (this.#link !== null) return;
    this.#isDismissed = false;
    this.#link = this.#makeLink();
    this.#link.start();
    this.#pollLater();
  }

  /** Call it whenever channels have changed. */
  channelsChanged(): void {
    const channels = this.#options.channels();
    this.#options.carrier?.channelsAre(channels);
    this.#publisher.tower(channels.some(({ peer, state }) => peer === TOWER_ID && state === 'established'));
  }

  #makeLink(): TunnelLink {
    const { settings, starter, timers, random, log } = this.#options;
    return new TunnelLink({
      path: settings.socketPath,
      starter,
      timers,
      random,
      log,
      onUp: (connection, hello) => {
        this.#connection = connection;
        this.#hello = hello;
        // A state of 200 networks takes a while to make.
        this.#reconciler.up((state) => connection.call('apply', state, checkApply, limits.tunnel_apply_ms_max), hello.generation ?? null);
      },
      onDown: () => {
        this.#connection = null;
        this.#hello = null;
        this.#stats = null;
        this.#reconciler.down();
      },
      onEvent: (event, data) => this.#heard(event, data),
    });
  }

  #heard(event: string, data: unknown): void {
    if (event === 'underlay') {
      const { node, underlay } = checkUnderlayEvent(data);
      if (this.#underlay.set(node, underlay)) this.#underlayChanged();
    } else if (event === 'peer') {
      // By which way a peer is heard decides its path. Looked at soon, once for all the events until then.
      this.#pollSoon(limits.app_event_ms);
    } else if (event === 'fault') {
      this.#options.log('fault in the tunnel', flat(data));
    }
  }

  // ---- desired state

  #reconcile(): void {
    if (this.#app === null || this.#keys.ring.length === 0) return;
    const { self, settings } = this.#options;
    this.#outcome = makeDesired({
      owner: `${self.cluster}/${self.node}`,
      self: { node: self.node, name: self.name, underlay: this.#ownUnderlay() },
      app: this.#app,
      engine: settings.engine,
      fwmark: settings.fwmark,
      keys: this.#keys.ring.map(({ privateKey, portOffset }) => ({ privateKey, listenPort: settings.listenPort + portOffset })),
      attachments: this.places.present,
      pathOf: (node) => this.#paths.pathOf(node),
    });
    this.#reconciler.want(this.#outcome.desired);
  }

  #applied({ changed, failures, generation }: ApplyAnswer): void {
    const { log } = this.#options;
    if (changed.length > 0) log('tunnel changed', { generation, changes: changed.length, first: changed[0] ?? null });
    for (const { code, what, why } of failures.slice(0, FAILURES_LOGGED_MAX)) log('tunnel could not', { code, what, reason: why });
    for (const wake of this.#waiters.splice(0)) wake();
    if (changed.length > 0 || this.#engine === null) void this.#readActual();
  }

  async #readActual(): Promise<void> {
    try {
      const actual = await this.#connection?.call('actual', {}, checkActual);
      if (actual === undefined) return;
      this.#engine = actual.wireguard.engine ?? null;
      if (this.#underlay.replace(actual.peers)) this.#underlayChanged();
    } catch (error) {
      this.#failed('actual', error);
    }
  }

  #underlayChanged(): void {
    this.#publish();
    this.#reconcile();
  }

  #ownUnderlay(): Underlay | null {
    const { isIpv4Only } = this.#options.settings;
    const mtu = this.#underlay.mtu;
    if (mtu === null && !isIpv4Only) return null;
    return { mtu: mtu ?? UNDERLAY_MTU_DEFAULT, ipv4_only: isIpv4Only };
  }

  // ---- keys

  #publish(): void {
    const { isReachable, settings } = this.#options;
    const { ring } = this.#keys;
    const [newest] = ring;
    if (newest === undefined) return;
    const listen = isReachable ? { host: null, port: settings.listenPort + newest.portOffset } : null;
    this.#publisher.want({ keys: ring.map(({ publicKey }) => publicKey), listen, underlay: this.#ownUnderlay() });
  }

  /** A new key beside the old one, now. @throws not_member, argument_invalid while a rotation is under way, disk_full */
  async rotateKey(): Promise<void> {
    if (this.#app === null) throw new SelvedgeError('not_member', { network: 'of any name' });
    await this.#keys.rotate();
    this.#keysChanged();
  }

  async #stepKeys(): Promise<void> {
    const [newest, old] = this.#keys.ring;
    const used = this.#stats?.keys?.find(({ publicKey }) => publicKey === old?.publicKey);
    const published_ms_ago = newest === undefined ? null : this.#publisher.age_ms(newest.publicKey);
    if (await this.#keys.step({ published_ms_ago, oldUsed_ms_ago: used?.lastUsed_ms ?? null })) this.#keysChanged();
  }

  #keysChanged(): void {
    this.#publish();
    this.#reconcile();
  }

  // ---- what is looked at regularly

  /** Once for all that asks for it until then. */
  #pollSoon(delay_ms: number): void {
    if (this.#isPollSoon || this.#isClosed || this.#link === null) return;
    this.#isPollSoon = true;
    this.#pollLater(delay_ms);
  }

  #pollLater(delay_ms: number = this.#paths.isTalking ? limits.app_talking_poll_ms : limits.app_poll_ms): void {
    this.#cancelPoll();
    this.#cancelPoll = this.#options.timers.after(delay_ms, () => {
      this.#isPollSoon = false;
      this.#poll()
        .catch((error: unknown) => this.#failed('stats', error))
        .finally(() => {
          if (!this.#isClosed && this.#link !== null && !this.#isPollSoon) this.#pollLater();
        });
    });
  }

  async #poll(): Promise<void> {
    if (await this.places.look()) this.#reconcile();
    const stats = await this.#readStats();
    if (stats === null || this.#app === null) return;
    this.#paths.step(this.#app.hosts, stats.peers, this.#options.channels());
    await this.#stepKeys();
  }

  /** Null: there is no tunnel. */
  async #readStats(): Promise<StatsAnswer | null> {
    const connection = this.#connection;
    if (connection === null) return null;
    const stats = await connection.call('stats', {}, checkStats);
    // It may have gone meanwhile, and another may be there.
    if (connection === this.#connection) this.#stats = stats;
    return stats;
  }

  #failed(what: string, error: unknown): void {
    const { code, message } = asSelvedgeError(error, 'tunnel_refused', { what });
    // Of a tunnel that went away the link tells.
    if (code !== 'tunnel_unreachable' && code !== 'handle_closed') this.#options.log('tunnel could not', { code, what, reason: message });
  }

  // ---- for the control API

  /** Resolves once the tunnel has made it, for which the snapshot with its address must have come. */
  async #untilMade({ network, name }: Attachment): Promise<void> {
    const { timers } = this.#options;
    const until_ms = timers.clock.now() + limits.app_answer_ms_max;
    const what = `attachment ${network}/${name}`;
    const isMade = () =>
      this.#reconciler.isCurrent &&
      this.#outcome?.desired.networks.some((one) => one.name === network && one.attachments.some((entry) => entry.name === name)) === true;
    while (!isMade()) {
      const left_ms = until_ms - timers.clock.now();
      if (left_ms <= 0 || this.#isClosed) throw this.#link?.error ?? new SelvedgeError('timeout', { what: `making ${what}`, ms: limits.app_answer_ms_max });
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancel = timers.after(left_ms, resolve);
      this.#waiters.push(resolve);
      await promise;
      cancel();
    }
    const failure = this.#reconciler.failures.find((one) => one.what === what);
    if (failure !== undefined) throw failureError(failure);
  }

  /** The address that a node's name, or an address itself, stands for on a network. @throws not_member, not_found */
  addressOf(network: string, target: string): string {
    const { endpoints } = this.#member(network);
    const [node, attachment = ''] = target.split('/');
    const id = this.#app?.hosts.find((host) => host.name === node)?.node ?? (node === this.#options.self.name ? this.#options.self.node : node);
    const found =
      endpoints.find((one) => one.address4 === target || one.address6 === target) ?? endpoints.find((one) => one.node === id && one.attachment === attachment);
    const address = found === undefined ? null : found.address6 === target ? target : (found.address4 ?? found.address6);
    if (address === null) throw new SelvedgeError('not_found', { what: `on app network ${network}`, name: target });
    return address;
  }

  /** One echo from this host through the network; null: no answer in time. @throws not_member, tunnel_unreachable, unsupported */
  async echo(network: string, address: string, size_bytes: number, timeout_ms: number): Promise<number | null> {
    this.#member(network);
    if (this.#connection === null)
      throw this.#link?.error ?? new SelvedgeError('tunnel_unreachable', { path: this.#options.settings.socketPath, why: 'it is being started' });
    try {
      const { rtt_ms } = await this.#connection.call(
        'ping',
        { network, address, count: 1, timeout_ms, size: size_bytes },
        checkPing,
        timeout_ms + limits.app_answer_ms_max,
      );
      return rtt_ms;
    } catch (error) {
      if (error instanceof SelvedgeError && error.code === 'timeout') return null;
      throw error;
    }
  }

  #member(network: string): AppNetwork {
    const found = this.#app?.networks.find(({ name }) => name === network);
    if (found === undefined) throw new SelvedgeError('not_member', { network });
    return found;
  }

  /** For metrics: by what was read last, at most a second or so ago. */
  counters(): AppCounters {
    const { carrier } = this.#options;
    return makeCounters({
      app: this.#app,
      stats: this.#stats,
      pathOf: (node) => this.#paths.pathOf(node),
      droppedTo: (node) => carrier?.droppedTo(node) ?? 0,
    });
  }

  /** With the tunnel's counters of this moment. Null: this node is a member of no network. */
  async status(): Promise<AppStatus | null> {
    await this.#readStats().catch((error: unknown) => this.#failed('stats', error));
    if (this.#app === null) return null;
    const down = [this.#link?.error ?? null, this.#publisher.error].filter((error) => error !== null);
    const notes: Note[] = down.map(({ code, message }) => ({ code, what: code.startsWith('tunnel') ? 'tunnel' : 'tower', why: message }));
    if (this.#hello !== null && this.#hello.program !== this.#options.program)
      notes.push({ code: 'tunnel_outdated', what: 'tunnel', why: `${this.#hello.program} was running already; this daemon brings ${this.#options.program}` });
    for (const one of this.places.away)
      notes.push({ code: 'namespace_missing', what: `attachment ${one}`, why: 'its namespace, or the process that held it, is gone' });
    for (const { node, name } of this.#app.hosts) {
      const denial = this.#options.carrier?.denialOf(node) ?? null;
      if (denial !== null) notes.push({ code: denial.code, what: `carrying packets to ${name}`, why: denial.message });
    }
    return makeStatus({
      node: this.#options.self.node,
      app: this.#app,
      hello: this.#hello,
      engine: this.#engine,
      generation: this.#reconciler.generation,
      isCurrent: this.#reconciler.isCurrent,
      stats: this.#stats,
      mtus: this.#outcome?.mtus ?? new Map(),
      attachments: this.places.all,
      verdictOf: (node) => this.#paths.verdictOf(node),
      notes: [...notes, ...(this.#outcome?.notes ?? [])],
      failures: this.#reconciler.failures,
    });
  }

  // ---- the end

  /** The last membership is gone: the tunnel removes what it made and ends. Also after a start, where a daemon before may have left one. */
  async #leave(): Promise<void> {
    this.#app = null;
    this.#outcome = null;
    this.#cancelPoll();
    this.#paths.clear();
    this.#reconciler.close();
    const { settings, timers, log } = this.#options;
    const link = this.#link;
    this.#link = null;
    if (link !== null) {
      await link.dismiss();
      log('no app network any more: the tunnel was ended', {});
    } else if (!this.#isDismissed) await dismissTunnel({ path: settings.socketPath, timers });
    this.#isDismissed = true;
  }

  /** Ends this daemon's part; the tunnel goes on. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#cancelPoll();
    this.#publisher.close();
    this.#tower.close();
    this.#paths.close();
    this.#reconciler.close();
    for (const wake of this.#waiters.splice(0)) wake();
    await this.#link?.close();
  }
}

const FAILURES_LOGGED_MAX = 8;
const UNDERLAY_MTU_DEFAULT = 1_500;

/** A failure that the tunnel named, as the error of what was asked for. */
function failureError({ code, what, why }: TunnelFailure): SelvedgeError {
  return isErrorCode(code) ? new SelvedgeError(code, { what, why, name: what }) : new SelvedgeError('tunnel_refused', { what, why });
}

/** An event's facts, for the log: texts and numbers alone. */
function flat(data: unknown): Readonly<Record<string, string | number>> {
  if (typeof data !== 'object' || data === null) return {};
  return Object.fromEntries(
    Object.entries(data).filter((entry): entry is [string, string | number] => typeof entry[1] === 'string' || typeof entry[1] === 'number'),
  );
}
