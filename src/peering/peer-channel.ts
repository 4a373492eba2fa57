/** One channel with its carrier and what is known of the peer: a row of the channel table, on either side. */
import { type ErrorCode, SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';
import { Channel } from '../channel/channel.ts';
import { type TrafficClass, trafficClassNames } from '../channel/classes.ts';
import type { Hello, HelloMode } from '../channel/hello.ts';
import { CHANNEL_ID_BYTES, CHANNEL_SECRET_BYTES, PROTOCOL_VERSION } from '../channel/hello.ts';
import type { VerifiedPeer } from '../identity/verify.ts';
import { authorizeFlow } from '../policy/authorize.ts';
import { Carrier } from '../transport/carrier.ts';
import type { Relay } from '../transport/greeting.ts';
import type { Session } from '../transport/session.ts';
import type { MeshContext } from './context.ts';
import type { ChannelStatus, FlowHandle } from './mesh.ts';

const DAY_MS = 86_400_000;

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
  #offered: readonly TrafficClass[] = trafficClassNames;

  constructor(context: MeshContext, side: 'dialer' | 'acceptor', identity: NodeIdentity, owner: PeerChannelOwner, rememberedRate?: number) {
    this.identity = identity;
    this.channel = new Channel({
      side,
      self: context.self.node,
      peer: identity.node,
      random: context.random,
      now: context.timers.clock.now(),
      isGoverned: context.isGoverned,
      ...(rememberedRate === undefined ? {} : { rememberedRate }),
      authorize: (cls, _kind, service) => authorizeFlow({ opener: identity, acceptor: context.self, class: cls, service, classes: this.#offered }),
    });
    this.carrier = new Carrier(this.channel, context.timers, {
      flow: (flow) => owner.flow(flow),
      suspect: (isSuspect) => owner.suspect(this, isSuspect),
      suspended: (error) => owner.suspended(this, error),
      ended: (error) => owner.ended(this, error),
    });
  }

  get isUsable(): boolean {
    return !this.channel.hasEnded;
  }

  /** The hello of a session that shall carry this channel. */
  hello(context: MeshContext, mode: HelloMode): Hello {
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
      configVersion: 0,
      directoryVersion: versions.directory,
      trustVersion: versions.trust,
      routeEpoch: 0,
      draining: false,
    };
  }

  /** The first hello was exchanged: the channel has its id, and is established. */
  establish(ids: Pick<Hello, 'channel' | 'secret'>, offered: Hello, session: Session, relay: Relay, verified: VerifiedPeer, why: string): void {
    this.channel.id = new Uint8Array(ids.channel);
    this.channel.secret = new Uint8Array(ids.secret);
    this.#offered = offered.classes;
    this.channel.move('authorized');
    this.carry(session, relay, 'new', verified, why);
  }

  /** This session carries the channel from now on. */
  carry(session: Session, relay: Relay, mode: HelloMode, verified: VerifiedPeer, why: string): void {
    this.verified = verified;
    this.why = why;
    this.attached++;
    this.carrier.attach(session, relay, mode);
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
    const totals = [...this.channel.classBytes.values()].reduce((sum, row) => ({ sent: sum.sent + row.sent, received: sum.received + row.received }), {
      sent: 0,
      received: 0,
    });
    return {
      peer: this.identity.node,
      name,
      site: this.identity.site,
      side: this.channel.side,
      state: this.channel.state,
      suspect: this.channel.isSuspended || this.channel.isSuspect,
      transport: session?.transport ?? null,
      why: this.why,
      remote: session?.remote ?? null,
      rtt_ms: facts?.rtt_ms ?? this.channel.rtt_ms,
      rtt_min_ms: facts?.rtt_min_ms ?? null,
      loss_part: facts?.loss_part ?? null,
      mtu_bytes: facts?.mtu_bytes ?? null,
      classes: this.channel.classesInUse,
      bytes_sent: totals.sent,
      bytes_received: totals.received,
      certificate_days: this.verified === null ? null : Math.floor((this.verified.notAfter_ms - wall_ms) / DAY_MS),
      reconnects: Math.max(0, this.attached - 1),
      last_error: null,
      governor: this.channel.governor?.snapshot() ?? null,
    };
  }
}

/** Checks what an accept or hello claims against the certificate that was verified. @throws wrong_cluster, wrong_node */
export function checkHello(hello: Hello, verified: VerifiedPeer): void {
  if (hello.cluster !== verified.identity.cluster) throw new SelvedgeError('wrong_cluster', { found: hello.cluster, expected: verified.identity.cluster });
  if (hello.node !== verified.identity.node) throw new SelvedgeError('wrong_node', { found: hello.node, expected: verified.identity.node });
}
