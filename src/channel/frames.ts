/**
 * The wire's frames (docs/wire-format.md): a type, a length, a body. What they are called here and what they hold; `frame-encoder.ts` writes them, `frame-decoder.ts` reads them.
 */
import type { ErrorCode } from '../base/errors.ts';
import type { FlowKind, TrafficClass } from './classes.ts';

/** One octet each; 2 and 13 are kept for later. 0 and 1 are the hello's (hello.ts). Types from 64 on are skipped by whoever does not know them; below, they are an error. */
export const frameTypes = {
  hello: 0,
  accept: 1,
  open: 3,
  data: 4,
  ack: 5,
  reset: 6,
  resume: 7,
  heartbeat: 8,
  echo: 9,
  report: 10,
  latest: 11,
  datagram: 12,
  drain: 64,
} as const;

export interface DataHead {
  readonly flow: number;
  readonly offset: number;
  readonly fin: boolean;
  /** The sender's clock in microseconds, modulo 2^32; null when it is not governed. */
  readonly stamp_us: number | null;
}

export interface OpenFrame {
  readonly flow: number;
  readonly class: TrafficClass;
  readonly kind: FlowKind;
  readonly service: string;
}

export interface AckFrame {
  readonly flow: number;
  /** All octets before this offset were consumed: they are never needed again. */
  readonly consumed: number;
  /** Octets may be sent up to this offset. */
  readonly limit: number;
}

/** What an end knows of a flow when a session was replaced: `live` with the next offset it needs, or how the flow ended. */
export interface ResumeEntry {
  readonly flow: number;
  readonly status: 'live' | 'done' | 'reset';
  readonly received: number;
}

export interface HeartbeatFrame {
  readonly channel: Uint8Array;
  readonly from: string;
  readonly to: string;
  readonly sequence: number;
  /** The sender's clock, microseconds modulo 2^32. */
  readonly stamp_us: number;
  readonly latency_us: number;
  readonly jitter_us: number;
  readonly loss_ppm: number;
  /** 0 well, 1 strained, 2 failing. */
  readonly health: number;
  readonly draining: boolean;
  readonly configVersion: number;
  readonly routeEpoch: number;
}

/** This end drains, or no longer: docs/wire-format.md, Draining. */
export interface DrainFrame {
  readonly draining: boolean;
  /** Until what is left may be ended. */
  readonly left_ms: number;
}

/** The governor's acknowledgement (governor.ts): all u32 are microseconds or octets modulo 2^32 unless said otherwise. */
export interface ReportFrame {
  /** Octets of stamped frames received in all on this session. */
  readonly bytes: number;
  readonly clock_us: number;
  readonly owd_min_us: number;
  readonly stamp_us: number;
  readonly held_us: number;
}

export interface LatestHead {
  readonly flow: number;
  readonly sequence: number;
  readonly total: number;
  readonly offset: number;
}

export type ControlFrame =
  | ({ readonly type: 'open' } & OpenFrame)
  | ({ readonly type: 'ack' } & AckFrame)
  | { readonly type: 'reset'; readonly flow: number; readonly code: ErrorCode; readonly reason: string }
  | { readonly type: 'resume'; readonly more: boolean; readonly entries: readonly ResumeEntry[] }
  | ({ readonly type: 'heartbeat' } & HeartbeatFrame)
  | ({ readonly type: 'drain' } & DrainFrame)
  | { readonly type: 'echo'; readonly sequence: number; readonly stamp_us: number; readonly held_us: number }
  | ({ readonly type: 'report' } & ReportFrame);

/** Where a decoder delivers. Payloads are views into what was pushed, and as good for as long as that is. */
export interface FrameSink {
  /** A piece of a data frame, at its own offset; `last` with the frame's last piece. A frame without payload gives one empty piece. */
  data(head: DataHead, offset: number, piece: Uint8Array, last: boolean): void;
  latest(head: LatestHead, piece: Uint8Array): void;
  datagram(flow: number, bytes: Uint8Array): void;
  hello(type: 'hello' | 'accept', body: Uint8Array): void;
  control(frame: ControlFrame): void;
}

/** Flags of a data frame. */
export const dataFlags = { fin: 1, stamped: 2 } as const;

/** How an entry of a resume frame stands on the wire: by its place. */
export const resumeStatuses = ['live', 'done', 'reset'] as const;
