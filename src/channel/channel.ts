/**
 * The channel: the association of two nodes, which outlives its sessions (design.md, idea 1). A pure machine: time comes in with
 * each call, octets and events go out when asked for. It never touches a socket, clock, timer or randomness of its own.
 *
 *   in    attach · receive · sourceEnded · sessionFinished · sessionLost · setReady · setWritable · pathSample · handleTimeout
 *   out   pollTransmit (until null) · pollEvent (until null) · pollTimeout (when to call handleTimeout)
 *   user  open · Flow's methods · close
 *
 * After any call of the first or last group, ask all three of the second again.
 */
import { type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { Cadence } from './cadence.ts';
import { Attached, type Lane, type SessionShape } from './attached.ts';
import { CONTROL_PRIORITY, classAllowsKind, type FlowKind, OVERDUE_PRIORITY, streamPriority, type TrafficClass, trafficClassNames } from './classes.ts';
import { Draining } from './drain.ts';
import { Flow, type FlowOwner } from './flow.ts';
import { FlowIds, type Side } from './flow-ids.ts';
import { encodeControl, encodeDatagramHead, encodeDataHead, encodeLatestHead } from './frame-encoder.ts';
import type { ControlFrame, DataHead, HeartbeatFrame, LatestHead } from './frames.ts';
import { type EndFacts, encodeHeartbeat, noFacts, type PeerView, viewOf } from './heartbeat.ts';
import { Governing } from './governing.ts';
import { type Governor, type PathView, stampOf } from './governor.ts';
import type { Liveness } from './liveness.ts';
import { Resuming } from './resuming.ts';
import { Scheduler, type Standing, type Turn } from './scheduler.ts';
import { type Cause, type ChannelState, StateMachine } from './states.ts';

export interface ChannelOptions {
  readonly side: Side;
  /** Node ids of the two ends. */
  readonly self: string;
  readonly peer: string;
  readonly random: Random;
  readonly now: number;
  /** Judges a flow that is opened by this end (`isOwn`) or the other, and once more whenever `judgeFlows` is called; null allows it. */
  readonly authorize: (cls: TrafficClass, kind: FlowKind, service: string, isOwn: boolean) => SelvedgeError | null;
  /** False leaves the network's queue to itself: for comparison only. */
  readonly isGoverned: boolean;
  /** What heartbeats say of this end. */
  readonly facts?: () => EndFacts;
  /** What the path to this peer carried last time, octets per second. */
  readonly rememberedRate?: number;
  /** Whether it goes on without the tower now: what it comes back to after draining. Absent: no. */
  readonly isDegraded?: () => boolean;
  /** Told at once of each change of the state; it must not call back. */
  readonly onState?: (before: ChannelState, state: ChannelState, error: SelvedgeError | null) => void;
}

/** One frame that leaves now, on the session `key`. */
export interface Transmit {
  readonly key: number;
  readonly flow: number;
  readonly lane: Lane;
  readonly priority: number;
  readonly head: Uint8Array;
  readonly body: Uint8Array | null;
  /** May leave as a datagram of the transport, if it fits. */
  readonly isDatagram: boolean;
}

export type ChannelEvent =
  | { readonly type: 'state'; readonly state: ChannelState; readonly error: SelvedgeError | null }
  /** The peer opened a flow. */
  | { readonly type: 'flow'; readonly flow: Flow }
  | { readonly type: 'readable'; readonly flow: Flow }
  | { readonly type: 'drained'; readonly flow: Flow }
  /** `flow.error` says why; null: both directions finished. */
  | { readonly type: 'ended'; readonly flow: Flow }
  /** Nothing is heard though it should be: another session is worth dialing. */
  | { readonly type: 'suspect'; readonly key: number }
  | { readonly type: 'recovered'; readonly key: number }
  /** This session has been replaced: let it finish what is under way. */
  | { readonly type: 'finish'; readonly key: number }
  | { readonly type: 'drop'; readonly key: number; readonly error: SelvedgeError };

/** Octets that were read are acknowledged after this long at the latest. */
const LAZY_ACK_MS = 25;
/** Resets that wait for a session which does not take them. */
const RESETS_MAX = 2 * limits.flows_per_channel_max;

export class Channel implements FlowOwner {
  readonly side: Side;
  readonly self: string;
  readonly peer: string;
  /** Both are the acceptor's to give; known from the first hello on. */
  id = new Uint8Array(16);
  secret = new Uint8Array(32);
  readonly #options: ChannelOptions;
  readonly #states = new StateMachine();
  readonly #ids: FlowIds;
  readonly #flows = new Map<number, Flow>();
  readonly #resuming: Resuming;
  /** Reset frames by flow, until they have left. */
  readonly #resets = new Map<number, Uint8Array>();
  readonly #sessions = new Map<number, Attached>();
  readonly #scheduler = new Scheduler<Flow>();
  readonly #ackDue = new Set<Flow>();
  readonly #ackLazy = new Set<Flow>();
  readonly #events: ChannelEvent[] = [];
  readonly classBytes = new Map<TrafficClass, { sent: number; received: number }>();
  #current: Attached | null = null;
  #lazyAckAt: number | null = null;
  #openedWhileSuspended = 0;
  /** Of flows that have ended. */
  #staleDropped = 0;
  #carrierLostAt: number | null = null;
  #carrierError: SelvedgeError | null = null;
  readonly #governing: Governing;
  readonly draining: Draining;
  readonly #cadence = new Cadence();
  #peerView: PeerView | null = null;
  #now: number;

  constructor(options: ChannelOptions) {
    this.#options = options;
    this.side = options.side;
    this.self = options.self;
    this.peer = options.peer;
    this.#ids = new FlowIds(options.side);
    this.draining = new Draining(options.self, options.peer);
    this.#governing = new Governing(options.isGoverned, options.rememberedRate);
    this.#now = options.now;
    this.#resuming = new Resuming({
      flows: this.#flows,
      ids: this.#ids,
      sendRoom: this.#sendRoom,
      acknowledgeAgain: (flow) => void this.#ackDue.add(flow),
      endFlow: (flow, error, status) => this.#endFlow(flow, error, status),
      checkGiven: (id) => this.#checkGiven(id),
    });
  }

  // ---- states

  get state(): ChannelState {
    return this.#states.state;
  }

  get hasEnded(): boolean {
    return this.#states.hasEnded;
  }

  /** No session carries it at the moment. */
  get isSuspended(): boolean {
    return this.#states.isCarrying && this.#current === null;
  }

  get currentKey(): number | null {
    return this.#current?.key ?? null;
  }

  get flows(): Iterable<Flow> {
    return this.#flows.values();
  }

  get rtt_ms(): number | null {
    return this.#current?.liveness.rtt_ms ?? null;
  }

  /** What heartbeats have measured on the session in use. */
  get heartbeat(): Pick<Liveness, 'rtt_ms' | 'jitter_ms' | 'loss_part'> | null {
    return this.#current?.liveness ?? null;
  }

  /** Frames of `latest` flows that newer ones took the place of, at this end, since the channel began. */
  get staleDropped(): number {
    let count = this.#staleDropped;
    for (const flow of this.#flows.values()) count += flow.staleDropped;
    return count;
  }

  get governor(): Governor | null {
    return this.#governing.governor;
  }

  /** The governor has bulk to pace, or to hear of. */
  get isPacing(): boolean {
    return this.#governing.governor !== null && (this.#governing.governor.isAwaiting || this.#hasBulkWork);
  }

  get rememberedRate(): number | undefined {
    return this.#governing.rememberedRate;
  }

  /** What the peer said in its last heartbeat; null: none came yet. */
  get peerView(): PeerView | null {
    return this.#peerView;
  }

  get isSuspect(): boolean {
    return this.#current?.liveness.isSuspect ?? false;
  }

  move(cause: Cause, error: SelvedgeError | null = null): void {
    const before = this.#states.state;
    const state = this.#states.move(cause);
    this.#options.onState?.(before, state, error);
    this.#events.push({ type: 'state', state, error });
    if (cause === 'authorized') this.#drainingChanged();
  }

  /** This end takes no new flows but essential ones; `deadline`: when what is left may be ended. Again with another, it moves. */
  drain(deadline: number): void {
    this.draining.begin(deadline);
    this.#drainingChanged();
  }

  undrain(): void {
    this.draining.end();
    this.#drainingChanged();
  }

  /** What the peer said of itself: in its hello, in a heartbeat, or because that has changed. */
  peerDrains(isDraining: boolean): void {
    if (this.draining.heard(isDraining)) this.#drainingChanged();
  }

  /** The state follows, once the channel is established. */
  #drainingChanged(): void {
    this.#hasNewWork = true;
    const cause = this.draining.isAny ? 'drain' : 'undrain';
    if (!this.#states.allows(cause)) return;
    this.move(cause);
    if (cause === 'undrain' && this.#options.isDegraded?.() === true) this.move('degrade');
  }

  /** Ends with a failure (spec 13.1), from any state that has not ended. */
  fail(error: SelvedgeError): void {
    if (this.#states.hasEnded) return;
    this.#endAll(error);
    this.move('failure', error);
  }

  /** Ends by intent. */
  close(code: ErrorCode, why: string): void {
    if (this.#states.hasEnded) return;
    const error = new SelvedgeError(code, { why, peer: this.peer });
    this.#endAll(error);
    if (this.#states.allows('close') && this.#states.isCarrying) this.move('close', error);
    this.move(this.#states.allows('closed') ? 'closed' : 'close', error);
  }

  #endAll(error: SelvedgeError): void {
    for (const flow of [...this.#flows.values()]) this.#endFlow(flow, new SelvedgeError('flow_lost', { why: error.code }, { cause: error }), 'reset');
    for (const key of [...this.#sessions.keys()]) this.#drop(key, error);
  }

  // ---- sessions

  /**
   * A session that passed handshake, identity and hello carries the channel from now on. `new`: the first one. `resume`: the others are gone.
   * `migrate`: the one before still works and drains. `key` is larger than that of any session before.
   */
  attach(now: number, key: number, shape: SessionShape, mode: 'new' | 'resume' | 'migrate'): void {
    this.#now = now;
    const isResume = mode === 'resume';
    if (!this.#states.isCarrying) {
      this.#events.push({ type: 'drop', key, error: new SelvedgeError('channel_closed', { why: this.state }) });
      return;
    }
    const attached: Attached = new Attached(
      key,
      shape,
      this.#sink(() => attached),
      this.#options.random,
      now,
      isResume,
    );
    const before = this.#current;
    // Something was lost before, or what would have healed it never left: this session heals it, though it was not dialed for that.
    attached.owesResume =
      isResume || this.#carrierLostAt !== null || (before !== null && (before.owesResume || before.awaitsResume || before.resumeParts.length > 0));
    const spare = this.#sessions.size - limits.sessions_per_channel_max + 1;
    for (const [index, older] of [...this.#sessions.keys()].entries()) {
      // Moves come faster than what they leave behind can drain: the oldest is given up, and what was on it leaves again.
      attached.owesResume ||= index < spare;
      if (isResume || index < spare) this.#drop(older, new SelvedgeError('replaced'));
      else this.#events.push({ type: 'finish', key: older });
    }
    this.#sessions.set(key, attached);
    this.#current = attached;
    attached.liveness.setCadence(now, this.#cadence.ms);
    this.#carrierLostAt = null;
    this.#carrierError = null;
    this.#openedWhileSuspended = 0;
    this.draining.sessionReplaced();
    this.#governing.release();
    for (const flow of this.#flows.values()) {
      if (flow.knownSince === null) flow.mustOpen = true;
      if (flow.receive?.hasUnacknowledged) this.#ackDue.add(flow);
      flow.latestOut?.sessionReplaced();
    }
    this.#governing.update(now, this.#current);
  }

  /** The session ended without having finished: octets on their way may be missing. */
  sessionLost(now: number, key: number, error: SelvedgeError): void {
    this.#now = now;
    const attached = this.#sessions.get(key);
    if (!attached) return;
    this.#sessions.delete(key);
    if (attached !== this.#current) {
      if (this.#current) this.#current.owesResume = true;
      return;
    }
    this.#current = null;
    this.#governing.release();
    this.#carrierLostAt = now;
    this.#carrierError = error;
  }

  /** The session ended and everything on it, both ways, had arrived. */
  sessionFinished(now: number, key: number): void {
    if (this.#current?.key === key) this.sessionLost(now, key, new SelvedgeError('session_closed', { why: 'finished by the peer' }));
    else this.#sessions.delete(key);
  }

  #drop(key: number, error: SelvedgeError): void {
    const attached = this.#sessions.get(key);
    if (!attached) return;
    this.#sessions.delete(key);
    if (attached === this.#current) this.#current = null;
    this.#events.push({ type: 'drop', key, error });
  }

  setReady(key: number, lane: Lane, isReady: boolean): void {
    const attached = this.#sessions.get(key);
    if (attached) attached.ready[lane] = isReady;
  }

  setWritable(key: number, flow: number, isWritable: boolean): void {
    const blocked = this.#sessions.get(key)?.blocked;
    if (isWritable) blocked?.delete(flow);
    else blocked?.add(flow);
  }

  // ---- what comes in

  /** Octets of one source of a session; nothing of the array is kept. A violation of the protocol fails the channel. */
  receive(now: number, key: number, source: number, bytes: Uint8Array): void {
    this.#now = now;
    const attached = this.#sessions.get(key);
    if (!attached) return;
    this.heard(now, key);
    try {
      attached.decoder(source).push(bytes);
      if (attached.hasTooManySources)
        throw new SelvedgeError('limit_reached', { limit: 'quic_streams_per_session_max', max: limits.quic_streams_per_session_max });
    } catch (error) {
      if (!(error instanceof SelvedgeError)) throw error;
      this.fail(error);
    }
  }

  sourceEnded(now: number, key: number, source: number): void {
    this.#now = now;
    if (!this.#sessions.get(key)?.endSource(source)) return;
    const error = new SelvedgeError('session_closed', { why: 'source ended in the middle of a frame' });
    this.#events.push({ type: 'drop', key, error });
    this.sessionLost(now, key, error);
  }

  /** One datagram of the session: a datagram frame. */
  receiveDatagram(now: number, key: number, bytes: Uint8Array): void {
    this.receive(now, key, DATAGRAM_SOURCE, bytes);
    if (this.#sessions.get(key)?.endSource(DATAGRAM_SOURCE)) this.fail(new SelvedgeError('frame_invalid', { why: 'datagram is not one whole frame' }));
  }

  /** The peer showed life at `at`, if only by acknowledging packets. */
  heard(at: number, key: number): void {
    if (this.#sessions.get(key)?.liveness.heard(at)) this.#events.push({ type: 'recovered', key });
  }

  /** What the transport saw of the path since the last look (QUIC). */
  pathSample(now: number, key: number, sample: PathView): void {
    if (this.#current?.key !== key) return;
    if (sample.rtt_latest_ms !== null) this.#current.liveness.measured(sample.rtt_latest_ms);
    this.#governing.governor?.onPathSample(now, sample);
  }

  #sink(attached: () => Attached) {
    return {
      data: (head: DataHead, offset: number, piece: Uint8Array, last: boolean) => this.#onData(attached(), head, offset, piece, last),
      latest: (head: LatestHead, piece: Uint8Array) => this.#onLatest(attached(), head, piece),
      datagram: (flow: number, bytes: Uint8Array) => this.#onDatagram(flow, bytes),
      hello: () => {
        throw new SelvedgeError('frame_invalid', { why: 'a second hello' });
      },
      control: (frame: ControlFrame) => this.#onControl(attached(), frame),
    };
  }

  #onData(attached: Attached, head: DataHead, offset: number, piece: Uint8Array, last: boolean): void {
    const flow = this.#flows.get(head.flow);
    if (head.stamp_us !== null) attached.reports.onBulkFrame(this.#now, head.stamp_us, piece.length);
    if (!flow) return this.#checkGiven(head.flow);
    if (!flow.receive) throw new SelvedgeError('flow_violation', { why: `data on a flow of kind ${flow.kind}` });
    flow.knownSince ??= attached.key;
    this.#countIn(flow, piece.length);
    if (!head.fin) attached.liveness.expect(flow.isBulk);
    if (flow.receive.push(offset, piece, head.fin && last)) this.#tellReadable(flow);
  }

  /** What comes late for a flow that has ended is nothing; for one that never was, it is a lie. */
  #checkGiven(id: number): void {
    if (!this.#ids.wasGiven(id)) throw new SelvedgeError('flow_violation', { why: `flow ${id} was never opened` });
  }

  #onLatest(attached: Attached, head: LatestHead, piece: Uint8Array): void {
    const flow = this.#flows.get(head.flow);
    if (!flow) return this.#checkGiven(head.flow);
    flow.knownSince ??= attached.key;
    if (!flow.latestIn) throw new SelvedgeError('flow_violation', { why: `latest frame on a flow of kind ${flow.kind}` });
    this.#countIn(flow, piece.length);
    if (flow.latestIn.push(head, piece)) this.#tellReadable(flow);
  }

  #onDatagram(id: number, bytes: Uint8Array): void {
    const flow = this.#flows.get(id);
    if (!flow) return;
    if (!flow.datagramsIn) throw new SelvedgeError('flow_violation', { why: `datagram on a flow of kind ${flow.kind}` });
    this.#countIn(flow, bytes.length);
    if (flow.datagramsIn.push(bytes.slice())) this.#tellReadable(flow);
  }

  #tellReadable(flow: Flow): void {
    if (flow.wasTold || flow.isEnded) return;
    flow.wasTold = true;
    this.#events.push({ type: 'readable', flow });
    // An end without octets needs no reader to be consumed.
    if (flow.receive?.isDone) this.flowConsumed(flow);
  }

  #onControl(attached: Attached, frame: ControlFrame): void {
    switch (frame.type) {
      case 'open':
        return this.#onOpen(attached, frame.flow, frame.class, frame.kind, frame.service);
      case 'ack':
        return this.#onAck(attached, frame.flow, frame.consumed, frame.limit);
      case 'reset':
        return this.#onReset(frame.flow, frame.code, frame.reason);
      case 'resume':
        return this.#resuming.heard(attached, frame.entries, frame.more);
      case 'heartbeat':
        return this.#onHeartbeat(attached, frame);
      case 'drain':
        if (attached === this.#current) this.peerDrains(frame.draining);
        return;
      case 'echo': {
        const rtt = (((stampOf(this.#now) - frame.stamp_us) >>> 0) - frame.held_us) / 1000;
        return attached.liveness.echo(frame.sequence, rtt);
      }
      case 'report':
        if (attached === this.#current) this.#governing.governor?.onReport(this.#now, frame);
        return;
    }
  }

  #onOpen(attached: Attached, id: number, cls: TrafficClass, kind: FlowKind, service: string): void {
    if (!this.#ids.admit(id)) return;
    const flow = new Flow(this, id, cls, kind, service, false);
    flow.knownSince = attached.key;
    const refusal = this.#judge(flow, 'peer');
    if (refusal) {
      this.#resuming.remember(this.#now, flow, 'reset');
      this.#refuse(id, refusal.code, whyOf(refusal));
      return;
    }
    this.#flows.set(id, flow);
    this.#began(flow);
    this.#events.push({ type: 'flow', flow });
  }

  /** Flows are opened and ended here faster than the peer can be told. */
  #judgeHaste(): SelvedgeError | null {
    const isHasty = this.#openedWhileSuspended >= limits.flows_per_channel_max || this.#resets.size >= limits.flows_per_channel_max;
    return isHasty ? new SelvedgeError('limit_reached', { limit: 'flows_per_channel_max', max: limits.flows_per_channel_max }) : null;
  }

  #judge(flow: Pick<Flow, 'class' | 'kind' | 'service'>, opener: 'self' | 'peer'): SelvedgeError | null {
    if (this.#flows.size >= limits.flows_per_channel_max)
      return new SelvedgeError('limit_reached', { limit: 'flows_per_channel_max', max: limits.flows_per_channel_max });
    const objection = this.draining.objection(flow.class, opener);
    if (objection !== null) return objection;
    if (flow.kind === 'latest' && this.#countLatest() >= limits.latest_flows_per_channel_max)
      return new SelvedgeError('limit_reached', { limit: 'latest_flows_per_channel_max', max: limits.latest_flows_per_channel_max });
    if (!classAllowsKind(flow.class, flow.kind)) return new SelvedgeError('flow_refused', { why: `class ${flow.class} has no flows of kind ${flow.kind}` });
    return this.#options.authorize(flow.class, flow.kind, flow.service, opener === 'self');
  }

  /** What is allowed has changed: flows that are not any more end with the reason, at both ends; the others notice nothing. */
  judgeFlows(): void {
    for (const flow of [...this.#flows.values()]) {
      const refusal = this.#options.authorize(flow.class, flow.kind, flow.service, flow.isOwn);
      if (refusal !== null) this.flowReset(flow, refusal.code, whyOf(refusal));
    }
  }

  #countLatest(): number {
    let count = 0;
    for (const flow of this.#flows.values()) if (flow.kind === 'latest') count++;
    return count;
  }

  #onAck(attached: Attached, id: number, consumed: number, limit: number): void {
    const flow = this.#flows.get(id);
    if (!flow) return this.#checkGiven(id);
    if (!flow.send) throw new SelvedgeError('flow_violation', { why: `acknowledgement of a flow of kind ${flow.kind}` });
    flow.knownSince ??= attached.key;
    if (!flow.send.acknowledge(consumed, limit, this.#sendRoom)) return;
    attached.liveness.outstanding(this.#now, flow.send.unacknowledged > 0 || this.#hasOutstanding, true);
    if (flow.wantsDrain && flow.send.wantsMore) {
      flow.wantsDrain = false;
      this.#events.push({ type: 'drained', flow });
    }
    this.#checkDone(flow);
  }

  #onReset(id: number, code: ErrorCode, reason: string): void {
    const flow = this.#flows.get(id);
    if (!flow) {
      // It may have overtaken the flow's opening, which then must not open it.
      if (this.#ids.isPeers(id)) this.#ids.admit(id);
      return this.#checkGiven(id);
    }
    const error =
      code === 'session_closed'
        ? new SelvedgeError('flow_reset', { why: reason })
        : new SelvedgeError(code, { why: reason, class: flow.class, peer: this.peer });
    this.#endFlow(flow, error, 'reset');
  }

  #onHeartbeat(attached: Attached, frame: HeartbeatFrame): void {
    if (frame.from !== this.peer || frame.to !== this.self || !equalBytes(frame.channel, this.id))
      throw new SelvedgeError('frame_invalid', { why: 'heartbeat of another channel' });
    if (attached === this.#current) {
      this.peerDrains(frame.draining);
      this.#peerView = viewOf(frame);
    }
    attached.echo = { sequence: frame.sequence, stamp_us: frame.stamp_us, at: this.#now };
    if (attached === this.#current && attached.liveness.accompany(this.#now)) attached.heartbeat = this.#heartbeat(this.#now, attached);
  }

  // ---- flows

  /** @throws not_connected, peer_draining, limit_reached, channel_class_denied, argument_invalid */
  open(cls: TrafficClass, kind: FlowKind, service: string): Flow {
    if (!this.#states.isCarrying || this.state === 'closing') throw new SelvedgeError('not_connected', { peer: this.peer, why: `channel is ${this.state}` });
    if (!fitsService(service)) throw new SelvedgeError('argument_invalid', { name: 'service', why: `longer than ${limits.service_name_bytes_max} octets` });
    const refusal = this.#judge({ class: cls, kind, service }, 'self') ?? this.#judgeHaste();
    if (refusal) throw refusal;
    const flow = new Flow(this, this.#ids.next(), cls, kind, service, true);
    if (this.#current === null) this.#openedWhileSuspended++;
    this.#flows.set(flow.id, flow);
    this.#began(flow);
    return flow;
  }

  #began(flow: Flow): void {
    this.#scheduler.add(flow);
    this.#cadence.began(flow.class);
    this.#current?.liveness.setCadence(this.#now, this.#cadence.ms);
    this.#governing.began(flow.class);
    this.#governing.update(this.#now, this.#current);
  }

  flowHasWork(_flow: Flow): void {
    this.#hasNewWork = true;
  }

  #hasNewWork = false;

  /** Whether the application wrote or read since the last poll: the driver's reason to poll. */
  takeNewWork(): boolean {
    const had = this.#hasNewWork;
    this.#hasNewWork = false;
    return had;
  }

  flowConsumed(flow: Flow): void {
    this.#hasNewWork = true;
    flow.wasTold = false;
    if (flow.isEnded) return;
    if (flow.receive?.owesAck) this.#ackDue.add(flow);
    else {
      this.#ackLazy.add(flow);
      this.#lazyAckAt ??= this.#now + LAZY_ACK_MS;
    }
  }

  flowReset(flow: Flow, code: ErrorCode, reason: string): void {
    // Told even if the opening never left: the peer counts the numbers of flows.
    this.#refuse(flow.id, code, reason);
    this.#endFlow(flow, new SelvedgeError(code, { why: reason, class: flow.class, peer: this.peer }), 'reset');
    this.#hasNewWork = true;
  }

  /** Windows beyond the initial ones share one bound, so that many flows cannot have what one may. */
  readonly #sendRoom = (): number => {
    let room: number = limits.channel_window_bytes_extra_max;
    for (const flow of this.#flows.values()) room -= flow.send?.windowExtra ?? 0;
    return room;
  };

  readonly #receiveRoom = (): number => {
    let room: number = limits.channel_window_bytes_extra_max;
    for (const flow of this.#flows.values()) room -= flow.receive?.windowExtra ?? 0;
    return room;
  };

  #checkDone(flow: Flow): void {
    if (flow.send?.isDone && flow.receive?.isDone && !flow.receive.hasUnacknowledged) this.#endFlow(flow, null, 'done');
  }

  #endFlow(flow: Flow, error: SelvedgeError | null, status: 'done' | 'reset'): void {
    if (flow.isEnded) return;
    flow.isEnded = true;
    flow.error = error;
    this.#flows.delete(flow.id);
    this.#staleDropped += flow.staleDropped;
    this.#scheduler.remove(flow);
    this.#cadence.ended(flow.class);
    this.#current?.liveness.setCadence(this.#now, this.#cadence.ms);
    if (flow.send && flow.send.unacknowledged > 0 && !this.#hasOutstanding) this.#current?.liveness.outstanding(this.#now, false);
    this.#ackDue.delete(flow);
    this.#ackLazy.delete(flow);
    for (const attached of this.#sessions.values()) attached.blocked.delete(flow.id);
    this.#resuming.remember(this.#now, flow, status);
    this.#governing.ended(flow.class, this.#now);
    this.#events.push({ type: 'ended', flow });
  }

  // ---- what goes out

  /** Tells the peer that a flow has ended. While no session carries the channel, the resume tells it as well. */
  #refuse(flow: number, code: ErrorCode, reason: string): void {
    // It may wait for long: not as a part of a buffer that is larger.
    this.#resets.set(flow, encodeControl({ type: 'reset', flow, code, reason }).slice());
    if (this.#current === null || this.#resets.size <= RESETS_MAX) return;
    this.fail(new SelvedgeError('limit_reached', { limit: 'resets that the peer does not take', max: RESETS_MAX }));
  }

  /** The next frame to hand over, or null. */
  pollTransmit(now: number): Transmit | null {
    this.#now = now;
    const attached = this.#current;
    if (!attached || !this.#states.isCarrying) return null;
    if (attached.ready.urgent) {
      const head = this.#nextControl(now, attached);
      if (head) return { key: attached.key, flow: 0, lane: 'urgent', priority: CONTROL_PRIORITY, head, body: null, isDatagram: false };
    }
    if (attached.awaitsResume) return null;
    const turn = this.#flows.size === 0 ? null : this.#scheduler.next(this.#standing);
    if (!turn) {
      this.#noteAppLimited(now, attached);
      return null;
    }
    const { flow } = turn;
    const transmit = this.#nextOf(now, attached, turn);
    this.#scheduler.sent(flow, transmit.head.length + (transmit.body?.length ?? 0));
    // An opening alone is answered by nothing.
    if (flow.send && flow.send.unacknowledged > 0) attached.liveness.outstanding(now, true);
    return transmit;
  }

  #nextControl(now: number, attached: Attached): Uint8Array | null {
    if (this.#resets.size > 0) {
      for (const [flow, reset] of this.#resets) {
        this.#resets.delete(flow);
        return reset;
      }
    }
    if (attached.owesResume && attached.resumeParts.length === 0) this.#resuming.tell(now, attached);
    const queued = attached.resumeParts.shift() ?? attached.heartbeat;
    if (queued) {
      if (queued === attached.heartbeat) attached.heartbeat = null;
      return queued;
    }
    const word = this.draining.takeWord(now);
    if (word) return word;
    if (attached.echo) {
      const { sequence, stamp_us, at } = attached.echo;
      attached.echo = null;
      return encodeControl({ type: 'echo', sequence, stamp_us, held_us: Math.round((now - at) * 1000) });
    }
    const report = attached.pollReport(now);
    if (report) return encodeControl({ type: 'report', ...report });
    if (this.#ackDue.size === 0) return null;
    for (const flow of this.#ackDue) {
      this.#ackDue.delete(flow);
      this.#ackLazy.delete(flow);
      if (!flow.receive || flow.isEnded) continue;
      const frame = encodeControl({ type: 'ack', flow: flow.id, ...flow.receive.acknowledge(now, attached.liveness.rtt_ms ?? 0, this.#receiveRoom) });
      this.#checkDone(flow);
      return frame;
    }
    return null;
  }

  readonly #standing = (flow: Flow): Standing => {
    const attached = this.#current;
    if (!attached || !flow.hasWork) return 'idle';
    if (!attached.ready[flow.isBulk ? 'bulk' : 'urgent'] || attached.blocked.has(flow.id)) return 'waits';
    return !flow.isBulk || this.#governing.governor === null || this.#governing.governor.allowance(this.#now) > 0 ? 'may' : 'waits';
  };

  #nextOf(now: number, attached: Attached, { flow, isOverdue }: Turn<Flow>): Transmit {
    const lane: Lane = flow.isBulk ? 'bulk' : 'urgent';
    const to = { key: attached.key, flow: flow.id, lane, priority: isOverdue ? OVERDUE_PRIORITY : streamPriority(flow.class) };
    if (flow.mustOpen) {
      flow.mustOpen = false;
      flow.openedOn = attached.key;
      return {
        ...to,
        head: encodeControl({ type: 'open', flow: flow.id, class: flow.class, kind: flow.kind, service: flow.service }),
        body: null,
        isDatagram: false,
      };
    }
    const max = this.#chunkMax(now, attached, flow);
    if (flow.send) {
      const chunk = flow.send.take(max);
      if (chunk) {
        this.#countOut(now, attached, flow, chunk.bytes.length);
        if (flow.wantsDrain && flow.send.wantsMore) {
          flow.wantsDrain = false;
          this.#events.push({ type: 'drained', flow });
        }
        const head = encodeDataHead(flow.id, chunk.offset, chunk.bytes.length, chunk.fin, flow.isBulk ? stampOf(now) : null);
        return { ...to, head, body: chunk.bytes.length > 0 ? chunk.bytes : null, isDatagram: false };
      }
    }
    const latest = flow.latestOut?.take(max);
    if (latest) {
      this.#countOut(now, attached, flow, latest.bytes.length);
      return { ...to, head: encodeLatestHead({ flow: flow.id, ...latest.head }, latest.bytes.length), body: latest.bytes, isDatagram: false };
    }
    const datagram = flow.datagramsOut?.shift() ?? new Uint8Array(0);
    this.#countOut(now, attached, flow, datagram.length);
    return { ...to, head: encodeDatagramHead(flow.id, datagram.length), body: datagram, isDatagram: true };
  }

  #chunkMax(now: number, attached: Attached, flow: Flow): number {
    const { chunkBytesMax, bulkChunkBytesMax = chunkBytesMax } = attached.shape;
    if (!flow.isBulk) return chunkBytesMax;
    if (this.#governing.governor === null) return bulkChunkBytesMax;
    return Math.min(chunkBytesMax, this.#governing.governor.frame_bytes, Math.max(limits.chunk_bytes_min, this.#governing.governor.allowance(now)));
  }

  #countOut(now: number, attached: Attached, flow: Flow, bytes: number): void {
    flow.bytesOut += bytes;
    this.#bytesOf(flow.class).sent += bytes;
    if (!flow.isBulk) return;
    attached.bulkSent += bytes;
    this.#governing.governor?.onSent(now, bytes);
  }

  #countIn(flow: Flow, bytes: number): void {
    flow.bytesIn += bytes;
    this.#bytesOf(flow.class).received += bytes;
  }

  #bytesOf(cls: TrafficClass): { sent: number; received: number } {
    let row = this.classBytes.get(cls);
    if (!row) {
      row = { sent: 0, received: 0 };
      this.classBytes.set(cls, row);
    }
    return row;
  }

  // ---- the governor

  #noteAppLimited(now: number, attached: Attached): void {
    if (this.#governing.governor === null || !attached.ready.bulk || this.#governing.governor.allowance(now) <= 0) return;
    this.#governing.governor.onAppLimited(now);
  }

  /** A bulk flow lives: either end may have octets for it. */
  get hasBulk(): boolean {
    for (const flow of this.#flows.values()) if (flow.isBulk) return true;
    return false;
  }

  get #hasBulkWork(): boolean {
    for (const flow of this.#flows.values()) if (flow.isBulk && flow.hasWork) return true;
    return false;
  }

  get #hasOutstanding(): boolean {
    for (const flow of this.#flows.values()) if (flow.send && flow.send.unacknowledged > 0) return true;
    return false;
  }

  // ---- time

  pollTimeout(now: number): number | null {
    let at = Number.POSITIVE_INFINITY;
    if (this.hasEnded) return null;
    if (this.#carrierLostAt !== null) at = this.#carrierLostAt + limits.carrier_ms_max;
    if (this.#lazyAckAt !== null && this.#current) at = Math.min(at, this.#lazyAckAt);
    if (this.#current) {
      at = Math.min(at, this.#current.liveness.pollTimeout());
      // A lane that takes nothing wakes the driver itself; a time that has come already would wake it for ever.
      if (this.#current.ready.urgent) at = Math.min(at, this.#current.reports.nextTime(now) ?? at);
      if (this.#governing.governor && this.#current.ready.bulk && !this.#current.awaitsResume && this.#hasBulkWork)
        at = Math.min(at, this.#governing.governor.nextTime(now) ?? at);
      at = Math.min(at, this.#governing.endsAt ?? at);
    }
    return at === Number.POSITIVE_INFINITY ? null : at;
  }

  handleTimeout(now: number): void {
    this.#now = now;
    if (this.hasEnded) return;
    if (this.#carrierLostAt !== null && now >= this.#carrierLostAt + limits.carrier_ms_max) {
      const cause = this.#carrierError;
      return this.fail(
        cause?.code === 'heartbeat_timeout' ? cause : new SelvedgeError('network_unreachable', { peer: this.peer, why: cause?.message ?? 'no session' }),
      );
    }
    if (this.#lazyAckAt !== null && now >= this.#lazyAckAt) {
      this.#lazyAckAt = null;
      for (const flow of this.#ackLazy) if (flow.receive?.hasUnacknowledged) this.#ackDue.add(flow);
      this.#ackLazy.clear();
    }
    if (this.#current) this.#checkLiveness(now, this.#current);
    this.#governing.update(now, this.#current);
  }

  #checkLiveness(now: number, attached: Attached): void {
    switch (attached.liveness.handleTimeout(now)) {
      case 'send_heartbeat':
        attached.heartbeat = this.#heartbeat(now, attached);
        return;
      case 'suspect':
        this.#events.push({ type: 'suspect', key: attached.key });
        return;
      case 'dead': {
        const error = new SelvedgeError('heartbeat_timeout', { peer: this.peer, ms: limits.heartbeat_retry_ms * limits.heartbeat_retries_max });
        this.#events.push({ type: 'drop', key: attached.key, error });
        this.sessionLost(now, attached.key, error);
        return;
      }
      default:
    }
  }

  #heartbeat(now: number, { liveness }: Attached): Uint8Array {
    const ends = { channel: this.id, from: this.self, to: this.peer, draining: this.draining.isOwn };
    return encodeHeartbeat(now, liveness, ends, this.#options.facts?.() ?? noFacts);
  }

  pollEvent(): ChannelEvent | null {
    return this.#events.shift() ?? null;
  }

  /** Classes with a live flow. */
  get classesInUse(): TrafficClass[] {
    if (this.#flows.size === 0) return [];
    const used = new Set([...this.#flows.values()].map((flow) => flow.class));
    return trafficClassNames.filter((name) => used.has(name));
  }
}

/** The reason without the words that its code stands for: whoever is told the code has those. */
function whyOf({ facts, message }: SelvedgeError): string {
  return typeof facts.why === 'string' ? facts.why : message;
}

function fitsService(service: string): boolean {
  return new TextEncoder().encode(service).length <= limits.service_name_bytes_max;
}

/** Source number under which datagrams are decoded: none of a session's own. */
const DATAGRAM_SOURCE = -1;
