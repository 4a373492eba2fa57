/**
 * Tells the tower how this node is: a report when its channels have changed, not more often than every few seconds, and at an interval in any case. Opened whenever
 * there is a channel to the tower; a report that could not be sent is not kept, since the next one says more.
 */
import { SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { REPORT_SERVICE, type Report } from '../observe/report.ts';
import type { FlowHandle, Mesh } from '../peering/mesh.ts';
import type { Timers } from '../transport/system.ts';

export interface ReporterOptions {
  readonly mesh: Pick<Mesh, 'open'>;
  readonly timers: Timers;
  readonly random: Random;
  readonly report: () => Report;
}

export class HealthReporter {
  readonly #options: ReporterOptions;
  #flow: FlowHandle | null = null;
  #told = '';
  #toldAt = Number.NEGATIVE_INFINITY;
  /** When the next report is due, changed or not. */
  #dueAt: number;
  #cancel: (() => void) | null = null;
  #plannedAt = Number.POSITIVE_INFINITY;
  #isClosed = false;

  constructor(options: ReporterOptions) {
    this.#options = options;
    this.#dueAt = options.timers.clock.now();
    this.#planAt(this.#dueAt);
  }

  /** Call it whenever channels have changed. */
  poke(): void {
    if (!this.#isClosed) this.#planAt(this.#toldAt + limits.report_ms_min);
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel?.();
    this.#flow?.end();
  }

  /** The earlier of this and what is planned. */
  #planAt(at: number): void {
    if (this.#cancel !== null && at >= this.#plannedAt) return;
    this.#cancel?.();
    this.#plannedAt = at;
    const { timers } = this.#options;
    this.#cancel = timers.after(Math.max(0, at - timers.clock.now()), () => {
      this.#cancel = null;
      this.#tell();
      this.#planAt(this.#dueAt);
    });
  }

  #tell(): void {
    const { timers, random, report } = this.#options;
    const now = timers.clock.now();
    const text = JSON.stringify(report());
    if (now < this.#dueAt && text === this.#told) return;
    // Spread, so that nodes that came back together do not report together.
    this.#dueAt = now + limits.report_ms * (1 - limits.report_jitter_part * random.unit());
    try {
      this.#open().send(new TextEncoder().encode(text));
      this.#told = text;
      this.#toldAt = now;
    } catch (error) {
      // Without a channel there is nobody to tell; the next change of channels tries again.
      if (!(error instanceof SelvedgeError)) throw error;
    }
  }

  #open(): FlowHandle {
    if (this.#flow !== null) return this.#flow;
    const flow = this.#options.mesh.open(TOWER_ID, 'health', 'messages', REPORT_SERVICE);
    this.#flow = flow;
    void flow.closed.then(() => {
      if (this.#flow === flow) this.#flow = null;
      this.#told = '';
    });
    return flow;
  }
}
