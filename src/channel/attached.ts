/**
 * What the channel knows of one session that carries it: the decoders of its sources, its readiness, its liveness and its governors' ends.
 * A channel has one *current* session, on which it sends; others are draining towards their end and only receive.
 */
import type { Random } from '../base/seam.ts';
import { limits } from '../base/limits.ts';
import { FrameDecoder } from './frame-decoder.ts';
import type { FrameSink } from './frames.ts';
import { type BulkReport, GovernorReceiver } from './governor.ts';
import { Liveness } from './liveness.ts';

export type Lane = 'urgent' | 'bulk';

/** How a session wants its frames: a stream for each flow (QUIC), or two lanes for all (TCP). */
export interface SessionShape {
  readonly transport: string;
  /** Largest payload of one frame. */
  readonly chunkBytesMax: number;
  /** That of bulk flows while no governor paces them, if it is another: they have a lane of their own, and the fewer frames the less work. */
  readonly bulkChunkBytesMax?: number;
  /** It shows that the peer lives as soon as anything reaches that, whatever the program there does (QUIC acknowledges packets). */
  readonly isAnswered?: boolean;
  /** For how long bulk may be handed over ahead of its turn, since the session paces it by itself. */
  readonly lead_ms?: number;
}

export class Attached {
  readonly key: number;
  readonly shape: SessionShape;
  readonly liveness: Liveness;
  readonly reports = new GovernorReceiver();
  readonly ready: Record<Lane, boolean> = { urgent: true, bulk: true };
  /** Flows whose own pipe is full. */
  readonly blocked = new Set<number>();
  /** Parts of a resume frame, encoded, that leave one after another. */
  readonly resumeParts: Uint8Array[] = [];
  /** The peer has to be told where its flows go on. */
  owesResume = false;
  /** One that waits: a newer one takes its place. */
  heartbeat: Uint8Array | null = null;
  /** Until the peer has said where flows resume, none of their octets leave. */
  awaitsResume: boolean;
  resumed = new Set<number>();
  echo: { sequence: number; stamp_us: number; at: number } | null = null;
  bulkSent = 0;
  readonly #sink: FrameSink;
  readonly #decoders = new Map<number, FrameDecoder>();

  constructor(key: number, shape: SessionShape, sink: FrameSink, random: Random, now: number, awaitsResume: boolean) {
    this.key = key;
    this.shape = shape;
    this.#sink = sink;
    this.awaitsResume = awaitsResume;
    this.liveness = new Liveness(random, now, shape.isAnswered);
  }

  decoder(source: number): FrameDecoder {
    let decoder = this.#decoders.get(source);
    if (!decoder) {
      decoder = new FrameDecoder(this.#sink);
      this.#decoders.set(source, decoder);
    }
    return decoder;
  }

  /** True if the source ended in the middle of a frame: octets are missing. */
  endSource(source: number): boolean {
    const decoder = this.#decoders.get(source);
    this.#decoders.delete(source);
    return decoder?.isMidFrame ?? false;
  }

  get sourceCount(): number {
    return this.#decoders.size;
  }

  get hasTooManySources(): boolean {
    return this.#decoders.size > limits.quic_streams_per_session_max;
  }

  pollReport(now: number): BulkReport | null {
    return this.reports.pollReport(now);
  }
}
