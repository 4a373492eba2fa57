/**
 * A session of one or two TLS connections: *urgent*, always there, and *bulk*, which the dialer opens when either end first writes to
 * it, so that an idle channel costs one connection and one handshake. Each is one source: urgent 0, bulk 1. If either dies, the session does.
 */
import { type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { TcpView, TlsConnection } from '../native-tls.ts';
import { closeError, decodeClose, encodeClose } from './reason.ts';
import type { LaneName, PathFacts, PathLaw, PathSample, Session, SessionHandler } from './session.ts';
import type { Timers } from './system.ts';
import { Lane, type LaneOwner, RecordKind } from './tcp-lane.ts';
import { PauseWatch } from './tcp-pause.ts';
import { tcpError } from './tcp-tls.ts';
import { Waiters } from './tcp-waiters.ts';

export interface TcpSessionSetup {
  readonly side: 'dialer' | 'acceptor';
  readonly urgent: TlsConnection;
  /** `address:port` of both ends of it. */
  readonly remote: string;
  readonly local: string;
  readonly peerChain: readonly Uint8Array[];
  /** The dialer's way to the second connection; null at the acceptor, which waits for it. */
  readonly openBulk: ((signal: AbortSignal) => Promise<TlsConnection>) | null;
  /** Bulk is sure to come: its lane is opened at once. */
  readonly hasBulk?: boolean;
  readonly timers: Timers;
  readonly handshake_ms: number;
  /** Pending no more: approved or closed. */
  readonly onSettled?: () => void;
  readonly onClosed?: () => void;
  /** Nothing of it is open any more. */
  readonly onGone?: () => void;
}

const SOURCES = { urgent: 0, bulk: 1 } as const satisfies Record<LaneName, number>;

export class TcpSession implements Session, LaneOwner {
  readonly transport = 'tcp' as const;
  readonly side: 'dialer' | 'acceptor';
  readonly remote: string;
  readonly local: string;
  readonly peerChain: readonly Uint8Array[];
  readonly datagramBytesMax = 0;
  readonly lead_ms = limits.pace_lead_ms;
  readonly #setup: TcpSessionSetup;
  readonly #urgent: Lane;
  readonly #bulk: Lane;
  readonly #waiters: Record<LaneName, Waiters> = {
    urgent: new Waiters(limits.tcp_urgent_unsent_bytes_max),
    bulk: new Waiters(limits.tcp_bulk_unsent_bytes_max),
  };
  readonly #pauses: PauseWatch;
  readonly #abort = new AbortController();
  readonly #ended = new Set<LaneName>();
  #cancelTimer: () => void;
  #handler: SessionHandler | null = null;
  #bulkAsked = false;
  #finishing = false;
  #lanesToEnd = 0;
  #closed = false;
  #seen: TcpView | null = null;
  #heard_ms: number;

  constructor(setup: TcpSessionSetup) {
    this.#setup = setup;
    this.side = setup.side;
    this.remote = setup.remote;
    this.local = setup.local;
    this.peerChain = setup.peerChain;
    this.#heard_ms = setup.timers.clock.now();
    this.#pauses = new PauseWatch(this.#heard_ms);
    this.#urgent = new Lane('urgent', this, this.#waiters.urgent.mark_bytes);
    this.#bulk = new Lane('bulk', this, this.#waiters.bulk.mark_bytes);
    this.#cancelTimer = setup.timers.after(setup.handshake_ms, () => this.close('handshake_timeout', `not approved within ${setup.handshake_ms} ms`));
    this.#urgent.attach(setup.urgent, this.remote);
  }

  get isClosed(): boolean {
    return this.#closed;
  }

  approve(handler: SessionHandler): void {
    if (this.#closed || this.#handler !== null) throw new SelvedgeError('handle_closed', { what: `session with ${this.remote}` });
    this.#cancelTimer();
    this.#handler = handler;
    this.#urgent.read();
    this.#bulk.read();
    if (this.#setup.hasBulk) this.#askForBulk();
    this.#setup.onSettled?.();
  }

  ready(lane: LaneName): boolean {
    if (!this.#writing) return false;
    const waiters = this.#waiters[lane];
    if (waiters.isFull) return false;
    if (this.#lane(lane).isBelow(waiters.bytes_max)) return true;
    waiters.fill(null);
    return false;
  }

  write(flow: number, lane: LaneName, _priority: number, head: Uint8Array, body: Uint8Array | null): boolean {
    if (!this.#writing) return false;
    if (lane === 'bulk' && !this.#bulkAsked) this.#askForBulk();
    const known = this.#lane(lane);
    const waiters = this.#waiters[lane];
    if (lane === 'bulk' && this.#pauses.wrote(this.#setup.timers.clock.now(), head.length + (body?.length ?? 0))) known.restart();
    known.write(head, body);
    if (!waiters.isFull && known.isBelow(waiters.bytes_max)) return true;
    waiters.fill(flow);
    return false;
  }

  endFlow(flow: number): void {
    this.#waiters.urgent.forget(flow);
    this.#waiters.bulk.forget(flow);
  }

  datagram(): boolean {
    return false;
  }

  get silent_ms(): number {
    return this.#setup.timers.clock.now() - this.#heard_ms;
  }

  facts(): PathFacts {
    return {
      rtt_ms: null,
      rtt_min_ms: null,
      loss_part: null,
      mtu_bytes: null,
      in_flight_bytes: null,
      acked_bytes: null,
      unsent_bytes: this.#urgent.unsent_bytes + this.#bulk.unsent_bytes,
      congestion_window_bytes: null,
      sent_bytes: this.#urgent.sent_bytes + this.#bulk.sent_bytes,
      received_bytes: this.#urgent.received_bytes + this.#bulk.received_bytes,
      silent_ms: this.silent_ms,
    };
  }

  /** The kernel's view of the bulk lane: its acknowledgements come by the packet, and wait for no event loop. */
  sample(): PathSample | null {
    const view = this.#closed ? null : this.#bulk.look();
    if (view === null) return null;
    const before = this.#seen ?? view;
    this.#seen = view;
    const acked_bytes = view.acked_bytes - before.acked_bytes;
    const rtt_ms = acked_bytes > 0 ? view.rtt_ms : null;
    return {
      rtt_min_ms: rtt_ms,
      rtt_latest_ms: rtt_ms,
      acked_bytes,
      lost_bytes: view.retransmitted_bytes - before.retransmitted_bytes,
      sent_bytes: view.sent_bytes - before.sent_bytes,
      held_back_bytes: view.unsent_bytes + this.#bulk.unsent_bytes,
    };
  }

  govern(law: PathLaw | null): void {
    this.#bulk.pace(law?.rate_bytes_per_s ?? null);
  }

  finish(): void {
    if (!this.#writing) return;
    this.#finishing = true;
    this.#urgent.control(RecordKind.finish, Uint8Array.of(this.#bulkAsked ? 2 : 1));
    if (this.#bulkAsked) this.#bulk.control(RecordKind.finish, new Uint8Array(0));
  }

  close(code: ErrorCode, reason: string): void {
    this.#end(closeError(code, reason, this.remote), encodeClose(code, reason));
  }

  /** The acceptor's second connection. False if there is one already, or the session is gone. */
  adoptBulk(connection: TlsConnection): boolean {
    if (this.#closed || this.#bulk.isAttached) return false;
    this.#bulkAsked = true;
    this.#bulk.attach(connection, this.remote);
    if (this.#handler !== null) this.#bulk.read();
    return true;
  }

  get keepsNothing(): boolean {
    return this.#handler?.keepsNothing === true;
  }

  laneData(lane: Lane, bytes: Uint8Array): void {
    if (this.#ended.has(lane.name)) {
      this.#refuse('frames after the end of their lane');
      return;
    }
    this.#heard_ms = this.#setup.timers.clock.now();
    this.#handler?.data(SOURCES[lane.name], bytes);
  }

  laneRecord(lane: Lane, kind: number, payload: Uint8Array): void {
    this.#heard_ms = this.#setup.timers.clock.now();
    if (kind === RecordKind.close) this.#hangUp(decodeClose(payload, this.remote));
    else if (kind === RecordKind.want_bulk && this.side === 'dialer' && payload.length === 0) this.#askForBulk();
    else if (kind === RecordKind.finish && payload.length === (lane === this.#urgent ? 1 : 0) && !this.#ended.has(lane.name)) this.#laneFinished(lane, payload);
    else this.#refuse(`lane record of kind ${kind}, ${payload.length} octets`);
  }

  laneDrained(lane: Lane): void {
    const flows = this.#waiters[lane.name].drain();
    if (flows === null) return;
    for (const flow of flows) {
      if (this.#writing) this.#handler?.writable(flow);
    }
    if (this.ready(lane.name)) this.#handler?.ready(lane.name);
  }

  laneDead(_lane: Lane, error: SelvedgeError): void {
    this.#end(error, null);
  }

  get #writing(): boolean {
    return this.#handler !== null && !this.#closed && !this.#finishing;
  }

  #lane(name: LaneName): Lane {
    return name === 'bulk' ? this.#bulk : this.#urgent;
  }

  #askForBulk(): void {
    if (this.#bulkAsked || this.#closed) return;
    this.#bulkAsked = true;
    const { openBulk } = this.#setup;
    if (openBulk === null) {
      this.#urgent.control(RecordKind.want_bulk, new Uint8Array(0));
      return;
    }
    openBulk(this.#abort.signal).then(
      (connection) => {
        if (this.#closed) connection.destroy();
        else {
          this.#bulk.attach(connection, this.remote);
          this.#bulk.read();
        }
      },
      (error: unknown) => this.#end(tcpError(error, this.remote), null),
    );
  }

  #laneFinished(lane: Lane, payload: Uint8Array): void {
    if (lane === this.#urgent) this.#lanesToEnd = payload[0] === 2 ? 2 : 1;
    this.#ended.add(lane.name);
    this.#handler?.sourceEnd(SOURCES[lane.name]);
    if (this.#ended.size === this.#lanesToEnd && !this.#closed) this.#handler?.finished();
  }

  /** The peer has said its last words and listens no more: there is nothing left to say goodbye to. */
  #hangUp(error: SelvedgeError): void {
    this.#urgent.destroy();
    this.#bulk.destroy();
    this.#end(error, null);
  }

  #refuse(why: string): void {
    this.close('frame_invalid', why);
  }

  /** The one way to the end. `lastWords` go out on both lanes: whichever arrives first, the peer learns why. */
  #end(error: SelvedgeError, lastWords: Uint8Array | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#cancelTimer();
    this.#abort.abort(error);
    this.#waiters.urgent.clear();
    this.#waiters.bulk.clear();
    this.#urgent.end(lastWords);
    this.#bulk.end(lastWords);
    this.#linger();
    const handler = this.#handler;
    process.nextTick(() => {
      handler?.closed(error);
      if (handler === null) this.#setup.onSettled?.();
      this.#setup.onClosed?.();
    });
  }

  /** Last words need a moment; a peer that takes none is not waited for. */
  #linger(): void {
    const lanes = [this.#urgent, this.#bulk].filter((lane) => lane.isOpen);
    if (lanes.length === 0) {
      this.#setup.onGone?.();
      return;
    }
    const cancel = this.#setup.timers.after(limits.session_linger_ms_max, () => {
      for (const lane of lanes) lane.destroy();
    });
    let open = lanes.length;
    for (const lane of lanes) {
      lane.onceClosed(() => {
        if (--open > 0) return;
        cancel();
        this.#setup.onGone?.();
      });
    }
  }
}
