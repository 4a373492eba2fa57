/**
 * How a session to a destination comes about: QUIC gets a head start, TCP follows, each over every endpoint; the first that has
 * finished its handshake and been judged good wins. What worked is remembered, and what did not is told in words. A probe finds the
 * way back up to QUIC. It judges no peer itself and holds no session; time comes from the injected timers.
 */
import { asSelvedgeError, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import type { VerifiedPeer } from '../identity/verify.ts';
import { DialMemories, type DialMemory } from './dial-memory.ts';
import { type Attempt, RaceLost, race } from './race.ts';
import type { Credentials, Session, Transport, TransportName } from './session.ts';
import type { Timers } from './system.ts';
import { addressPort } from './tcp-tls.ts';

/** A port is null where the transport is not offered. */
export interface DialEndpoint {
  readonly host: string;
  readonly tcp: number | null;
  readonly udp: number | null;
}

export interface Destination {
  /** What the dialer remembers it by: the node's id. */
  readonly key: string;
  /** For messages. */
  readonly name: string;
  readonly endpoints: readonly DialEndpoint[];
}

export interface Dialed<Peer = VerifiedPeer> {
  /** Pending still: `approve` is the caller's. */
  readonly session: Session;
  readonly peer: Peer;
  /** Why this transport: `quic`, or why not. */
  readonly why: string;
}

/** The chain decision about a pending session. @throws SelvedgeError, whose code the peer is told */
export type Verify<Peer> = (session: Session) => Peer | Promise<Peer>;

export interface DialerOptions {
  /** Null: this host does without QUIC. */
  readonly transports: { readonly quic: Transport | null; readonly tcp: Transport };
  readonly timers: Timers;
  readonly random: Random;
}

/** One transport over one endpoint. */
interface Route {
  readonly transport: Transport;
  readonly host: string;
  readonly port: number;
}

interface Won<Peer> {
  readonly session: Session;
  readonly peer: Peer;
  readonly endpoint: string;
}

export class Dialer {
  readonly #options: DialerOptions;
  readonly #memories = new DialMemories();

  constructor(options: DialerOptions) {
    this.#options = options;
  }

  /** @throws the peer's refusal if one was heard, else network_unreachable with what each transport met */
  async dial<Peer>(destination: Destination, credentials: Credentials, verify: Verify<Peer>, signal: AbortSignal): Promise<Dialed<Peer>> {
    const { timers, transports } = this.#options;
    const memory = this.#memories.of(destination.key);
    const began_ms = timers.clock.now();
    const tcp = this.#routes(destination, transports.tcp, memory);
    const quic = this.#routes(destination, transports.quic, memory);
    const legs = [quic, tcp].filter((routes) => routes.length > 0);
    let quicError: unknown;
    const attempts = legs.map(
      (routes): Attempt<Won<Peer>> =>
        async (signal) => {
          if (routes === tcp) return this.#leg(routes, credentials, verify, signal);
          try {
            return await this.#quicLeg(routes, tcp.length > 0, credentials, verify, signal);
          } catch (error) {
            if (!signal.aborted) quicError = error;
            throw error;
          }
        },
    );
    const deadline = this.#deadline(limits.dial_ms_max, signal);
    try {
      const stagger_ms = memory.udpWhy === null ? limits.quic_head_start_ms : 0;
      const won = await race(attempts, { stagger_ms, timers, signal: deadline.signal, discard });
      memory.endpoint = won.endpoint;
      if (won.session.transport !== 'tcp') {
        forgetLoss(memory);
        return { session: won.session, peer: won.peer, why: won.session.transport };
      }
      const why = quic.length === 0 ? 'quic not offered' : this.#whyNotUdp(memory, quicError, began_ms);
      if (quic.length > 0) this.#noteLoss(memory, why);
      return { session: won.session, peer: won.peer, why };
    } catch (error) {
      throw dialFailure(destination, error, legs, signal.aborted);
    } finally {
      deadline.clear();
    }
  }

  /**
   * The way back up: tries QUIC until it works; null if it is not offered. An attempt has `limits.upgrade_probe_ms`, the next follows
   * at once while the loss is young; later ever more slowly. @throws network_unreachable when aborted, a refusal at once
   */
  async probe<Peer>(destination: Destination, credentials: Credentials, verify: Verify<Peer>, signal: AbortSignal): Promise<Dialed<Peer> | null> {
    const { timers, random, transports } = this.#options;
    const memory = this.#memories.of(destination.key);
    if (this.#routes(destination, transports.quic, memory).length === 0) return null;
    const began_ms = timers.clock.now();
    let interval_ms: number = limits.upgrade_probe_ms;
    for (;;) {
      const attempt_ms = timers.clock.now();
      const won = await this.#probeOnce(this.#routes(destination, transports.quic, memory), credentials, verify, signal);
      if (won !== null) {
        memory.endpoint = won.endpoint;
        forgetLoss(memory);
        return { session: won.session, peer: won.peer, why: won.session.transport };
      }
      const lost_ms = timers.clock.now() - (memory.udpLost_ms ?? began_ms);
      if (lost_ms >= limits.upgrade_probe_fast_window_ms) interval_ms = Math.min(interval_ms * 2, limits.upgrade_probe_ms_max);
      const spent_ms = timers.clock.now() - attempt_ms;
      await this.#pause(Math.max(0, interval_ms - spent_ms) + random.unit() * limits.upgrade_probe_jitter_ms_max, signal, destination);
    }
  }

  /** The transport in use has gone silent: if it was QUIC, the next dial doesn't wait for UDP. */
  noteSilent(destination: Destination, transport: TransportName): void {
    if (transport === 'quic') this.#noteLoss(this.#memories.of(destination.key), 'udp: went silent');
  }

  /** The endpoint that worked last comes first. */
  #routes(destination: Destination, transport: Transport | null, memory: DialMemory): Route[] {
    if (transport === null) return [];
    const routes: Route[] = [];
    for (const endpoint of destination.endpoints.slice(0, limits.dial_endpoints_max)) {
      const port = transport.name === 'tcp' ? endpoint.tcp : endpoint.udp;
      if (port === null) continue;
      const route = { transport, host: endpoint.host, port };
      if (endpoint.host === memory.endpoint) routes.unshift(route);
      else routes.push(route);
    }
    return routes;
  }

  /** Beside a TCP leg QUIC has less time: where TCP was refused too, waiting out a silent UDP would only hold up the next dial. */
  async #quicLeg<Peer>(routes: readonly Route[], hasTcp: boolean, credentials: Credentials, verify: Verify<Peer>, outer: AbortSignal): Promise<Won<Peer>> {
    if (!hasTcp) return this.#leg(routes, credentials, verify, outer);
    const { signal, clear } = this.#deadline(limits.dial_quic_ms_max, outer);
    try {
      return await this.#leg(routes, credentials, verify, signal);
    } catch (error) {
      if (outer.aborted || !signal.aborted) throw error;
      throw new SelvedgeError('network_unreachable', { peer: routes[0]?.host ?? 'peer', why: `no answer within ${limits.dial_quic_ms_max} ms` });
    } finally {
      clear();
    }
  }

  #leg<Peer>(routes: readonly Route[], credentials: Credentials, verify: Verify<Peer>, signal: AbortSignal): Promise<Won<Peer>> {
    const attempts = routes.map(
      (route): Attempt<Won<Peer>> =>
        (signal) =>
          attemptRoute(route, credentials, verify, signal),
    );
    return race(attempts, { stagger_ms: limits.dial_endpoint_stagger_ms, timers: this.#options.timers, signal, discard });
  }

  /** Null: no QUIC within its time. @throws refusals, and when given up */
  async #probeOnce<Peer>(routes: readonly Route[], credentials: Credentials, verify: Verify<Peer>, signal: AbortSignal): Promise<Won<Peer> | null> {
    const deadline = this.#deadline(limits.upgrade_probe_ms, signal);
    try {
      return await this.#leg(routes, credentials, verify, deadline.signal);
    } catch (error) {
      if (signal.aborted) throw givenUp(routes[0]?.host ?? 'peer');
      const refusal = flatErrors(error).find(isRefusal);
      if (refusal !== undefined) throw refusal;
      return null;
    } finally {
      deadline.clear();
    }
  }

  #pause(ms: number, signal: AbortSignal, destination: Destination): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) return reject(givenUp(destination.name));
      const onAbort = (): void => {
        cancel();
        reject(givenUp(destination.name));
      };
      const cancel = this.#options.timers.after(ms, () => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      });
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** A signal that also aborts after `ms`; `clear` leaves nothing behind. */
  #deadline(ms: number, outer: AbortSignal): { signal: AbortSignal; clear(): void } {
    const controller = new AbortController();
    const abort = (): void => controller.abort(TOO_LATE);
    if (outer.aborted) abort();
    outer.addEventListener('abort', abort, { once: true });
    const cancel = this.#options.timers.after(ms, abort);
    return {
      signal: controller.signal,
      clear() {
        cancel();
        outer.removeEventListener('abort', abort);
      },
    };
  }

  #noteLoss(memory: DialMemory, why: string): void {
    memory.udpWhy = why;
    memory.udpLost_ms ??= this.#options.timers.clock.now();
  }

  #whyNotUdp(memory: DialMemory, error: unknown, began_ms: number): string {
    if (error !== undefined) return flatErrors(error).map((each) => transportWhy('quic', each))[0] ?? 'udp: no answer';
    return memory.udpWhy ?? `udp: no answer within ${Math.round(this.#options.timers.clock.now() - began_ms)} ms`;
  }
}

function forgetLoss(memory: DialMemory): void {
  memory.udpWhy = null;
  memory.udpLost_ms = null;
}

/** Handshake, then the verdict; a peer that is refused hears the code. */
async function attemptRoute<Peer>(route: Route, credentials: Credentials, verify: Verify<Peer>, signal: AbortSignal): Promise<Won<Peer>> {
  const session = await route.transport.dial({ host: route.host, port: route.port }, credentials, signal);
  try {
    const peer = await verify(session);
    if (signal.aborted || session.isClosed) throw new SelvedgeError('session_closed', { why: 'ended before it was needed' });
    return { session, peer, endpoint: route.host };
  } catch (error) {
    const refusal = asSelvedgeError(error, 'certificate_invalid', { peer: addressPort(route.host, route.port) });
    session.close(refusal.code, refusal.message);
    throw refusal;
  }
}

function discard(won: Won<unknown>): void {
  won.session.close('session_closed', 'another connection was faster');
}

/** Made once: an abort without a reason makes one of its own, with a stack trace. */
const TOO_LATE = new Error('not within its time');

const givenUp = (peer: string): SelvedgeError => new SelvedgeError('network_unreachable', { peer, why: 'given up' });

/** Verdicts about a peer: no other way to it changes them, and they tell more than a silent network. */
const refusals: ReadonlySet<ErrorCode> = new Set(['certificate_invalid', 'certificate_revoked', 'peer_disabled', 'wrong_cluster', 'wrong_node']);
const isRefusal = (error: SelvedgeError): boolean => refusals.has(error.code);

/** The errors of nested races, outermost first. */
function flatErrors(error: unknown): SelvedgeError[] {
  if (error instanceof RaceLost) return error.errors.filter((each) => each !== undefined).flatMap(flatErrors);
  return [asSelvedgeError(error, 'network_unreachable')];
}

/** `udp: connection refused`, `quic: TLS handshake … failed`, `tcp: no route to host`. */
function transportWhy(transport: TransportName, error: SelvedgeError): string {
  const carrier = transport === 'quic' ? 'udp' : transport;
  if (error.code === 'network_unreachable') return `${carrier}: ${error.facts.why ?? 'no answer'}`;
  if (error.code === 'handshake_timeout') return `${carrier}: no answer within ${error.facts.ms ?? limits.handshake_ms_max} ms`;
  return `${transport}: ${error.message}`;
}

function dialFailure(destination: Destination, error: unknown, legs: readonly (readonly Route[])[], wasAborted: boolean): SelvedgeError {
  if (wasAborted) return givenUp(destination.name);
  if (legs.length === 0) return new SelvedgeError('network_unreachable', { peer: destination.name, why: 'it offers no address' });
  const refusal = flatErrors(error).find(isRefusal);
  if (refusal !== undefined) return refusal;
  const byLeg = error instanceof RaceLost ? error.errors : [error];
  const whys = legs.flatMap((routes, index) => {
    const transport = routes[0]?.transport.name ?? 'tcp';
    const met = byLeg[index] === undefined ? [] : flatErrors(byLeg[index]);
    if (met.length === 0) return [`${transport === 'quic' ? 'udp' : transport}: no answer within ${limits.dial_ms_max} ms`];
    return met.map((each) => transportWhy(transport, each));
  });
  const errors = flatErrors(error);
  const [only] = errors;
  const code = errors.length > 0 && only !== undefined && errors.every((each) => each.code === only.code) ? only.code : 'network_unreachable';
  return new SelvedgeError(code, { peer: destination.name, why: [...new Set(whys)].join('; '), ms: limits.dial_ms_max }, { cause: error });
}
