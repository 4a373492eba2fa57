/**
 * A session of one or two TLS connections: *urgent*, always there, and *bulk*, which the dialer opens when either end first writes to
 * it, so that an idle channel costs one connection and one handshake. Each is one source: urgent 0, bulk 1. If either dies, the session does.
 */
import type { TLSSocket } from 'node:tls';
import { type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { Backlog } from './backlog.ts';
import { closeError, decodeClose, encodeClose } from './reason.ts';
import type { TcpView } from '../native.ts';
import type { LaneName, PathFacts, PathLaw, PathSample, Session, SessionHandler } from './session.ts';
import type { Timers } from './system.ts';
import { Lane, type LaneOwner, RecordKind } from './tcp-lane.ts';
import { localOf, remoteOf, tcpError } from './tcp-tls.ts';

export interface TcpSessionSetup {
  readonly side: 'dialer' | 'acceptor';
  readonly urgent: TLSSocket;
  readonly peerChain: readonly Uint8Array[];
  /** The dialer's way to the second connection; null at the acceptor, which waits for it. */
  readonly openBulk: ((signal: AbortSignal) => Promise<TLSSocket>) | null;
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
  readonly #backlogs: Record<LaneName, Backlog> = {
    urgent: new Backlog(limits.tcp_urgent_unsent_bytes_max),
    bulk: new Backlog(limits.tcp_bulk_unsent_bytes_max),
  };
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
    this.remote = remoteOf(setup.urgent);
    this.local = localOf(setup.urgent);
    this.peerChain = setup.peerChain;
    this.#heard_ms = setup.timers.clock.now();
    this.#urgent = new Lane('urgent', this);
    this.#bulk = new Lane('bulk', this);
    this.#cancelTimer = setup.timers.after(setup.handshake_ms, () => this.close('handshake_timeout', `not approved within ${setup.handshake_ms} ms`));
    this.#urgent.attach(setup.urgent);
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
    this.#setup.onSettled?.();
  }

  ready(lane: LaneName): boolean {
    return this.#writing && this.#backlogs[lane].ready;
  }

  write(flow: number, lane: LaneName, _priority: number, head: Uint8Array, body: Uint8Array | null): boolean {
    if (!this.#writing) return false;
    if (lane === 'bulk' && !this.#bulkAsked) this.#askForBulk();
    (lane === 'bulk' ? this.#bulk : this.#urgent).write(head, body);
    return this.#backlogs[lane].add(flow, head.length + (body?.length ?? 0));
  }

  endFlow(flow: number): void {
    this.#backlogs.urgent.forget(flow);
    this.#backlogs.bulk.forget(flow);
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
      unsent_bytes: this.#backlogs.urgent.bytes + this.#backlogs.bulk.bytes,
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
      held_back_bytes: view.unsent_bytes + this.#backlogs.bulk.bytes,
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
  adoptBulk(socket: TLSSocket): boolean {
    if (this.#closed || this.#bulk.isAttached) return false;
    this.#bulkAsked = true;
    this.#bulk.attach(socket);
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

  laneSent(lane: Lane, bytes: number): void {
    const flows = this.#backlogs[lane.name].remove(bytes);
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

  #askForBulk(): void {
    if (this.#bulkAsked || this.#closed) return;
    this.#bulkAsked = true;
    const { openBulk } = this.#setup;
    if (openBulk === null) {
      this.#urgent.control(RecordKind.want_bulk, new Uint8Array(0));
      return;
    }
    openBulk(this.#abort.signal).then(
      (socket) => {
        if (this.#closed) socket.destroy();
        else {
          this.#bulk.attach(socket);
          this.#bulk.read();
        }
      },
      (error: unknown) => this.#end(tcpError(error, this.remote, false), null),
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
    this.#backlogs.urgent.clear();
    this.#backlogs.bulk.clear();
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
    const sockets = [this.#urgent, this.#bulk].filter((lane) => lane.isOpen);
    if (sockets.length === 0) {
      this.#setup.onGone?.();
      return;
    }
    const cancel = this.#setup.timers.after(limits.session_linger_ms_max, () => {
      for (const lane of sockets) lane.destroy();
    });
    let open = sockets.length;
    for (const lane of sockets) {
      lane.onceClosed(() => {
        if (--open > 0) return;
        cancel();
        this.#setup.onGone?.();
      });
    }
  }
}
