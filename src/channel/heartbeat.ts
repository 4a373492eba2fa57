/** What a heartbeat says of an end (spec 7.1), and what is kept of the other's. It proves liveness, not authority: nothing is decided by it but draining. */
import { encodeControl } from './frame-encoder.ts';
import type { HeartbeatFrame } from './frames.ts';
import { stampOf } from './governor.ts';
import type { Liveness } from './liveness.ts';

/** Hints, the worst last. */
export const healthHints = ['well', 'strained', 'failing'] as const;
export type HealthHint = (typeof healthHints)[number];

/** What an end knows of itself beyond its channels. */
export interface EndFacts {
  readonly health: HealthHint;
  readonly configVersion: number;
  readonly routeEpoch: number;
}

export const noFacts: EndFacts = { health: 'well', configVersion: 0, routeEpoch: 0 };

/** How the other end sees the path, and itself. */
export interface PeerView extends EndFacts {
  readonly latency_ms: number;
  readonly jitter_ms: number;
  readonly loss_part: number;
}

export interface HeartbeatEnds {
  readonly channel: Uint8Array;
  readonly from: string;
  readonly to: string;
  readonly draining: boolean;
}

export function encodeHeartbeat(now: number, liveness: Liveness, { channel, from, to, draining }: HeartbeatEnds, facts: EndFacts): Uint8Array {
  return encodeControl({
    type: 'heartbeat',
    channel,
    from,
    to,
    draining,
    sequence: liveness.heartbeatSent(now),
    stamp_us: stampOf(now),
    latency_us: Math.round((liveness.rtt_ms ?? 0) * 1000),
    jitter_us: Math.round(liveness.jitter_ms * 1000),
    loss_ppm: Math.round(liveness.loss_part * 1e6),
    health: healthHints.indexOf(facts.health),
    configVersion: facts.configVersion,
    routeEpoch: facts.routeEpoch,
  });
}

/** A hint that this version does not know is the worst. */
export function viewOf(frame: HeartbeatFrame): PeerView {
  return {
    latency_ms: frame.latency_us / 1000,
    jitter_ms: frame.jitter_us / 1000,
    loss_part: frame.loss_ppm / 1e6,
    health: healthHints[frame.health] ?? 'failing',
    configVersion: frame.configVersion,
    routeEpoch: frame.routeEpoch,
  };
}
