/**
 * How a channel goes on over another session: each end tells where each of its flows stands, those that ended lately too, and what was lost with the session before is
 * sent again, opened again, or ended (docs/wire-format.md). Made once for a channel.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Attached } from './attached.ts';
import type { Flow } from './flow.ts';
import type { FlowIds } from './flow-ids.ts';
import { encodeControl } from './frame-encoder.ts';
import type { ResumeEntry } from './frames.ts';

/** Ended flows that are remembered, for a peer that missed how they ended: as many as may end, and for as long as a peer may take to come back. */
const RECENT_FLOWS_MAX = 2 * limits.flows_per_channel_max;
const RECENT_MS_MAX = 2 * limits.carrier_ms_max;
/** Flows in one resume, over all of its frames. */
const RESUMED_FLOWS_MAX = limits.flows_per_channel_max + RECENT_FLOWS_MAX;

/** What of its channel it needs. */
export interface ResumeOwner {
  readonly flows: ReadonlyMap<number, Flow>;
  readonly ids: FlowIds;
  /** How far windows may grow. */
  readonly sendRoom: () => number;
  /** What came in of this flow is acknowledged again. */
  acknowledgeAgain(flow: Flow): void;
  endFlow(flow: Flow, error: SelvedgeError | null, status: 'done' | 'reset'): void;
  /** @throws flow_violation for a flow that never was */
  checkGiven(id: number): void;
}

export class Resuming {
  readonly #owner: ResumeOwner;
  readonly #recent = new Map<number, { readonly entry: ResumeEntry; readonly at: number }>();

  constructor(owner: ResumeOwner) {
    this.#owner = owner;
  }

  /** A flow has ended here: a peer that missed it is told how. */
  remember(now: number, { id, receive }: Flow, status: 'done' | 'reset'): void {
    this.#recent.set(id, { entry: { flow: id, status, received: receive?.received ?? 0 }, at: now });
    if (this.#recent.size > RECENT_FLOWS_MAX) this.#recent.delete(this.#recent.keys().next().value as number);
  }

  /** Frames that tell the peer, ready to leave on this session. Acknowledgements may have been lost with the one before: they are told again, too. */
  tell(now: number, attached: Attached): void {
    attached.owesResume = false;
    for (const [id, { at }] of this.#recent) if (now - at > RECENT_MS_MAX) this.#recent.delete(id);
    const entries: ResumeEntry[] = Array.from(this.#recent.values(), ({ entry }) => entry);
    for (const flow of this.#owner.flows.values()) {
      entries.push({ flow: flow.id, status: 'live', received: flow.receive?.received ?? 0 });
      if (flow.receive?.retell()) this.#owner.acknowledgeAgain(flow);
    }
    do {
      const part = entries.splice(0, limits.resume_flows_per_frame_max);
      attached.resumeParts.push(encodeControl({ type: 'resume', more: entries.length > 0, entries: part }));
    } while (entries.length > 0);
  }

  /** The peer tells; `more`: in further frames, too. @throws frame_invalid, flow_violation */
  heard(attached: Attached, entries: readonly ResumeEntry[], more: boolean): void {
    if (attached.resumed.size + entries.length > RESUMED_FLOWS_MAX) throw new SelvedgeError('frame_invalid', { why: 'too many flows to resume' });
    for (const entry of entries) {
      attached.resumed.add(entry.flow);
      this.#resumeFlow(attached, entry);
    }
    if (more) return;
    for (const flow of [...this.#owner.flows.values()]) if (!attached.resumed.has(flow.id)) this.#resumeUnknown(attached, flow);
    attached.resumed.clear();
    attached.awaitsResume = false;
  }

  #resumeFlow(attached: Attached, entry: ResumeEntry): void {
    const { flows, ids, sendRoom } = this.#owner;
    const flow = flows.get(entry.flow);
    if (!flow) {
      // The peer ended a flow whose opening never came: it must not open any more.
      if (entry.status === 'reset' && ids.isPeers(entry.flow)) ids.admit(entry.flow);
      if (!ids.isPeers(entry.flow)) this.#owner.checkGiven(entry.flow);
      return;
    }
    if (entry.status === 'reset') return this.#owner.endFlow(flow, new SelvedgeError('flow_lost', { why: 'the peer had ended it' }), 'reset');
    flow.knownSince ??= attached.key;
    flow.mustOpen = false;
    if (!flow.send) return;
    if (entry.status === 'done') {
      flow.send.acknowledge(entry.received, entry.received, sendRoom);
      if (!flow.send.isDone || !flow.receive?.isDone)
        throw new SelvedgeError('flow_violation', { why: `flow ${flow.id} is done there at ${entry.received}, not here` });
      this.#owner.endFlow(flow, null, 'done');
    } else if (entry.received >= flow.send.acknowledged) flow.send.rewind(entry.received);
  }

  /**
   * The peer does not know this flow: its opening was lost on the way, or the flow is gone there. What became known on this session, or was opened on it,
   * is newer than the peer's list: that travels in a stream of its own and may come late.
   */
  #resumeUnknown(attached: Attached, flow: Flow): void {
    if (flow.knownSince === null) {
      if (flow.openedOn !== attached.key) flow.mustOpen = true;
      flow.send?.rewind(0);
    } else if (flow.knownSince < attached.key) this.#owner.endFlow(flow, new SelvedgeError('flow_lost', { why: 'the peer knows it no more' }), 'reset');
  }
}
