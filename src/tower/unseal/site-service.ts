/**
 * Site tokens and boot identities over channels: serves flows of service `site` (class `fabric_control`, kind `messages`). A node says what it has, the tower answers with
 * what it lacks, and says so again whenever the site has another generation; a node that was away says it when it is back. The tokens are also made anew here, when
 * they are old enough.
 */
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { TOWER_ID } from '../../base/ids.ts';
import { RateLimit } from '../../api/rate-limit.ts';
import { limits } from '../../base/limits.ts';
import { checkSiteReport, SITE_SERVICE, type SiteReport } from '../../enroll/unseal-wire.ts';
import { readJson } from '../../enroll/wire.ts';
import type { FlowHandle, Mesh } from '../../peering/mesh.ts';
import type { Timers } from '../../transport/system.ts';
import type { Unsealing } from './unsealing.ts';

export interface SiteService {
  /** Idempotent. */
  close(): void;
}

/** Between two looks for tokens that are old enough. */
const LOOK_MS = 3_600_000;

export function serveSite(
  mesh: Mesh,
  unsealing: Unsealing,
  timers: Timers,
  onFailure: (error: SelvedgeError, node: string) => void = () => undefined,
): SiteService {
  const rate = new RateLimit({ clock: timers.clock, per_minute: limits.site_reports_per_minute_max });
  const live = new Map<string, Conversation>();
  let closed = false;

  mesh.handle(SITE_SERVICE, (flow) => {
    const objection = closed ? new SelvedgeError('shutting_down') : objectionTo(flow);
    if (objection !== null) return flow.reset(objection.code, objection.message);
    live.get(flow.peer)?.end(new SelvedgeError('replaced'));
    const conversation = new Conversation(flow, unsealing, rate);
    live.set(flow.peer, conversation);
    void conversation.run().then((error) => {
      if (live.get(flow.peer) === conversation) live.delete(flow.peer);
      if (error !== null) onFailure(error, flow.peer);
    });
  });

  // Whose site it is, each finds out when it looks what it has.
  const unsubscribe = unsealing.onRotate(() => {
    for (const conversation of live.values()) conversation.look();
  });
  let cancel = () => {};
  const look = () => {
    unsealing.tokens.rotateDue().catch((error: unknown) => onFailure(asSelvedgeError(error, 'internal_error', { what: 'making site tokens anew' }), TOWER_ID));
    cancel = timers.after(LOOK_MS, look);
  };
  look();

  return {
    close() {
      closed = true;
      unsubscribe();
      cancel();
      for (const conversation of live.values()) conversation.end(new SelvedgeError('shutting_down'));
    },
  };
}

function objectionTo(flow: FlowHandle): SelvedgeError | null {
  if (flow.peer === TOWER_ID) return new SelvedgeError('flow_refused', { why: 'a tower is of no site' });
  if (flow.class !== 'fabric_control') return new SelvedgeError('channel_class_denied', { class: flow.class, why: 'site tokens are fabric_control' });
  return flow.kind === 'messages' ? null : new SelvedgeError('flow_refused', { why: `site tokens come as messages, not ${flow.kind}` });
}

/** One node's flow: one thing at a time, in order. */
class Conversation {
  readonly #flow: FlowHandle;
  readonly #unsealing: Unsealing;
  readonly #rate: RateLimit;
  #said: SiteReport | null = null;
  #turn: Promise<void> = Promise.resolve();
  #error: SelvedgeError | null = null;

  constructor(flow: FlowHandle, unsealing: Unsealing, rate: RateLimit) {
    this.#flow = flow;
    this.#unsealing = unsealing;
    this.#rate = rate;
  }

  /** Until the flow is over. Resolves to what ended it, null for the node itself; never rejects. */
  async run(): Promise<SelvedgeError | null> {
    try {
      for (let message = await this.#flow.receive(); message !== null; message = await this.#flow.receive()) {
        this.#rate.take(this.#flow.peer);
        this.#said = readJson(message, limits.api_body_bytes_max, checkSiteReport);
        this.look();
        // A node that says more than it hears waits.
        await this.#turn;
      }
      this.#flow.end();
    } catch (error) {
      this.#fail(error);
    }
    await this.#flow.closed;
    return this.#error;
  }

  /** Compares what it said it has with what there is. */
  look(): void {
    this.#turn = this.#turn
      .then(async () => {
        if (this.#said === null || this.#error !== null) return;
        const news = await this.#unsealing.report(this.#flow.peer, this.#said);
        if (news !== null && !this.#flow.send(new TextEncoder().encode(JSON.stringify(news)))) await this.#flow.drained();
      })
      .catch((error: unknown) => this.#fail(error));
  }

  end(why: SelvedgeError): void {
    this.#flow.reset(why.code, why.message);
  }

  #fail(error: unknown): void {
    this.#error ??= asSelvedgeError(error, 'internal_error', { what: 'the site service' });
    this.#flow.reset(this.#error.code, this.#error.message);
  }
}
