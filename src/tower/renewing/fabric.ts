/**
 * Serves flows of service `renew`: a node asks for the successor of its leaf and is answered, or refused with a code. Who it is says the channel. Also
 * looks, now and then, for old leaves whose time is over.
 */
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { TOWER_ID } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import { checkRenewRequest, RENEW_SERVICE, type RenewAnswer } from '../../enroll/renew-wire.ts';
import { bytesOf, readJson } from '../../enroll/wire.ts';
import { toBase64 } from '../../identity/base64.ts';
import type { FlowHandle, Mesh } from '../../peering/mesh.ts';
import type { Timers } from '../../transport/system.ts';
import type { LeafRenewals } from './leaf-renewals.ts';
import { RateLimit } from '../../api/rate-limit.ts';

export interface RenewService {
  /** Ends every flow. Idempotent. */
  close(): void;
}

/** `onFailure` hears of refusals, and of what went wrong in between. */
export function serveRenewals(
  mesh: Pick<Mesh, 'handle'>,
  renewals: LeafRenewals,
  timers: Timers,
  onFailure: (error: SelvedgeError, node: string | null) => void,
): RenewService {
  const rate = new RateLimit({ clock: timers.clock, per_minute: limits.leaf_requests_per_minute_max });
  /** One of a node at a time: another one means that it has given up on the first. */
  const live = new Map<string, FlowHandle>();
  let closed = false;

  mesh.handle(RENEW_SERVICE, (flow) => {
    const objection = closed ? new SelvedgeError('shutting_down') : flowObjection(flow);
    if (objection !== null) return flow.reset(objection.code, objection.message);
    live.get(flow.peer)?.reset('replaced', 'asked again');
    live.set(flow.peer, flow);
    void answer(flow, renewals, rate).then((error) => {
      if (live.get(flow.peer) === flow) live.delete(flow.peer);
      if (error !== null) onFailure(error, flow.peer);
    });
  });

  let cancelLook = () => {};
  const lookLater = () => {
    cancelLook = timers.after(limits.leaf_retire_look_ms, () => {
      renewals
        .retire()
        .catch((error: unknown) => onFailure(asSelvedgeError(error, 'internal_error', { what: 'retiring old leaves' }), null))
        .finally(() => {
          if (!closed) lookLater();
        });
    });
  };
  lookLater();

  return {
    close() {
      closed = true;
      cancelLook();
      for (const flow of live.values()) flow.reset('shutting_down', 'the tower stops');
    },
  };
}

function flowObjection(flow: FlowHandle): SelvedgeError | null {
  if (flow.peer === TOWER_ID) return new SelvedgeError('flow_refused', { why: 'a tower renews its leaf by itself' });
  if (flow.class !== 'fabric_control') return new SelvedgeError('channel_class_denied', { class: flow.class, why: 'renewals are fabric_control' });
  return flow.kind === 'messages' ? null : new SelvedgeError('flow_refused', { why: `renewals come as messages, not ${flow.kind}` });
}

/** Resolves to what went wrong, or null; never rejects. */
async function answer(flow: FlowHandle, renewals: LeafRenewals, rate: RateLimit): Promise<SelvedgeError | null> {
  try {
    const message = await flow.receive();
    if (message === null) throw new SelvedgeError('flow_refused', { why: 'no request came' });
    rate.take(flow.peer);
    const { csr, holding } = readJson(message, limits.api_body_bytes_max, checkRenewRequest);
    const chain = await renewals.renew(flow.peer, { csr: bytesOf(csr, limits.csr_bytes_max, '/csr'), holding });
    const answer: RenewAnswer = { chain: chain.map(toBase64) };
    flow.send(new TextEncoder().encode(JSON.stringify(answer)));
    flow.end();
    await flow.closed;
    return null;
  } catch (error) {
    const why = asSelvedgeError(error, 'internal_error', { what: 'renewing a leaf' });
    flow.reset(why.code, why.message);
    // A flow that is over already has said why itself.
    return why.code === 'handle_closed' ? null : why;
  }
}
