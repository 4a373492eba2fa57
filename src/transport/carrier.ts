/**
 * The carrier drives one channel over real sessions: it moves octets between them and the pure core, keeps the core's one timer, and turns
 * the core's events into flow handles and calls upward. All decisions are the core's.
 */
import { type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Channel, ChannelEvent, Transmit } from '../channel/channel.ts';
import type { FlowKind, TrafficClass } from '../channel/classes.ts';
import type { Flow } from '../channel/flow.ts';
import type { Governor } from '../channel/governor.ts';
import { CarriedFlow, type FlowHandle } from './flow-handle.ts';
import type { Relay } from './greeting.ts';
import type { LaneName, Session, SessionHandler } from './session.ts';
import type { Timers } from './system.ts';

/** What the owner of a channel hears. No call comes from inside a call on the carrier, except `ended` from `close`. */
export interface CarrierOwner {
  /** The peer opened a flow. */
  flow(flow: FlowHandle): void;
  /** The current session is silent: dial another; or it spoke again. */
  suspect(isSuspect: boolean): void;
  /** No session carries the channel any more. */
  suspended(error: SelvedgeError): void;
  /** The channel has closed or failed. */
  ended(error: SelvedgeError): void;
}

/** The governor looks at the path this often while there is bulk for it; otherwise round trips are looked at now and then. */
const SAMPLE_MS_GOVERNED = 1;
const SAMPLE_MS = 100;
/** So much too early may the timer fire: what an idle channel waits for after a heartbeat is over with the echo, and the next is seconds away. */
const EARLY_MS_MAX = 250;
/** A piece of at least this size is bulk, which can wait for the end of the turn; a keystroke's cannot. */
const BULK_PIECE_BYTES = 8 * 1024;
/** Frames handed over in one go before the event loop gets its turn. */
const FRAMES_PER_TURN_MAX = 256;
/** A replaced session that has not finished after this is dropped. */
const FINISH_MS_MAX = 15_000;
const FINISH_LOOK_MS = 50;
/** The end of one session and the accept of the next travel apart: so much later may the accept come. */
const HANDOVER_MS_MAX = 2_000;

interface Carried {
  readonly key: number;
  readonly session: Session;
  hasFinished: boolean;
  isFinishing: boolean;
  cancelFinish: (() => void) | null;
}

export class Carrier {
  readonly channel: Channel;
  readonly #timers: Timers;
  readonly #owner: CarrierOwner;
  readonly #sessions = new Map<number, Carried>();
  readonly #handles = new Map<Flow, CarriedFlow>();
  #nextKey = 1;
  #cancelTimer: (() => void) | null = null;
  #timerAt = Number.POSITIVE_INFINITY;
  #pumpQueued = false;
  #bulkQueued: NodeJS.Immediate | null = null;
  #isPumping = false;
  #sampledAt = 0;
  #window: number | null = null;
  #rate: number | null = null;

  constructor(channel: Channel, timers: Timers, owner: CarrierOwner) {
    this.channel = channel;
    this.#timers = timers;
    this.#owner = owner;
  }

  /** The session that carries the channel now; null while there is none. */
  get session(): Session | null {
    const key = this.channel.currentKey;
    return key === null ? null : (this.#sessions.get(key)?.session ?? null);
  }

  /** Lets a greeted session carry the channel from now on. */
  attach(session: Session, relay: Relay, mode: 'new' | 'resume' | 'migrate'): void {
    const key = this.#nextKey++;
    const carried: Carried = { key, session, hasFinished: false, isFinishing: false, cancelFinish: null };
    this.#sessions.set(key, carried);
    this.#window = null;
    this.#rate = null;
    const chunkBytesMax = session.transport === 'tcp' ? limits.chunk_bytes_tcp_max : limits.chunk_bytes_max;
    this.channel.attach(
      this.#now,
      key,
      {
        transport: session.transport,
        chunkBytesMax,
        bulkChunkBytesMax: limits.chunk_bytes_max,
        isAnswered: session.transport === 'quic',
        lead_ms: session.lead_ms,
      },
      mode,
    );
    relay.handTo(this.#handlerOf(carried));
    this.pump();
  }

  open(cls: TrafficClass, kind: FlowKind, service: string): FlowHandle {
    const handle = this.#handle(this.channel.open(cls, kind, service));
    this.schedulePump();
    return handle;
  }

  close(code: ErrorCode, why: string): void {
    this.channel.close(code, why);
    this.pump();
  }

  fail(error: SelvedgeError): void {
    this.channel.fail(error);
    this.pump();
  }

  /** What is allowed has changed. */
  judgeFlows(): void {
    this.channel.judgeFlows();
    this.pump();
  }

  get #now(): number {
    return this.#timers.clock.now();
  }

  #handlerOf(carried: Carried): SessionHandler {
    const { key } = carried;
    return {
      keepsNothing: true,
      data: (source, bytes) => {
        this.channel.receive(this.#now, key, source, bytes);
        if (bytes.length < BULK_PIECE_BYTES) this.#received();
        else this.#receivedBulk();
      },
      sourceEnd: (source) => {
        this.channel.sourceEnded(this.#now, key, source);
        this.schedulePump();
      },
      ready: (lane: LaneName) => {
        this.channel.setReady(key, lane, true);
        this.pump();
      },
      writable: (flow) => {
        this.channel.setWritable(key, flow, true);
        this.pump();
      },
      datagram: (bytes) => {
        this.channel.receiveDatagram(this.#now, key, bytes);
        this.#received();
      },
      finished: () => {
        carried.hasFinished = true;
        if (carried.isFinishing) this.#settleFinished(carried);
        else if (this.channel.currentKey === key) carried.cancelFinish = this.#timers.after(HANDOVER_MS_MAX, () => this.#abandoned(carried));
      },
      closed: (error) => this.#closed(carried, error),
    };
  }

  #closed(carried: Carried, error: SelvedgeError): void {
    carried.cancelFinish?.();
    if (!this.#sessions.delete(carried.key)) return;
    const wasCurrent = this.channel.currentKey === carried.key;
    if (endsChannel(error.code)) this.channel.fail(error);
    else if (carried.hasFinished && !wasCurrent) this.channel.sessionFinished(this.#now, carried.key);
    else this.channel.sessionLost(this.#now, carried.key, error);
    if (wasCurrent && this.channel.isSuspended) this.#owner.suspended(error);
    this.pump();
  }

  /** The peer writes no more on the session in use, and the one that it has moved on to never came. */
  #abandoned(carried: Carried): void {
    if (this.channel.currentKey !== carried.key) return;
    const error = new SelvedgeError('session_closed', { why: 'finished by the peer' });
    this.#drop(carried.key, error);
    this.channel.sessionLost(this.#now, carried.key, error);
    this.#owner.suspended(error);
    this.pump();
  }

  #finish(carried: Carried): void {
    if (carried.isFinishing) return;
    carried.isFinishing = true;
    carried.cancelFinish?.();
    carried.session.finish();
    carried.cancelFinish = this.#timers.after(FINISH_MS_MAX, () => carried.session.close('replaced', 'did not finish in time'));
    if (carried.hasFinished) this.#settleFinished(carried);
  }

  /** Both ends write no more. The dialer closes once its own last octets have arrived; the acceptor waits for that. */
  #settleFinished(carried: Carried): void {
    if (carried.session.side !== 'dialer' || carried.session.isClosed) return;
    if (carried.session.facts().unsent_bytes === 0) return carried.session.close('replaced', 'finished');
    const cancelBound = carried.cancelFinish;
    const cancelLook = this.#timers.after(FINISH_LOOK_MS, () => {
      carried.cancelFinish = cancelBound;
      this.#settleFinished(carried);
    });
    carried.cancelFinish = () => {
      cancelLook();
      cancelBound?.();
    };
  }

  /** Readers are answered first, so that what they write in turn leaves with the one pump that follows. */
  #received(): void {
    if (!this.#isPumping) this.#runEvents();
    this.schedulePump();
  }

  /** Several pieces of bulk come in one turn of the event loop: their reader is woken once for all of them. */
  #receivedBulk(): void {
    if (this.#bulkQueued !== null) return;
    this.#bulkQueued = setImmediate(() => {
      this.#bulkQueued = null;
      this.pump();
    });
  }

  /** Runs soon, once, whatever number of changes asks for it. */
  schedulePump(): void {
    if (this.#pumpQueued) return;
    this.#pumpQueued = true;
    queueMicrotask(this.#runQueuedPump);
  }

  readonly #runQueuedPump = (): void => {
    this.#pumpQueued = false;
    this.pump();
  };

  readonly #pumpForWork = (): void => {
    if (this.channel.takeNewWork()) this.schedulePump();
  };

  /** Moves everything that can move now. */
  pump(): void {
    if (this.#isPumping) return this.schedulePump();
    this.#isPumping = true;
    try {
      this.#runEvents();
      this.#look();
      const isMore = this.#transmit();
      this.#runEvents();
      this.#setTimer(isMore);
    } finally {
      this.#isPumping = false;
    }
  }

  #transmit(): boolean {
    for (let count = 0; count < FRAMES_PER_TURN_MAX; count++) {
      const frame = this.channel.pollTransmit(this.#now);
      if (frame === null) return false;
      this.#write(frame);
    }
    return true;
  }

  #write(frame: Transmit): void {
    const session = this.#sessions.get(frame.key)?.session;
    if (!session) return;
    if (frame.isDatagram && frame.body && frame.head.length + frame.body.length <= session.datagramBytesMax) {
      session.datagram(new Uint8Array(Buffer.concat([frame.head, frame.body])));
      return;
    }
    if (!session.write(frame.flow, frame.lane, frame.priority, frame.head, frame.body)) this.channel.setWritable(frame.key, frame.flow, false);
    if (!session.ready(frame.lane)) this.channel.setReady(frame.key, frame.lane, false);
  }

  /** Shows the core the path: round trips and acknowledged octets, and, when silence is in question, whether there was any. */
  #look(): void {
    const key = this.channel.currentKey;
    const carried = key === null ? undefined : this.#sessions.get(key);
    if (!carried || key === null) return;
    const now = this.#now;
    this.#impose(carried.session, this.channel.governor);
    if (now - this.#sampledAt < (this.channel.isPacing ? SAMPLE_MS_GOVERNED : SAMPLE_MS)) return;
    this.#sampledAt = now;
    const sample = carried.session.sample();
    if (sample) this.channel.pathSample(now, key, sample);
  }

  /** The governor's rate and window, where they have changed. */
  #impose(session: Session, governor: Governor | null): void {
    const rate = governor?.rate_bytes_per_s ?? null;
    const window = governor?.congestion_window_bytes ?? null;
    if (rate === this.#rate && window === this.#window) return;
    this.#rate = rate;
    this.#window = window;
    session.govern(rate === null || window === null ? null : { rate_bytes_per_s: Math.ceil(rate), window_bytes: window });
  }

  #setTimer(isMore: boolean): void {
    let at = isMore ? this.#now : (this.channel.pollTimeout(this.#now) ?? Number.POSITIVE_INFINITY);
    if (this.channel.isPacing && (this.session?.lead_ms ?? 0) > 0) at = Math.min(at, this.#sampledAt + 4 * SAMPLE_MS_GOVERNED);
    // A timer that fires too early only looks again; to set it anew at each frame would cost more, unless it is far too early.
    if (this.#cancelTimer && at >= this.#timerAt && at < this.#timerAt + EARLY_MS_MAX) return;
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    this.#timerAt = at;
    if (at === Number.POSITIVE_INFINITY) return;
    this.#cancelTimer = this.#timers.after(Math.max(0, at - this.#now), () => {
      this.#cancelTimer = null;
      this.#onTimer();
    });
  }

  #onTimer(): void {
    const key = this.channel.currentKey;
    const session = this.session;
    // Packets acknowledged by the peer's stack are signs of life too; the core only sees octets.
    if (key !== null && session) this.channel.heard(this.#now - session.silent_ms, key);
    this.channel.handleTimeout(this.#now);
    this.pump();
  }

  #runEvents(): void {
    for (let event = this.channel.pollEvent(); event !== null; event = this.channel.pollEvent()) this.#onEvent(event);
  }

  #onEvent(event: ChannelEvent): void {
    switch (event.type) {
      case 'flow':
        return this.#owner.flow(this.#handle(event.flow));
      case 'readable':
        return this.#handles.get(event.flow)?.tellReadable();
      case 'drained':
        return this.#handles.get(event.flow)?.tellDrained();
      case 'ended':
        this.#handles.get(event.flow)?.tellEnded();
        this.#handles.delete(event.flow);
        // Not with its last octets: they may have to leave again.
        for (const { session } of this.#sessions.values()) session.endFlow(event.flow.id);
        return;
      case 'suspect':
        if (event.key === this.channel.currentKey) this.#owner.suspect(true);
        return;
      case 'recovered':
        if (event.key === this.channel.currentKey) this.#owner.suspect(false);
        return;
      case 'finish': {
        const carried = this.#sessions.get(event.key);
        if (carried) this.#finish(carried);
        return;
      }
      case 'drop':
        return this.#drop(event.key, event.error);
      case 'state':
        if (event.state === 'closed' || event.state === 'failed') this.#ended(event.error ?? new SelvedgeError('channel_closed', { why: event.state }));
        return;
    }
  }

  #drop(key: number, error: SelvedgeError): void {
    const carried = this.#sessions.get(key);
    if (!carried) return;
    this.#sessions.delete(key);
    carried.cancelFinish?.();
    carried.session.close(error.code, error.message);
    if (this.channel.isSuspended) this.#owner.suspended(error);
  }

  #ended(error: SelvedgeError): void {
    this.#cancelTimer?.();
    this.#cancelTimer = null;
    if (this.#bulkQueued !== null) clearImmediate(this.#bulkQueued);
    for (const key of [...this.#sessions.keys()]) this.#drop(key, error);
    this.#owner.ended(error);
  }

  #handle(flow: Flow): CarriedFlow {
    const handle = new CarriedFlow(flow, this.channel.peer, this.#pumpForWork);
    this.#handles.set(flow, handle);
    return handle;
  }
}

/** Reasons that a peer gives for ending the channel; any other end of a session leaves the channel to find another. */
function endsChannel(code: ErrorCode): boolean {
  return channelEnds.has(code);
}

const channelEnds: ReadonlySet<ErrorCode> = new Set<ErrorCode>([
  'channel_closed',
  'shutting_down',
  'certificate_invalid',
  'certificate_revoked',
  'wrong_cluster',
  'wrong_node',
  'policy_denied',
  'peer_disabled',
  'peer_draining',
  'frame_invalid',
  'frame_too_large',
  'flow_violation',
  'limit_reached',
  'trust_bundle_stale',
  'route_epoch_stale',
  'version_unsupported',
]);
