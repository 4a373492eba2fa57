/** One channel with its carrier and what is known of the peer: a row of the channel table, on either side. */
import { asSelvedgeError, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { Channel } from '../channel/channel.ts';
import { type TrafficClass, trafficClassNames } from '../channel/classes.ts';
import type { Hello, HelloMode } from '../channel/hello.ts';
import { CHANNEL_ID_BYTES, CHANNEL_SECRET_BYTES, PROTOCOL_VERSION } from '../channel/hello.ts';
import type { VerifiedPeer } from '../identity/verify.ts';
import type { ChannelState } from '../channel/states.ts';
import { Carrier } from '../transport/carrier.ts';
import type { Relay } from '../transport/greeting.ts';
import type { Session } from '../transport/session.ts';
import type { RoomContext } from './context.ts';
import type { ChannelStatus, FlowHandle } from './mesh.ts';

const DAY_MS = 86_400_000;
/** States in which the peer has been let in. */
const carries: ReadonlySet<ChannelState> = new Set(['established', 'degraded', 'draining']);

/** What its owner in the table hears. */
export interface PeerChannelOwner {
  flow(flow: FlowHandle): void;
  suspect(channel: PeerChannel, isSuspect: boolean): void;
  suspended(channel: PeerChannel, error: SelvedgeError): void;
  ended(channel: PeerChannel, error: SelvedgeError): void;
}

export class PeerChannel {
  readonly channel: Channel;
  readonly carrier: Carrier;
  readonly identity: NodeIdentity;
  verified: VerifiedPeer | null = null;
  /** Why the session in use is of its transport. */
  why = '';
  attached = 0;
  /** When the state became what it is, milliseconds of the wall clock. */
  since_ms: number;
  #offered: readonly TrafficClass[] = trafficClassNames;
  /** What the peer showed for the session in use. */
  #chain: readonly Uint8Array[] = [];
  readonly #context: RoomContext;
  #cancelRevalidation: () => void = () => {};
  /** When the peer is to be revoked, and this end of the channel drains until then. */
  #leaves_ms: number | null = null;
  #cancelLeaving: () => void = () => {};

  constructor(context: RoomContext, side: 'dialer' | 'acceptor', identity: NodeIdentity, owner: PeerChannelOwner, rememberedRate?: number) {
    this.identity = identity;
    this.#context = context;
    this.since_ms = context.timers.clock.wall();
    this.channel = new Channel({
      side,
      self: context.self.node,
      peer: identity.node,
      random: context.random,
      now: context.timers.clock.now(),
      isGoverned: context.isGoverned,
      facts: () => {
        const { directory, routes = 0 } = context.versions();
        return { health: context.health?.() ?? 'well', configVersion: directory, routeEpoch: routes };
      },
      ...(rememberedRate === undefined ? {} : { rememberedRate }),
      isDegraded: () => context.policy.isDegraded(identity),
      onState: (before, now, error) => {
        this.since_ms = context.timers.clock.wall();
        context.observer?.moved(this, { before, now, error });
      },
      authorize: (cls, _kind, service, isOwn) =>
        context.policy.flow(identity, { opener: isOwn ? 'self' : 'peer', class: cls, service, offered: this.#offered }),
    });
    const drainsUntil = context.drainsUntil();
    if (drainsUntil !== null) this.channel.drain(drainsUntil);
    this.carrier = new Carrier(this.channel, context.timers, {
      flow: (flow) => owner.flow(flow),
      suspect: (isSuspect) => owner.suspect(this, isSuspect),
      suspended: (error) => owner.suspended(this, error),
      ended: (error) => {
        this.#cancelRevalidation();
        this.#cancelLeaving();
        owner.ended(this, error);
      },
    });
  }

  /** Of the peer, as far as this host knows one; else its id. */
  get name(): string {
    return this.#context.nameOf(this.identity.node);
  }

  get isUsable(): boolean {
    return !this.channel.hasEnded;
  }

  /** The hello of a session that shall carry this channel. */
  hello(context: RoomContext, mode: HelloMode): Hello {
    const versions = context.versions();
    return {
      version: PROTOCOL_VERSION,
      mode,
      channel: mode === 'new' ? new Uint8Array(CHANNEL_ID_BYTES) : this.channel.id,
      secret: mode === 'new' ? new Uint8Array(CHANNEL_SECRET_BYTES) : this.channel.secret,
      cluster: context.self.cluster,
      node: context.self.node,
      classes: trafficClassNames,
      transports: ['quic', 'tcp'],
      configVersion: versions.directory,
      directoryVersion: versions.directory,
      trustVersion: versions.trust,
      routeEpoch: versions.routes ?? 0,
      draining: this.channel.draining.isOwn,
      return_ms: context.return_ms(),
    };
  }

  /** The first hello was exchanged: the channel has its id, and is established. */
  establish(ids: Pick<Hello, 'channel' | 'secret'>, offered: Hello, session: Session, relay: Relay, verified: VerifiedPeer, why: string): void {
    this.channel.id = new Uint8Array(ids.channel);
    this.channel.secret = new Uint8Array(ids.secret);
    this.#offered = offered.classes;
    this.channel.move('authorized');
    // While the tower is away.
    if (this.channel.state === 'established' && this.#context.policy.isDegraded(this.identity)) this.channel.move('degrade');
    this.channel.peerDrains(offered.draining);
    this.#revalidateLater();
    this.carry(session, relay, 'new', verified, why);
  }

  /** Whether the peer would be let in now (spec 9.1), and then each flow: by time, and whenever what is known changes. If not, the channel fails with the reason. */
  revalidate(): void {
    const { state, hasEnded } = this.channel;
    if (hasEnded || !carries.has(state)) return;
    const isMoving = state === 'established' || state === 'degraded';
    if (isMoving) this.channel.move('revalidate');
    try {
      const objection = this.#context.policy.channel(this.identity);
      if (objection !== null) throw objection;
      this.#leaveIfSo();
      this.#context.judgeAgain(this.identity, this.#chain, this.#peerUsage);
      if (this.channel.state === 'revalidating') this.channel.move(this.#context.policy.isDegraded(this.identity) ? 'degrade' : 'revalidated');
      this.carrier.judgeFlows();
    } catch (error) {
      const refusal = asSelvedgeError(error, 'certificate_invalid', { peer: this.identity.node });
      this.#context.log('channel revalidation failed', { peer: this.#context.nameOf(this.identity.node), code: refusal.code, reason: refusal.message });
      this.fail(refusal);
    }
  }

  /** What the peer showed for the session in use would begin no other. */
  get isOutdated(): boolean {
    return this.isUsable && this.#chain.length > 0 && (this.#context.isOutdated?.(this.identity, this.#chain, this.#peerUsage) ?? false);
  }

  get #peerUsage(): 'client' | 'server' {
    return this.channel.side === 'dialer' ? 'server' : 'client';
  }

  /** A peer that is to be revoked (spec 9.4): the channel drains until then, and fails at that time, whether or not the tower is there to say so. */
  #leaveIfSo(): void {
    const { policy, timers } = this.#context;
    const leaves_ms = policy.leavesAt(this.identity);
    if (leaves_ms === null) return;
    const left_ms = leaves_ms - timers.clock.wall();
    if (left_ms <= 0) throw new SelvedgeError('certificate_revoked', { peer: this.identity.node, why: 'its time to finish is over' });
    if (this.#leaves_ms === leaves_ms) return;
    this.#leaves_ms = leaves_ms;
    this.#cancelLeaving();
    this.#cancelLeaving = timers.after(left_ms, () => this.revalidate());
    this.drain(timers.clock.now() + left_ms);
  }

  #revalidateLater(): void {
    const { timers, random } = this.#context;
    const jitter = 1 + (random.unit() * 2 - 1) * limits.revalidation_jitter_part;
    this.#cancelRevalidation = timers.after(limits.revalidation_ms * jitter, () => {
      this.#revalidateLater();
      this.revalidate();
    });
  }

  /** This session carries the channel from now on. */
  carry(session: Session, relay: Relay, mode: HelloMode, verified: VerifiedPeer, why: string): void {
    this.verified = verified;
    this.#chain = session.peerChain;
    this.why = why;
    this.attached++;
    this.carrier.attach(session, relay, mode);
    this.#context.observer?.carried(this, session.transport, mode);
  }

  /** This host drains; `deadline`: when what is left may be ended. */
  drain(deadline: number): void {
    this.channel.drain(deadline);
    this.carrier.schedulePump();
  }

  undrain(): void {
    if (this.#leaves_ms !== null) return;
    this.channel.undrain();
    this.carrier.schedulePump();
  }

  close(code: ErrorCode, why: string): void {
    if (!this.channel.hasEnded) this.carrier.close(code, why);
  }

  fail(error: SelvedgeError): void {
    this.carrier.fail(error);
  }

  status(name: string, wall_ms: number): ChannelStatus {
    const session = this.carrier.session;
    const facts = session?.facts() ?? null;
    const totals = { sent: 0, received: 0 };
    for (const { sent, received } of this.channel.classBytes.values()) {
      totals.sent += sent;
      totals.received += received;
    }
    return {
      peer: this.identity.node,
      name,
      site: this.identity.site,
      side: this.channel.side,
      state: this.channel.state,
      since_ms: this.since_ms,
      suspect: this.channel.isSuspended || this.channel.isSuspect,
      transport: session?.transport ?? null,
      why: this.why,
      remote: session?.remote ?? null,
      rtt_ms: facts?.rtt_ms ?? this.channel.rtt_ms,
      rtt_min_ms: facts?.rtt_min_ms ?? null,
      loss_part: facts?.loss_part ?? null,
      heartbeat_rtt_ms: this.channel.heartbeat?.rtt_ms ?? null,
      heartbeat_jitter_ms: this.channel.heartbeat?.jitter_ms ?? null,
      heartbeat_loss_part: this.channel.heartbeat?.loss_part ?? null,
      mtu_bytes: facts?.mtu_bytes ?? null,
      classes: this.channel.classesInUse,
      bytes_sent: totals.sent,
      bytes_received: totals.received,
      certificate_days: this.verified === null ? null : Math.floor((this.verified.notAfter_ms - wall_ms) / DAY_MS),
      reconnects: Math.max(0, this.attached - 1),
      last_error: null,
      peer_view: this.channel.peerView,
      governor: this.channel.governor?.snapshot() ?? null,
    };
  }
}

/** Checks what an accept or hello claims against the certificate that was verified. @throws wrong_cluster, wrong_node */
export function checkHello(hello: Hello, verified: VerifiedPeer): void {
  if (hello.cluster !== verified.identity.cluster) throw new SelvedgeError('wrong_cluster', { found: hello.cluster, expected: verified.identity.cluster });
  if (hello.node !== verified.identity.node) throw new SelvedgeError('wrong_node', { found: hello.node, expected: verified.identity.node });
}
