/**
 * Two sessions in one process, joined without a socket: for tests of what stands above a session, and for the simulator. Everything
 * happens through the injected scheduler and timers, so a test can be both. It copies no frame; it delays, cuts and dies on demand.
 */
import { SelvedgeError, type ErrorCode } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { Slab } from '../base/slab.ts';
import { Backlog } from './backlog.ts';
import { Transit } from './memory-transit.ts';
import { closeError, decodeClose, encodeClose } from './reason.ts';
import { CONTROL_FLOW, type LaneName, type PathFacts, type Session, type SessionHandler, type TransportName } from './session.ts';
import { systemTimers, type Timers } from './system.ts';

/** Something that is about to leave for the other end. */
export interface Departure {
  readonly to: 'dialer' | 'acceptor';
  readonly kind: Arrival['kind'];
  /** A frame's, or a datagram, which begins with one; else null. */
  readonly head: Uint8Array | null;
  readonly bytes: number;
}

export interface MemoryOptions {
  /** What it poses as. */
  readonly transport?: TransportName;
  /** For how long each thing is under way, milliseconds; what went out on a source before arrives before. Null: it is lost; two times: a datagram arrives twice. */
  readonly transit?: (thing: Departure) => number | readonly [number, number] | null;
  /** `lanes`: two sources, as on TCP. `streams`: a source for each flow, as on QUIC. */
  readonly sources?: 'lanes' | 'streams';
  /** Runs an action soon, but never inside the call. */
  readonly schedule?: (action: () => void) => void;
  readonly timers?: Timers;
  readonly handshake_ms?: number;
  /** What a side may hand over before it has to wait, for each lane. */
  readonly unsent_bytes_max?: number;
  readonly datagram_bytes_max?: number;
  /** How a run of octets arrives; whole if not given. Order and content must stay. */
  readonly split?: (bytes: Uint8Array) => Iterable<Uint8Array>;
  readonly dialerChain?: readonly Uint8Array[];
  readonly acceptorChain?: readonly Uint8Array[];
}

export interface MemoryPair {
  readonly dialer: Session;
  readonly acceptor: Session;
  /** The path dies: both ends (or this one) are told `network_unreachable`, what is under way is lost. */
  cut(side?: 'dialer' | 'acceptor'): void;
  /** While held, nothing arrives at either end (or this one), not even the end of the other. */
  hold(held: boolean, side?: 'dialer' | 'acceptor'): void;
}

export function memoryPair(options: MemoryOptions = {}): MemoryPair {
  const dialer = new MemorySession('dialer', options.acceptorChain ?? [], options);
  const acceptor = new MemorySession('acceptor', options.dialerChain ?? [], options);
  const ends = (side?: 'dialer' | 'acceptor') => [dialer, acceptor].filter((session) => side === undefined || session.side === side);
  dialer.join(acceptor);
  acceptor.join(dialer);
  return {
    dialer,
    acceptor,
    cut(side) {
      for (const session of ends(side)) session.die(new SelvedgeError('network_unreachable', { peer: session.remote, why: 'path cut' }));
    },
    hold(held, side) {
      for (const session of ends(side)) session.hold(held);
    },
  };
}

/** What is under way to a session. */
type Arrival =
  | {
      readonly kind: 'data';
      readonly source: number;
      readonly lane: LaneName;
      readonly head: Uint8Array;
      readonly body: Uint8Array | null;
      readonly length: number;
    }
  | { readonly kind: 'source_end'; readonly source: number }
  | { readonly kind: 'finished' }
  | { readonly kind: 'datagram'; readonly bytes: Uint8Array }
  | { readonly kind: 'close'; readonly error: SelvedgeError };

const heads = new Slab();
const LANES = ['urgent', 'bulk'] as const;

class MemorySession implements Session {
  readonly lead_ms = 0;
  readonly transport: TransportName;
  readonly side: 'dialer' | 'acceptor';
  readonly peerChain: readonly Uint8Array[];
  readonly datagramBytesMax: number;
  readonly #options: MemoryOptions;
  readonly #timers: Timers;
  readonly #backlogs: Record<LaneName, Backlog>;
  readonly #sources = new Set<number>();
  #cancelHandshake: () => void;
  #peer: MemorySession | null = null;
  #handler: SessionHandler | null = null;
  #arrivals: Arrival[] = [];
  #isHeld = false;
  readonly #underWay: Transit<Arrival>;
  #datagramsUnderWay_bytes = 0;
  #pumpScheduled = false;
  #finishing = false;
  #closed = false;
  #sent_bytes = 0;
  #received_bytes = 0;
  #heard_ms: number;

  constructor(side: 'dialer' | 'acceptor', peerChain: readonly Uint8Array[], options: MemoryOptions) {
    this.transport = options.transport ?? 'memory';
    this.side = side;
    this.peerChain = peerChain;
    this.datagramBytesMax = options.datagram_bytes_max ?? 1200;
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#underWay = new Transit(this.#timers, (arrival) => this.#arrived(arrival));
    const unsent_bytes_max = options.unsent_bytes_max ?? limits.tcp_bulk_unsent_bytes_max;
    this.#backlogs = { urgent: new Backlog(unsent_bytes_max), bulk: new Backlog(unsent_bytes_max) };
    this.#heard_ms = this.#timers.clock.now();
    const ms = options.handshake_ms ?? limits.handshake_ms_max;
    this.#cancelHandshake = this.#timers.after(ms, () => this.close('handshake_timeout', `not approved within ${ms} ms`));
  }

  get remote(): string {
    return this.side === 'dialer' ? 'memory:2' : 'memory:1';
  }

  get local(): string {
    return this.side === 'dialer' ? 'memory:1' : 'memory:2';
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  join(peer: MemorySession): void {
    this.#peer = peer;
  }

  approve(handler: SessionHandler): void {
    if (this.#closed || this.#handler !== null) throw new SelvedgeError('handle_closed', { what: 'session' });
    this.#cancelHandshake();
    this.#handler = handler;
    this.pump();
  }

  ready(lane: LaneName): boolean {
    return this.#writing && this.#backlogs[lane].ready;
  }

  write(flow: number, lane: LaneName, _priority: number, head: Uint8Array, body: Uint8Array | null): boolean {
    if (!this.#writing) return false;
    const length = head.length + (body?.length ?? 0);
    const source = this.#options.sources === 'streams' ? flow : LANES.indexOf(lane);
    this.#sources.add(source);
    this.#sent_bytes += length;
    // A head may be scratch space of the caller; only the body is promised not to change.
    this.#peer?.arrive({ kind: 'data', source, lane, head: heads.copy(head), body, length });
    return this.#backlogs[lane].add(flow, length);
  }

  endFlow(flow: number): void {
    for (const lane of LANES) this.#backlogs[lane].forget(flow);
    if (this.#options.sources !== 'streams' || flow === CONTROL_FLOW || !this.#writing || !this.#sources.delete(flow)) return;
    this.#peer?.arrive({ kind: 'source_end', source: flow });
  }

  datagram(bytes: Uint8Array): boolean {
    if (!this.#writing || bytes.length > this.datagramBytesMax) return false;
    return this.#peer?.arriveDatagram(bytes) ?? false;
  }

  get silent_ms(): number {
    return this.#timers.clock.now() - this.#heard_ms;
  }

  facts(): PathFacts {
    return {
      rtt_ms: null,
      rtt_min_ms: null,
      loss_part: null,
      mtu_bytes: null,
      in_flight_bytes: null,
      acked_bytes: null,
      unsent_bytes: this.#backlogs.urgent.bytes + this.#backlogs.bulk.bytes,
      congestion_window_bytes: null,
      sent_bytes: this.#sent_bytes,
      received_bytes: this.#received_bytes,
      silent_ms: this.silent_ms,
    };
  }

  sample(): null {
    return null;
  }

  govern(): void {}

  finish(): void {
    if (!this.#writing) return;
    this.#finishing = true;
    for (const source of this.#sources) this.#peer?.arrive({ kind: 'source_end', source });
    this.#peer?.arrive({ kind: 'finished' });
  }

  close(code: ErrorCode, reason: string): void {
    if (this.#closed) return;
    this.#peer?.arrive({ kind: 'close', error: decodeClose(encodeClose(code, reason), this.local) });
    this.die(closeError(code, reason, this.remote));
  }

  /** The end at this side, told soon. */
  die(error: SelvedgeError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelHandshake();
    this.#arrivals = [];
    for (const lane of LANES) this.#backlogs[lane].clear();
    const handler = this.#handler;
    if (handler !== null) this.#soon(() => handler.closed(error));
  }

  arrive(arrival: Arrival): void {
    if (this.#closed) return;
    const { transit } = this.#options;
    if (transit === undefined) return this.#arrived(arrival);
    const head = arrival.kind === 'data' ? arrival.head : arrival.kind === 'datagram' ? arrival.bytes : null;
    const bytes = arrival.kind === 'data' ? arrival.length : arrival.kind === 'datagram' ? arrival.bytes.length : 0;
    const delay_ms = transit({ to: this.side, kind: arrival.kind, head, bytes });
    if (arrival.kind === 'datagram') {
      if (delay_ms === null) this.#datagramsUnderWay_bytes -= bytes;
      else if (typeof delay_ms === 'number') this.#underWay.loose(delay_ms, arrival);
      else {
        this.#datagramsUnderWay_bytes += bytes;
        for (const each_ms of delay_ms) this.#underWay.loose(each_ms, arrival);
      }
      return;
    }
    if (delay_ms === null) return;
    const one_ms = typeof delay_ms === 'number' ? delay_ms : delay_ms[0];
    if (arrival.kind === 'data' || arrival.kind === 'source_end') this.#underWay.inLine(arrival.source, one_ms, arrival);
    else this.#underWay.last(one_ms, arrival);
  }

  #arrived(arrival: Arrival): void {
    if (this.#closed) return;
    if (arrival.kind === 'source_end') this.#underWay.forget(arrival.source);
    this.#arrivals.push(arrival);
    this.pump();
  }

  arriveDatagram(bytes: Uint8Array): boolean {
    if (this.#closed || this.#datagramsUnderWay_bytes + bytes.length > limits.flow_datagram_queue_bytes_max) return false;
    this.#datagramsUnderWay_bytes += bytes.length;
    this.arrive({ kind: 'datagram', bytes: Uint8Array.from(bytes) });
    return true;
  }

  hold(isHeld: boolean): void {
    this.#isHeld = isHeld;
    this.pump();
  }

  /** Lets what is under way arrive, soon. */
  pump(): void {
    if (this.#pumpScheduled || this.#arrivals.length === 0) return;
    this.#pumpScheduled = true;
    this.#soon(() => {
      this.#pumpScheduled = false;
      this.#deliver();
    });
  }

  get #writing(): boolean {
    return this.#handler !== null && !this.#closed && !this.#finishing;
  }

  #soon(action: () => void): void {
    (this.#options.schedule ?? queueMicrotask)(action);
  }

  /** A close passes even a session that reads nothing: it is the path's end, not an octet of it. */
  #deliver(): void {
    if (this.#isHeld || this.#closed) return;
    if (this.#handler === null) {
      const close = this.#arrivals.find((arrival) => arrival.kind === 'close');
      if (close !== undefined) this.die(close.error);
      return;
    }
    const arrivals = this.#arrivals;
    this.#arrivals = [];
    for (const arrival of arrivals) {
      if (this.#closed) return;
      this.#tell(this.#handler, arrival);
    }
  }

  #tell(handler: SessionHandler, arrival: Arrival): void {
    this.#heard_ms = this.#timers.clock.now();
    switch (arrival.kind) {
      case 'data':
        this.#tellData(handler, arrival);
        break;
      case 'source_end':
        handler.sourceEnd(arrival.source);
        break;
      case 'finished':
        handler.finished();
        break;
      case 'datagram':
        this.#datagramsUnderWay_bytes -= arrival.bytes.length;
        handler.datagram(arrival.bytes);
        break;
      case 'close':
        this.die(arrival.error);
        break;
    }
  }

  #tellData(handler: SessionHandler, arrival: Arrival & { kind: 'data' }): void {
    this.#received_bytes += arrival.length;
    this.#peer?.left(arrival.lane, arrival.length);
    this.#tellPart(handler, arrival.source, arrival.head);
    if (arrival.body !== null) this.#tellPart(handler, arrival.source, arrival.body);
  }

  #tellPart(handler: SessionHandler, source: number, part: Uint8Array): void {
    const { split } = this.#options;
    if (split === undefined) {
      if (!this.#closed) handler.data(source, part);
    } else for (const bytes of split(part)) if (!this.#closed) handler.data(source, bytes);
  }

  /** The peer took octets of this side: what waited for that may go on, soon. */
  left(lane: LaneName, bytes: number): void {
    const flows = this.#closed ? null : this.#backlogs[lane].remove(bytes);
    if (flows === null) return;
    this.#soon(() => {
      for (const flow of flows) {
        if (this.#writing) this.#handler?.writable(flow);
      }
      if (this.ready(lane)) this.#handler?.ready(lane);
    });
  }
}
