/**
 * `Session`: one transport connection that carries a channel. QUIC, TCP lanes, memory (and later a relayed one) implement it;
 * `test/compliance/session.ts` is the suite that each of them passes.
 *
 * A session moves whole frames and knows nothing of their meaning. Outgoing frames of one flow stay in order; a frame is never
 * split between two calls. Incoming octets arrive by *source*: each source is one ordered pipe (a QUIC stream, a TCP lane) in
 * which frames follow each other whole. A session keeps nothing across its end: what was not consumed is sent again by the
 * channel over another session.
 *
 * Life: *pending* (handshake done, the peer's chain known, nothing read or written; it closes itself with `handshake_timeout`
 * after `limits.handshake_ms_max`) → `approve()` → *open* → `finish()` (this end writes no more) → *closed*, told once by
 * `handler.closed`. `close` ends it from anywhere. No handler method is called from inside a call on the session.
 */
import type { ErrorCode, SelvedgeError } from '../base/errors.ts';

export type TransportName = 'quic' | 'tcp' | 'memory';

/** Which of a session's two urgencies a frame leaves with. On TCP each is a connection of its own; on QUIC each flow is a stream and this only decides readiness. */
export type LaneName = 'urgent' | 'bulk';

/** Flow number of frames that belong to the session or channel as a whole. They are urgent and ordered among themselves. */
export const CONTROL_FLOW = 0;

/** What the path looks like from here; null where the transport cannot tell. Milliseconds and octets. */
export interface PathFacts {
  readonly rtt_ms: number | null;
  readonly rtt_min_ms: number | null;
  readonly loss_part: number | null;
  readonly mtu_bytes: number | null;
  readonly in_flight_bytes: number | null;
  /** Octets that the peer's stack acknowledged since the start. */
  readonly acked_bytes: number | null;
  /** Handed over with `write`, not yet acknowledged (QUIC) or not yet taken by the kernel (TCP). */
  readonly unsent_bytes: number;
  readonly congestion_window_bytes: number | null;
  readonly sent_bytes: number;
  readonly received_bytes: number;
  /** Milliseconds since anything at all was last received from the peer. */
  readonly silent_ms: number;
}

/** One look of the governor at the path, of what happened since its last look. */
export interface PathSample {
  /** Smallest and latest round trip of a packet acknowledged since the last look; null if none was. */
  readonly rtt_min_ms: number | null;
  readonly rtt_latest_ms: number | null;
  readonly acked_bytes: number;
  readonly lost_bytes: number;
  readonly sent_bytes: number;
  /** Bulk that was handed over and waits here for the pace. */
  readonly held_back_bytes: number;
}

/** What the governor imposes on a path. */
export interface PathLaw {
  readonly rate_bytes_per_s: number;
  /** Most that may be in flight (QUIC; TCP keeps its own). */
  readonly window_bytes: number;
}

export interface SessionHandler {
  /** Octets of one source, in order. The array is the receiver's to keep, unless it says that it keeps nothing. */
  data(source: number, bytes: Uint8Array): void;
  /** True: `data` copies what it needs, and the session may use the array's memory again once the call is over. */
  readonly keepsNothing?: boolean;
  /** The peer writes no more on this source; none of it was lost. */
  sourceEnd(source: number): void;
  /** `ready(lane)` has become true. */
  ready(lane: LaneName): void;
  /** `write` for this flow returned false, and may go on now. */
  writable(flow: number): void;
  datagram(bytes: Uint8Array): void;
  /** The peer has finished: every source has ended. */
  finished(): void;
  /** The end. `session_closed` after a `close('session_closed')` of either end, else what went wrong or what the peer gave as its reason. */
  closed(error: SelvedgeError): void;
}

export interface Session {
  readonly transport: TransportName;
  readonly side: 'dialer' | 'acceptor';
  /** `address:port` of the peer. */
  readonly remote: string;
  readonly local: string;
  /** DER certificates that the peer showed, leaf first; possession of the leaf's key is proved. Empty if it showed none. */
  readonly peerChain: readonly Uint8Array[];
  /** True once `closed` was or will be told. */
  readonly isClosed: boolean;

  /** The peer's chain was judged good: start to read and write. @throws handle_closed */
  approve(handler: SessionHandler): void;

  /** Whether frames of this urgency should be handed over now. */
  ready(lane: LaneName): boolean;

  /**
   * Takes one whole frame, `head` followed by `body`, always all of it; `body` must not be changed afterwards. False: let this flow wait for
   * `writable(flow)`. Frames of one flow must always name the same lane. `priority`: larger leaves first. After the end: ignored, false.
   */
  write(flow: number, lane: LaneName, priority: number, head: Uint8Array, body: Uint8Array | null): boolean;

  /** No more frames will come for this flow; the transport may let go of what it held for it. */
  endFlow(flow: number): void;

  /** One unreliable datagram; false if it was dropped here. */
  datagram(bytes: Uint8Array): boolean;
  /** Largest datagram that passes now; 0 where there are none (TCP). */
  readonly datagramBytesMax: number;

  facts(): PathFacts;
  /** `facts().silent_ms` alone: asked for often. */
  readonly silent_ms: number;
  /** Null where there is no view of the path below (memory), or not yet (TCP before its bulk lane). Resets what it returns. */
  sample(): PathSample | null;
  /** While the governor is in charge: bulk leaves at this rate, whatever was handed over. Null hands the path back to the stack. */
  govern(law: PathLaw | null): void;
  /** For how long bulk may be handed over ahead of its turn while governed, since it is paced below; 0: it is not. Milliseconds. */
  readonly lead_ms: number;

  /** Flush, then tell the peer that nothing more comes. Reading goes on. */
  finish(): void;
  /** Ends it at once, telling the peer the code and a reason safe to log. Idempotent. */
  close(code: ErrorCode, reason: string): void;
}

/** This end's certificate: DER chain, leaf first (the root may be last), and its private key in PKCS#8 DER. */
export interface Credentials {
  readonly chain: readonly Uint8Array[];
  readonly key: Uint8Array;
}

/** Whether another chain (DER, leaf first; possession of the leaf's key is proved) is of the same peer. */
export type SamePeer = (peerChain: readonly Uint8Array[]) => Promise<boolean>;

/** Dialing: resolves to a pending session, or rejects with `tls_handshake_failed`, `network_unreachable`, `handshake_timeout`. */
export interface Transport {
  readonly name: TransportName;
  /**
   * `isSamePeer` judges a later connection of the session that shows another leaf, as that of a peer renewed in between; without it that ends the session.
   * `hasBulk`: bulk waits for this session; what its lane takes is made along with it.
   */
  dial(target: { host: string; port: number }, credentials: Credentials, signal: AbortSignal, isSamePeer?: SamePeer, hasBulk?: boolean): Promise<Session>;
}

/** Listening: hands over pending sessions until closed. */
export interface SessionListener {
  readonly name: TransportName;
  readonly address: { host: string; port: number };
  /** New sessions use these; live ones are untouched (spec 4.4). */
  setCredentials(credentials: Credentials): void;
  close(): Promise<void>;
}

/** ALPN of fabric sessions. */
export const FABRIC_ALPN = 'selvedge/1';
/** ALPN of HTTP/1.1 whose client knows the server by the cluster's root: it is shown the cluster's certificate, whatever others are shown. */
export const CLUSTER_HTTP_ALPN = 'selvedge-http/1';
