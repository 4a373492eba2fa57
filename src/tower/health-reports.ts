/**
 * What nodes say of themselves: the latest report of each, taken from flows of service `report` (class `health`, kind `messages`). Kept in memory alone, bounded, for
 * operators; no tenant is shown any of it. A node speaks for itself only: whose a report is, its channel says.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { RateLimit } from '../api/rate-limit.ts';
import { readJson } from '../enroll/wire.ts';
import { checkReport, REPORT_SERVICE, type Report } from '../observe/report.ts';
import type { FlowHandle, Mesh } from '../peering/mesh.ts';
import type { Timers } from '../transport/system.ts';

export interface Health extends Report {
  /** When it came, by the tower's clock. */
  readonly at_ms: number;
}

export class HealthReports {
  readonly #timers: Timers;
  readonly #rate: RateLimit;
  readonly #latest = new Map<string, Health>();
  readonly #flows = new Map<string, FlowHandle>();
  #isClosed = false;

  /** `onFailure` hears of what ended a flow other than the node itself. */
  constructor(mesh: Pick<Mesh, 'handle'>, timers: Timers, onFailure: (error: SelvedgeError, node: string) => void = () => undefined) {
    this.#timers = timers;
    this.#rate = new RateLimit({ clock: timers.clock, per_minute: limits.reports_per_minute_max });
    mesh.handle(REPORT_SERVICE, (flow) => {
      const objection = this.#isClosed ? new SelvedgeError('shutting_down') : objectionTo(flow);
      if (objection !== null) return flow.reset(objection.code, objection.message);
      this.#flows.get(flow.peer)?.reset('replaced', new SelvedgeError('replaced').message);
      this.#flows.set(flow.peer, flow);
      void this.#take(flow).catch((error: unknown) => {
        const failure = asSelvedgeError(error, 'request_invalid', { path: '/', why: 'health report' });
        flow.reset(failure.code, failure.message);
        onFailure(failure, flow.peer);
      });
    });
  }

  /** The latest of this node, by id; null: it has sent none since the tower started. */
  of(node: string): Health | null {
    return this.#latest.get(node) ?? null;
  }

  /** A node that is no member any more is forgotten. */
  forget(node: string): void {
    this.#latest.delete(node);
  }

  close(): void {
    this.#isClosed = true;
    for (const flow of this.#flows.values()) flow.end();
  }

  async #take(flow: FlowHandle): Promise<void> {
    try {
      for (let message = await flow.receive(); message !== null; message = await flow.receive()) {
        this.#rate.take(flow.peer);
        const report = readJson(message, limits.report_bytes_max, checkReport);
        // The oldest makes room; among nodes that are there, there is room for all.
        this.#latest.delete(flow.peer);
        const [oldest] = this.#latest.keys();
        if (this.#latest.size >= limits.tower_nodes_max && oldest !== undefined) this.#latest.delete(oldest);
        this.#latest.set(flow.peer, { ...report, at_ms: this.#timers.clock.wall() });
      }
      flow.end();
    } finally {
      if (this.#flows.get(flow.peer) === flow) this.#flows.delete(flow.peer);
    }
  }
}

function objectionTo(flow: FlowHandle): SelvedgeError | null {
  if (flow.peer === TOWER_ID) return new SelvedgeError('flow_refused', { why: 'a tower reports to no tower' });
  if (flow.class !== 'health') return new SelvedgeError('channel_class_denied', { class: flow.class, why: 'reports are health' });
  return flow.kind === 'messages' ? null : new SelvedgeError('flow_refused', { why: `reports come as messages, not ${flow.kind}` });
}
