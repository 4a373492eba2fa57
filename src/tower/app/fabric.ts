/**
 * What nodes ask of the tower about app networks: serves flows of service `app` (class `fabric_control`, kind `messages`). A node speaks for
 * itself alone: who it is says the channel, never the message. Requests of a flow are answered in order, one at a time; what cannot be done is
 * answered with its code, and what is no request ends the flow.
 */
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { TOWER_ID } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import { APP_SERVICE, type AppAnswer, type AppRequest } from '../../enroll/app-wire.ts';
import { checkAppRequest, readJson } from '../../enroll/wire.ts';
import type { FlowHandle, Mesh } from '../../peering/mesh.ts';
import type { Timers } from '../../transport/system.ts';
import type { AppNetworks } from './networks.ts';
import { RateLimit } from '../../api/rate-limit.ts';

export interface AppService {
  /** Ends every flow. Idempotent. */
  close(): void;
}

/** `onFailure` hears of what is no refusal but a bug or a broken store, and of who breaks the rules. */
export function serveApp(mesh: Mesh, app: AppNetworks, timers: Timers, onFailure: (error: SelvedgeError, node: string) => void = () => undefined): AppService {
  const rate = new RateLimit({ clock: timers.clock, per_minute: limits.app_requests_per_minute_max });
  const live = new Map<string, Set<FlowHandle>>();
  let closed = false;

  mesh.handle(APP_SERVICE, (flow) => {
    const own = live.get(flow.peer) ?? new Set();
    const objection = closed ? new SelvedgeError('shutting_down') : flowObjection(flow, own.size);
    if (objection !== null) return flow.reset(objection.code, objection.message);
    live.set(flow.peer, own.add(flow));
    void serve(flow, { app, rate, onFailure }).then(() => {
      own.delete(flow);
      if (own.size === 0 && live.get(flow.peer) === own) live.delete(flow.peer);
    });
  });

  return {
    close() {
      closed = true;
      const why = new SelvedgeError('shutting_down');
      for (const flow of [...live.values()].flatMap((own) => [...own])) flow.reset(why.code, why.message);
    },
  };
}

function flowObjection(flow: FlowHandle, open: number): SelvedgeError | null {
  if (flow.peer === TOWER_ID) return new SelvedgeError('flow_refused', { why: 'a tower is in no app network' });
  if (flow.class !== 'fabric_control') return new SelvedgeError('channel_class_denied', { class: flow.class, why: 'app networks are fabric_control' });
  if (flow.kind !== 'messages') return new SelvedgeError('flow_refused', { why: `requests come as messages, not ${flow.kind}` });
  const max = limits.app_flows_per_node_max;
  return open >= max ? new SelvedgeError('limit_reached', { limit: `flows of service ${APP_SERVICE}`, max }) : null;
}

interface Serving {
  readonly app: AppNetworks;
  readonly rate: RateLimit;
  readonly onFailure: (error: SelvedgeError, node: string) => void;
}

/** Until the flow is over; never rejects. */
async function serve(flow: FlowHandle, { app, rate, onFailure }: Serving): Promise<void> {
  try {
    for (let message = await flow.receive(); message !== null; message = await flow.receive()) {
      const request = readJson(message, limits.app_request_bytes_max, checkAppRequest);
      const answer = await answerTo(flow.peer, request, { app, rate, onFailure });
      if (!flow.send(new TextEncoder().encode(JSON.stringify(answer)))) await flow.drained();
    }
    flow.end();
  } catch (error) {
    const why = asSelvedgeError(error, 'internal_error', { what: 'the service of app networks' });
    // A flow that is over already has said why itself.
    if (why.code !== 'handle_closed') onFailure(why, flow.peer);
    flow.reset(why.code, why.message);
  }
  await flow.closed;
}

async function answerTo(node: string, request: AppRequest, { app, rate, onFailure }: Serving): Promise<AppAnswer> {
  try {
    rate.take(node);
    return await done(app, node, request);
  } catch (error) {
    const refusal = asSelvedgeError(error, 'internal_error', { what: 'the tower' });
    if (!(error instanceof SelvedgeError)) onFailure(refusal, node);
    return { error: { code: refusal.code, message: cut(refusal.message), facts: cutFacts(refusal.facts) } };
  }
}

async function done(app: AppNetworks, node: string, request: AppRequest): Promise<AppAnswer> {
  switch (request.op) {
    case 'wireguard': {
      const { keys, listen, underlay } = request;
      await app.wireguard(node, { keys, listen, underlay });
      return { ok: true };
    }
    case 'attach': {
      const { mac, address4, address6 } = await app.attach(node, request.network, request.attachment);
      return { ok: true, mac, address4, address6 };
    }
    case 'detach':
      await app.detach(node, request.network, request.attachment);
      return { ok: true };
  }
}

function cut(text: string): string {
  return text.slice(0, limits.reason_bytes_max);
}

/** A bug's own words stay here. */
function cutFacts(facts: SelvedgeError['facts']): Record<string, string | number | boolean | null> {
  return Object.fromEntries(Object.entries(facts).map(([name, fact]) => [name, typeof fact === 'string' ? cut(fact) : fact]));
}
