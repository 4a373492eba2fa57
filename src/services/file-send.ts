/**
 * Sending a file: over as many flows as it takes. A flow survives the loss of its session by itself; when a whole channel is gone (the
 * other end restarted, a long outage) this opens another flow as soon as there is a channel, and goes on where the receiver's disk is.
 */
import { type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { TrafficClass } from '../channel/classes.ts';
import type { Timers } from '../transport/system.ts';
import { FileSource } from './file-source.ts';
import { type Answer, type Done, encodeWord, errorOf, FILES_SERVICE, FILES_VERSION, WordReader, words } from './file-wire.ts';
import type { FlowHandle, ServiceMesh } from './mesh.ts';

export interface SendOptions {
  /** Id or name. */
  readonly node: string;
  readonly path: string;
  /** `file_transfer` unless told. */
  readonly class?: TrafficClass;
  /** How long to wait without any progress before giving up; 5 minutes unless told. */
  readonly patience_ms?: number;
  readonly signal?: AbortSignal;
  /** Called a few times a second while there is a transfer, also when nothing moves. */
  readonly onProgress?: (progress: SendProgress) => void;
}

export interface SendProgress {
  /** Octets of the file that the receiver has consumed. */
  readonly bytes: number;
  readonly total: number;
  /** Over the last seconds. */
  readonly rate_mbit: number;
  /** Null while there is no channel. */
  readonly transport: string | null;
  /** At this rate; null when it stands still. */
  readonly left_s: number | null;
  /** Milliseconds since the epoch. */
  readonly at_ms: number;
}

export interface SendResult {
  readonly sha256: string;
  /** What the receiver calls it. */
  readonly name: string;
  readonly bytes: number;
  /** Octets that this run had to send; less than `bytes` when an earlier run had begun. */
  readonly sent_bytes: number;
  readonly seconds: number;
  readonly mbit: number;
}

const PROGRESS_MS = 200;
const RETRY_MS_BASE = 100;
const RETRY_MS_MAX = 2_000;
/** Time over which the shown rate is taken. */
const RATE_WINDOW_MS = 3_000;

/** Causes that pass by themselves: the same transfer is tried again. */
const passing = new Set<ErrorCode>([
  'not_connected',
  'flow_lost',
  'flow_reset',
  'channel_closed',
  'channel_unknown',
  'session_closed',
  'handshake_timeout',
  'heartbeat_timeout',
  'network_unreachable',
  'backoff_exhausted',
  'shutting_down',
  'timeout',
]);

/** @throws not_found, permission_denied, file_changed, digest_mismatch, disk_full, flow_refused, or what kept it from going on for `patience_ms` */
export async function sendFile(mesh: ServiceMesh, timers: Timers, options: SendOptions): Promise<SendResult> {
  const source = await FileSource.open(options.path);
  const sending = new Sending(mesh, timers, options, source);
  try {
    return await sending.run();
  } finally {
    sending.close();
    await source.close();
  }
}

class Sending {
  readonly #mesh: ServiceMesh;
  readonly #timers: Timers;
  readonly #options: SendOptions;
  readonly #source: FileSource;
  readonly #started_ms: number;
  readonly #rate: { at_ms: number; bytes: number }[] = [];
  /** Where the receiver stood when the first flow began. */
  #resumedAt: number | null = null;
  /** The flow of this attempt: octets that it carries before the content, and where in the file that starts. */
  #flow: { readonly handle: FlowHandle; readonly start: number; readonly overhead: number } | null = null;
  #consumed = 0;
  #progressed_ms: number;
  #cancelTick: () => void = () => {};

  constructor(mesh: ServiceMesh, timers: Timers, options: SendOptions, source: FileSource) {
    this.#mesh = mesh;
    this.#timers = timers;
    this.#options = options;
    this.#source = source;
    this.#started_ms = timers.clock.now();
    this.#progressed_ms = this.#started_ms;
  }

  async run(): Promise<SendResult> {
    this.#tick();
    const patience_ms = this.#options.patience_ms ?? limits.transfer_patience_ms;
    for (let failures = 0; ; failures++) {
      const before = this.#progressed_ms;
      try {
        return this.#result(await this.#attempt());
      } catch (error) {
        this.#checkAborted();
        if (!(error instanceof SelvedgeError) || !passing.has(error.code)) throw error;
        if (this.#timers.clock.now() - this.#progressed_ms >= patience_ms) throw error;
      }
      if (this.#progressed_ms > before) failures = 0;
      await this.#pause(Math.min(RETRY_MS_MAX, RETRY_MS_BASE * 2 ** Math.min(failures, 10)));
    }
  }

  close(): void {
    this.#cancelTick();
  }

  async #attempt(): Promise<Done> {
    const { node } = this.#options;
    const { transfer, name, size } = this.#source;
    const flow = this.#mesh.open(node, this.#options.class ?? 'file_transfer', 'stream', FILES_SERVICE);
    const abort = () => flow.reset('shutting_down', 'the sender was interrupted');
    this.#options.signal?.addEventListener('abort', abort, { once: true });
    try {
      this.#checkAborted();
      const reader = new WordReader(flow);
      const header = encodeWord({ v: FILES_VERSION, transfer, name, size, again: this.#resumedAt !== null });
      flow.write(header);
      const answer = await reader.word(words.answer);
      if ('error' in answer) throw errorOf(answer);
      if ('done' in answer) return answer;
      if (answer.have > size) throw new SelvedgeError('flow_violation', { why: `the receiver has ${answer.have} bytes of ${size}` });
      this.#resumedAt ??= answer.have;
      this.#flow = { handle: flow, start: answer.have, overhead: header.length };
      return await this.#stream(flow, reader, answer.have);
    } finally {
      this.#options.signal?.removeEventListener('abort', abort);
      this.#observe();
      this.#flow = null;
      flow.reset('flow_reset', 'the sender is done with this flow');
    }
  }

  async #stream(flow: FlowHandle, reader: WordReader, start: number): Promise<Done> {
    // The receiver may refuse in mid-stream; its word ends the flow, which wakes a writer that waits.
    let early: Answer | null = null;
    let isWritten = false;
    const answered = reader.word(words.answer).then((answer) => {
      early = answer;
      if (!isWritten) flow.reset('flow_reset', 'answered before the end');
      return answer;
    });
    answered.catch(() => undefined);
    try {
      await this.#write(flow, start);
      isWritten = true;
    } catch (error) {
      if (early === null) throw error;
    }
    const answer = await answered;
    if ('error' in answer) throw errorOf(answer);
    if (!('done' in answer)) throw new SelvedgeError('flow_violation', { why: 'the receiver started over' });
    const digest = await this.#source.digest();
    if (answer.sha256 !== digest) throw new SelvedgeError('digest_mismatch', { what: this.#source.path, found: answer.sha256, expected: digest });
    return answer;
  }

  /** One piece is read from disk while the one before it waits for room. */
  async #write(flow: FlowHandle, start: number): Promise<void> {
    const source = this.#source;
    await source.skipTo(start);
    let position = start;
    let next = source.read(position);
    for (let piece = await next; piece.length > 0; piece = await next) {
      position += piece.length;
      next = source.read(position);
      next.catch(() => undefined);
      if (!flow.write(piece)) await flow.drained();
    }
    flow.write(encodeWord({ sha256: await source.digest() }));
    flow.end();
  }

  /** What the receiver has consumed of the file by now. */
  #observe(): number {
    if (this.#flow !== null) {
      const { handle, start, overhead } = this.#flow;
      const consumed = Math.min(this.#source.size, start + Math.max(0, handle.acknowledged - overhead));
      if (consumed > this.#consumed) this.#progressed_ms = this.#timers.clock.now();
      this.#consumed = consumed;
    }
    return this.#consumed;
  }

  #tick(): void {
    const now = this.#timers.clock.now();
    const bytes = this.#observe();
    const { onProgress, node } = this.#options;
    const [oldest] = this.#rate;
    const passed_ms = oldest === undefined ? 0 : now - oldest.at_ms;
    const perMs = oldest === undefined || passed_ms <= 0 ? 0 : Math.max(0, bytes - oldest.bytes) / passed_ms;
    this.#rate.push({ at_ms: now, bytes });
    while (this.#rate.length > RATE_WINDOW_MS / PROGRESS_MS) this.#rate.shift();
    onProgress?.({
      bytes,
      total: this.#source.size,
      rate_mbit: (perMs * 8) / 1_000,
      transport: this.#mesh.status().find((channel) => channel.peer === node || channel.name === node)?.transport ?? null,
      left_s: perMs > 0 ? (this.#source.size - bytes) / perMs / 1_000 : null,
      at_ms: this.#timers.clock.wall(),
    });
    this.#cancelTick = this.#timers.after(PROGRESS_MS, () => this.#tick());
  }

  async #pause(ms: number): Promise<void> {
    const { signal } = this.#options;
    await new Promise<void>((resolve) => {
      const wake = () => {
        cancel();
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const cancel = this.#timers.after(ms, wake);
      signal?.addEventListener('abort', wake, { once: true });
    });
    this.#checkAborted();
  }

  #checkAborted(): void {
    if (this.#options.signal?.aborted) throw new SelvedgeError('shutting_down', { why: 'interrupted' });
  }

  #result(done: Done): SendResult {
    const seconds = (this.#timers.clock.now() - this.#started_ms) / 1_000;
    const bytes = this.#source.size;
    const sent_bytes = bytes - (this.#resumedAt ?? bytes);
    return { sha256: done.sha256, name: done.name, bytes, sent_bytes, seconds, mbit: seconds > 0 ? (sent_bytes * 8) / 1e6 / seconds : 0 };
  }
}
