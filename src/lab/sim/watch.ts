/** What must hold at every frame that leaves a host of a simulation, and at every flow that begins: judged by what its host knows, and since when. */
import { ByteReader } from '../../base/bytes.ts';
import { limits } from '../../base/limits.ts';
import { classOfWire, classRow, type TrafficClass } from '../../channel/classes.ts';
import { frameTypes } from '../../channel/frames.ts';
import type { FlowHandle } from '../../peering/mesh.ts';
import type { MemoryPair } from '../../transport/memory.ts';
import type { Agenda } from './agenda.ts';
import { type Directory, rootOf, shortName, TOWER } from './directory.ts';
import type { SimHost } from './host.ts';
import type { Violated } from './workload.ts';

/** What a host may take to act on what it has learned: one turn of its program. */
const KNOWN_MS_MAX = 50;
/** Where its clock was set meanwhile, it finds out when it judges its channels the next time. */
const JUDGED_MS_MAX = limits.revalidation_ms * (1 + limits.revalidation_jitter_part) + KNOWN_MS_MAX;
/** By clocks that may drift. */
const MOVED_MS_MAX = limits.trust_grace_ms * 1.001 + KNOWN_MS_MAX;
/** Of both lanes: what a session may hold back, and one frame of each. */
const UNSENT_BYTES_MAX = 2 * (8 * 1_048_576 + 65_536 + 64);

type Side = 'dialer' | 'acceptor';

export interface WatchWorld {
  readonly agenda: Agenda;
  readonly directory: Directory;
  /** The tower, too. */
  readonly hosts: readonly SimHost[];
  readonly violated: Violated;
}

export class Watch {
  readonly #world: WatchWorld;
  readonly #hosts: ReadonlyMap<string, SimHost>;
  /** Sessions of which the acceptor has said that it accepts. */
  readonly #accepted = new WeakSet<MemoryPair>();
  /** When a host learned that another is revoked. */
  readonly #learned = new Map<string, number>();
  /** Classes of flows by their number, of each two hosts. */
  readonly #classes = new Map<string, Map<number, TrafficClass>>();

  constructor(world: WatchWorld) {
    this.#world = world;
    this.#hosts = new Map(world.hosts.map((host) => [host.identity.node, host]));
  }

  frame(from: string, to: string, session: MemoryPair, side: Side, head: Uint8Array): void {
    const { violated } = this.#world;
    const type = head[0] ?? -1;
    if (type === frameTypes.accept && side === 'acceptor') this.#accepted.add(session);
    else if (type !== frameTypes.hello && !this.#accepted.has(session))
      violated(`${shortName(from)} sends frame ${type} to ${shortName(to)} before it was accepted`);
    this.#checkRevoked(from, to, type);
    this.#checkRoot(from, to, type, session[side].peerChain);
    if (from !== TOWER.node && to !== TOWER.node) {
      if (type !== frameTypes.hello) this.#checkExpired(from, to, type);
      if (ofFlows.has(type)) this.#checkClass(from, to, head);
    }
    const { unsent_bytes } = session[side].facts();
    if (unsent_bytes > UNSENT_BYTES_MAX) violated(`a session of ${shortName(from)} holds ${unsent_bytes} octets back`);
  }

  #checkRevoked(from: string, to: string, type: number): void {
    const learned = this.#learnedOf(from, to);
    if (learned === null || this.#now <= learned + KNOWN_MS_MAX) return;
    const for_ms = Math.round(this.#now - learned);
    this.#world.violated(`${shortName(from)} sends frame ${type} to ${shortName(to)}, which it has known to be revoked for ${for_ms} ms`);
  }

  /** A peer that stands on a root which is none any more: nothing begins with it, and what was there has its time to move over. */
  #checkRoot(from: string, to: string, type: number, chain: readonly Uint8Array[]): void {
    const root = rootOf(chain);
    const since = this.#hosts.get(from)?.retiredSince(root) ?? null;
    if (since === null) return;
    const bound_ms = type === frameTypes.accept ? KNOWN_MS_MAX : type === frameTypes.hello ? limits.handshake_ms_max : MOVED_MS_MAX;
    if (this.#now <= since + bound_ms) return;
    this.#world.violated(
      `${shortName(from)} sends frame ${type} to ${shortName(to)}, whose root ${root} it has known to be retired for ${Math.round(this.#now - since)} ms`,
    );
  }

  /** A host has ended a channel because of what its peer shows: by a rotation alone, where nothing else was wrong with either, or with the tower, since that began. */
  endedByRoot(host: string, peer: string): void {
    const { directory, hosts, violated } = this.#world;
    const { rotatedAt } = directory;
    const concerned = hosts.filter(({ name }) => name === host || name === peer || name === 'tower');
    if (rotatedAt === null || concerned.some(({ troubledUntil }) => troubledUntil >= rotatedAt)) return;
    violated(`${host} has lost its channel with ${peer} by a rotation alone`);
  }

  /** Since when `host` knows that `other` is revoked; null: it is not, or the host has not heard. */
  #learnedOf(host: string, other: string): number | null {
    if (this.#world.directory.revokedAt(other) === null) return null;
    const key = `${host}>${other}`;
    const known = this.#learned.get(key);
    if (known !== undefined) return known;
    if (this.#hosts.get(host)?.knowsRevoked(other) !== true) return null;
    this.#learned.set(key, this.#now);
    return this.#now;
  }

  #checkExpired(from: string, to: string, type: number): void {
    const host = this.#hosts.get(from);
    const over_ms = host?.expired_ms ?? 0;
    if (host === undefined || over_ms <= (host.clock.isStepped ? JUDGED_MS_MAX : KNOWN_MS_MAX)) return;
    this.#world.violated(`${host.name} sends frame ${type} to ${shortName(to)}, though its snapshot has expired ${Math.round(over_ms)} ms ago`);
  }

  #checkClass(from: string, to: string, head: Uint8Array): void {
    const cls = this.#classOf(from < to ? `${from}${to}` : `${to}${from}`, head);
    const since = cls === undefined ? null : (this.#hosts.get(from)?.deniedSince(cls) ?? null);
    if (since === null || this.#now <= since + KNOWN_MS_MAX) return;
    this.#world.violated(`${shortName(from)} sends of class ${cls} to ${shortName(to)}, denied as it should know for ${Math.round(this.#now - since)} ms`);
  }

  /** Of the flow that a frame belongs to; an opening says it. */
  #classOf(pair: string, head: Uint8Array): TrafficClass | undefined {
    const reader = new ByteReader(head);
    const type = reader.u8();
    reader.varint();
    const flow = reader.varint();
    const classes = this.#classes.get(pair) ?? new Map<number, TrafficClass>();
    this.#classes.set(pair, classes);
    if (type !== frameTypes.open) return classes.get(flow);
    const cls = classOfWire(reader.u8());
    if (cls !== null) classes.set(flow, cls);
    return cls ?? undefined;
  }

  /** A flow has begun at `host`, as it believes: opened by it, or accepted. */
  begun(host: SimHost, { class: cls, peer }: Pick<FlowHandle, 'class' | 'peer'>): void {
    const { violated } = this.#world;
    const what = `a flow of class ${cls} with ${shortName(peer)} begins at ${host.name}`;
    const isEssential = classRow(cls).essential === true;
    if (!isEssential && host.isDraining) violated(`${what} while that drains`);
    const since = host.isTower || peer === TOWER.node ? null : host.deniedSince(cls);
    if (since !== null && this.#now > since + KNOWN_MS_MAX) violated(`${what}, denied as it should know for ${Math.round(this.#now - since)} ms`);
  }

  get #now(): number {
    return this.#world.agenda.now;
  }
}

const ofFlows: ReadonlySet<number> = new Set([frameTypes.open, frameTypes.data, frameTypes.latest, frameTypes.datagram]);
