/**
 * The node's end of the flow of service `app`: what a host tells the tower of its WireGuard, and what it asks for its attachments. One answer comes for each
 * message, in order. The flow is opened when it is needed and kept.
 */
import { Type } from 'typebox';
import { asSelvedgeError, isErrorCode, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { FlowKind, TrafficClass } from '../channel/classes.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { Timers } from '../transport/system.ts';
import type { Underlay } from './app-snapshot.ts';
import { type Check, checker } from './tunnel-wire.ts';

const APP_SERVICE = 'app';

/** What of the mesh this needs. */
export interface AppMesh {
  /** @throws not_connected, channel_class_denied, limit_reached */
  open(node: string, cls: TrafficClass, kind: FlowKind, service: string): FlowHandle;
}

export interface Published {
  readonly keys: readonly string[];
  readonly listen: { readonly host: string | null; readonly port: number } | null;
  readonly underlay: Underlay | null;
}

const maybeAddress = Type.Union([Type.String({ maxLength: 64 }), Type.Null()]);
const AttachAnswer = Type.Object({ address4: maybeAddress, address6: maybeAddress, mac: Type.String({ maxLength: 17 }) });
const ErrorAnswer = Type.Object({
  error: Type.Object({
    code: Type.String({ maxLength: 64 }),
    message: Type.Optional(Type.String({ maxLength: 1_024 })),
    facts: Type.Optional(
      Type.Record(Type.String({ maxLength: 64 }), Type.Union([Type.String({ maxLength: 1_024 }), Type.Number(), Type.Boolean(), Type.Null()])),
    ),
  }),
});
const checkAttach = checker(AttachAnswer);
const checkDone = checker(Type.Object({}));
const checkError = checker(ErrorAnswer);

export interface AttachedAddresses {
  readonly address4: string | null;
  readonly address6: string | null;
  readonly mac: string;
}

export class TowerService {
  readonly #mesh: AppMesh;
  readonly #timers: Timers;
  #flow: FlowHandle | null = null;
  /** Asked one after the other, so that the answer that comes is that of the question. Never rejects. */
  #asking: Promise<unknown> = Promise.resolve();

  constructor(mesh: AppMesh, timers: Timers) {
    this.#mesh = mesh;
    this.#timers = timers;
  }

  /** @throws not_connected, timeout, what the tower answered */
  async publish(published: Published): Promise<void> {
    await this.#ask({ op: 'wireguard', ...published }, checkDone);
  }

  /** Idempotent. @throws as publish; policy_denied where this node is no member, limit_reached */
  async attach(network: string, attachment: string): Promise<AttachedAddresses> {
    const { address4, address6, mac } = await this.#ask({ op: 'attach', network, attachment }, checkAttach);
    return { address4, address6, mac };
  }

  /** Idempotent. @throws as publish */
  async detach(network: string, attachment: string): Promise<void> {
    await this.#ask({ op: 'detach', network, attachment }, checkDone);
  }

  #ask<Shape>(request: object, check: Check<Shape>): Promise<Shape> {
    const answer = this.#asking.then(() => this.#askNow(request, check));
    this.#asking = answer.catch(() => undefined);
    return answer;
  }

  async #askNow<Shape>(request: object, check: Check<Shape>): Promise<Shape> {
    const flow = this.#open();
    const patience_ms = limits.app_answer_ms_max;
    const cancel = this.#timers.after(patience_ms, () => flow.reset('timeout', `no answer for ${patience_ms} ms`));
    try {
      flow.send(new TextEncoder().encode(JSON.stringify(request)));
      const message = await flow.receive();
      if (message === null) throw (await flow.closed) ?? new SelvedgeError('flow_lost', { why: 'the tower ended it' });
      return read(message, check);
    } catch (error) {
      // Whatever may still come on it would be taken for the answer to the next question.
      if (!(error instanceof TowerRefusal)) {
        flow.reset('flow_reset', 'given up');
        this.#flow = null;
      }
      throw error instanceof TowerRefusal ? error.refusal : asSelvedgeError(error, 'flow_lost');
    } finally {
      cancel();
    }
  }

  #open(): FlowHandle {
    if (this.#flow !== null) return this.#flow;
    const flow = this.#mesh.open(TOWER_ID, 'fabric_control', 'messages', APP_SERVICE);
    this.#flow = flow;
    void flow.closed.then(() => {
      if (this.#flow === flow) this.#flow = null;
    });
    return flow;
  }

  close(): void {
    this.#flow?.end();
    this.#flow = null;
  }
}

/** The tower said no, in an answer of its own: the flow stays good. */
class TowerRefusal extends Error {
  readonly refusal: SelvedgeError;

  constructor(refusal: SelvedgeError) {
    super(refusal.message);
    this.refusal = refusal;
  }
}

function read<Shape>(message: Uint8Array, check: Check<Shape>): Shape {
  if (message.length > limits.api_body_bytes_max) throw new SelvedgeError('body_too_large', { max: limits.api_body_bytes_max });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(message));
  } catch {
    throw new SelvedgeError('request_invalid', { path: '/', why: 'the tower’s answer is not JSON' });
  }
  if (typeof value === 'object' && value !== null && 'error' in value) {
    const { code, message: text, facts } = checkError(value).error;
    throw new TowerRefusal(
      isErrorCode(code) ? new SelvedgeError(code, facts ?? { why: text ?? 'no reason given' }) : new SelvedgeError('policy_denied', { why: text ?? code }),
    );
  }
  return check(value);
}
