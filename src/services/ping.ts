/**
 * Round trips of messages through the echo service of a node: in the class that the user asks about, one every `interval_ms`
 * whatever the answers do, so that a stall shows as late answers and not as fewer questions.
 */
import { ByteReader, ByteWriter } from '../base/bytes.ts';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { classAllowsKind, classRow, type FlowKind, type TrafficClass } from '../channel/classes.ts';
import type { Timers } from '../transport/system.ts';
import { ECHO_SERVICE } from './echo.ts';
import type { FlowHandle, ServiceMesh } from './mesh.ts';
import { percentile } from './percentile.ts';

export interface PingOptions {
  readonly node: string;
  readonly class: TrafficClass;
  /** Null: until `signal` says so. */
  readonly count: number | null;
  readonly interval_ms: number;
  /** Octets of each message. */
  readonly size_bytes: number;
  /** How long an answer is waited for after the last question. */
  readonly wait_ms?: number;
  readonly signal?: AbortSignal;
  readonly onSample?: (sample: PingSample) => void;
}

export interface PingSample {
  readonly sequence: number;
  readonly rtt_ms: number;
  /** When the answer came, milliseconds since the epoch. */
  readonly at_ms: number;
}

export interface PingSummary {
  readonly sent: number;
  readonly received: number;
  readonly samples_ms: readonly number[];
  readonly min_ms: number | null;
  readonly p50_ms: number | null;
  readonly p99_ms: number | null;
  readonly max_ms: number | null;
}

/** A message starts with its sequence number (u32) and when it was sent (f64). */
const PING_BYTES_MIN = 12;
const WAIT_MS = 5_000;

/** @throws why the flow could not be opened or ended early: not_connected, channel_class_denied, flow_lost …; timeout if nothing at all came back */
export async function ping(mesh: ServiceMesh, timers: Timers, options: PingOptions): Promise<PingSummary> {
  const size = Math.min(Math.max(options.size_bytes, PING_BYTES_MIN), limits.message_bytes_max);
  const flow = mesh.open(options.node, options.class, kindFor(options.class), ECHO_SERVICE);
  const run = new PingRun(flow, timers, options, size);
  try {
    return await run.finished();
  } finally {
    run.close();
  }
}

/** Messages where the class has them; else what it has (vpn_packet: datagrams). */
function kindFor(cls: TrafficClass): FlowKind {
  if (classAllowsKind(cls, 'messages')) return 'messages';
  const [kind] = classRow(cls).kinds;
  if (kind === undefined) throw new SelvedgeError('argument_invalid', { name: 'class', why: `${cls} has no kind of flow that an echo fits` });
  return kind;
}

class PingRun {
  readonly #flow: FlowHandle;
  readonly #timers: Timers;
  readonly #options: PingOptions;
  readonly #padding: Uint8Array;
  readonly #started_ms: number;
  readonly #samples: number[] = [];
  #sent = 0;
  #received = 0;
  #cancelTimer: () => void = () => {};
  #settle: { resolve: (summary: PingSummary) => void; reject: (error: unknown) => void } | null = null;

  constructor(flow: FlowHandle, timers: Timers, options: PingOptions, size: number) {
    this.#flow = flow;
    this.#timers = timers;
    this.#options = options;
    this.#padding = new Uint8Array(size - PING_BYTES_MIN);
    this.#started_ms = timers.clock.now();
  }

  finished(): Promise<PingSummary> {
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#options.signal?.addEventListener('abort', this.#stop, { once: true });
      this.#listen().catch((error: unknown) => this.#fail(error));
      this.#next();
    });
  }

  close(): void {
    this.#settle = null;
    this.#cancelTimer();
    this.#options.signal?.removeEventListener('abort', this.#stop);
    this.#flow.reset('flow_reset', 'ping is over');
  }

  readonly #stop = (): void => this.#settle?.resolve(this.#summary());

  #fail(error: unknown): void {
    this.#settle?.reject(asSelvedgeError(error, 'flow_lost'));
  }

  /** Sends what is due, and wakes up for the next: question k is due k intervals after the start. */
  #next(): void {
    if (this.#settle === null) return;
    const { count, interval_ms } = this.#options;
    try {
      const now = this.#timers.clock.now();
      if (count !== null && this.#sent >= count) {
        this.#cancelTimer = this.#timers.after(this.#options.wait_ms ?? WAIT_MS, () => this.#giveUp());
        return;
      }
      const writer = new ByteWriter(PING_BYTES_MIN + this.#padding.length);
      this.#flow.send(writer.u32(this.#sent).f64(now).raw(this.#padding).finish());
      this.#sent++;
      const due = this.#started_ms + this.#sent * interval_ms;
      this.#cancelTimer = this.#timers.after(Math.max(0, due - now), () => this.#next());
    } catch (error) {
      this.#fail(error);
    }
  }

  #giveUp(): void {
    const ms = this.#options.wait_ms ?? WAIT_MS;
    if (this.#received === 0) this.#fail(new SelvedgeError('timeout', { what: 'an answer to ping', ms }));
    else this.#stop();
  }

  async #listen(): Promise<void> {
    for (let message = await this.#flow.receive(); message !== null; message = await this.#flow.receive()) {
      const now = this.#timers.clock.now();
      const reader = new ByteReader(message);
      const sequence = reader.u32();
      const rtt_ms = now - reader.f64();
      this.#received++;
      // Endless runs hand each sample on and keep none.
      if (this.#options.count !== null) this.#samples.push(rtt_ms);
      this.#options.onSample?.({ sequence, rtt_ms, at_ms: this.#timers.clock.wall() });
      if (this.#options.count !== null && this.#received >= this.#options.count) return this.#stop();
    }
    const error = await this.#flow.closed;
    this.#fail(error ?? new SelvedgeError('flow_lost', { why: 'the peer ended the echo' }));
  }

  #summary(): PingSummary {
    const samples = this.#samples;
    return {
      sent: this.#sent,
      received: this.#received,
      samples_ms: samples,
      min_ms: percentile(samples, 0),
      p50_ms: percentile(samples, 0.5),
      p99_ms: percentile(samples, 0.99),
      max_ms: percentile(samples, 1),
    };
  }
}
