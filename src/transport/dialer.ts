/**
 * How a session to a destination comes about: QUIC gets a head start, TCP follows, each over every endpoint; the first that has
 * finished its handshake and been judged good wins. What worked is remembered, and what did not is told in words. A probe finds the
 * way back up to QUIC, later each time where UDP comes and goes. It judges no peer itself and holds no session; time comes from the injected timers.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import type { VerifiedPeer } from '../identity/verify.ts';
import { dialFailure, flatErrors, givenUp, isRefusal, transportWhy } from './dial-failure.ts';
import { DialMemories, type DialMemory } from './dial-memory.ts';
import { type Attempt, race } from './race.ts';
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

/** The chain decision about a pending session, or about a later connection of it: that it is the destination. @throws SelvedgeError, whose code the peer is told */
export type Verify<Peer> = (session: Pick<Session, 'peerChain'>) => Peer | Promise<Peer>;

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

/** What all attempts of a dial share. */
interface Call<Peer> {
  readonly memory: DialMemory;
  readonly credentials: Credentials;
  readonly verify: Verify<Peer>;
  /** Bulk waits for the session. */
  readonly hasBulk?: boolean;
}

interface Won<Peer> {
  readonly session: Session;
  readonly peer: Peer;
}

export class Dialer {
  readonly #options: DialerOptions;
  readonly #memories = new DialMemories();

  constructor(options: DialerOptions) {
    this.#options = options;
  }

  /** @throws the peer's refusal if one was heard, else network_unreachable with what each transport met */
  async dial<Peer>(destination: Destination, credentials: Credentials, verify: Verify<Peer>, signal: AbortSignal, hasBulk = false): Promise<Dialed<Peer>> {
    const { timers, transports } = this.#options;
    const memory = this.#memories.of(destination.key);
    const began_ms = timers.clock.now();
    const tcp = this.#routes(destination, transports.tcp, memory);
    const quic = this.#routes(destination, transports.quic, memory);
    const held_ms = memory.udpHold.left_ms(began_ms);
    const legs = (held_ms > 0 ? [tcp, quic] : [quic, tcp]).filter((routes) => routes.length > 0);
    const over = legs.map(([route]) => route?.transport.name ?? 'tcp');
    let quicError: unknown;
    const call = { memory, credentials, verify, hasBulk };
    const attempts = legs.map(
      (routes): Attempt<Won<Peer>> =>
        async (signal) => {
          if (routes === tcp) return this.#leg(routes, call, signal);
          try {
            return await this.#quicLeg(routes, tcp.length > 0, call, signal);
          } catch (error) {
            if (!signal.aborted) quicError = error;
            throw error;
          }
        },
    );
    const deadline = this.#deadline(limits.dial_ms_max, signal);
    try {
      const stagger_ms = memory.udpWhy === null || held_ms > 0 ? limits.quic_head_start_ms : 0;
      const won = await race(attempts, { stagger_ms, timers, signal: deadline.signal, discard });
      if (won.session.transport !== 'tcp') {
        this.#udpIsBack(memory);
        return { session: won.session, peer: won.peer, why: won.session.transport };
      }
      const why = quic.length === 0 ? 'quic not offered' : this.#whyNotUdp(memory, quicError, began_ms);
      if (quic.length === 0) return { session: won.session, peer: won.peer, why };
      this.#noteLoss(memory, why);
      memory.udpHold.lost(timers.clock.now());
      return { session: won.session, peer: won.peer, why: this.#whyHeld(memory, why) };
    } catch (error) {
      throw signal.aborted ? givenUp(destination.name) : dialFailure(destination.name, error, over);
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
    const held_ms = memory.udpHold.left_ms(timers.clock.now());
    if (held_ms > 0) await this.#pause(held_ms + random.unit() * limits.upgrade_probe_jitter_ms_max, signal, destination);
    const began_ms = timers.clock.now();
    let interval_ms: number = limits.upgrade_probe_ms;
    for (;;) {
      const attempt_ms = timers.clock.now();
      const won = await this.#probeOnce(this.#routes(destination, transports.quic, memory), { memory, credentials, verify }, signal);
      if (won !== null) {
        this.#udpIsBack(memory);
        return { session: won.session, peer: won.peer, why: won.session.transport };
      }
      const lost_ms = timers.clock.now() - (memory.udpLost_ms ?? began_ms);
      if (lost_ms >= limits.upgrade_probe_fast_window_ms) interval_ms = Math.min(interval_ms * 2, limits.upgrade_probe_ms_max);
      const spent_ms = timers.clock.now() - attempt_ms;
      await this.#pause(Math.max(0, interval_ms - spent_ms) + random.unit() * limits.upgrade_probe_jitter_ms_max, signal, destination);
    }
  }

  /** The transport in use has gone silent: other endpoints come first, and if it was QUIC, the next dial doesn't wait for UDP. */
  noteSilent(destination: Destination, transport: TransportName): void {
    const memory = this.#memories.of(destination.key);
    const silent = memory.endpoints.latest(transport);
    if (silent !== null) memory.endpoints.failed(transport, silent, this.#options.timers.clock.now());
    if (transport === 'quic') this.#noteLoss(memory, 'udp: went silent');
  }

  #routes(destination: Destination, transport: Transport | null, memory: DialMemory): Route[] {
    if (transport === null) return [];
    const endpoints = memory.endpoints.order(transport.name, destination.endpoints.slice(0, limits.dial_endpoints_max));
    return endpoints.flatMap((endpoint): Route[] => {
      const port = transport.name === 'tcp' ? endpoint.tcp : endpoint.udp;
      return port === null ? [] : [{ transport, host: endpoint.host, port }];
    });
  }

  /** Beside a TCP leg QUIC has less time: where TCP was refused too, waiting out a silent UDP would only hold up the next dial. */
  async #quicLeg<Peer>(routes: readonly Route[], hasTcp: boolean, call: Call<Peer>, outer: AbortSignal): Promise<Won<Peer>> {
    if (!hasTcp) return this.#leg(routes, call, outer);
    const { signal, clear } = this.#deadline(limits.dial_quic_ms_max, outer);
    try {
      return await this.#leg(routes, call, signal);
    } catch (error) {
      if (outer.aborted || !signal.aborted) throw error;
      throw new SelvedgeError('network_unreachable', { peer: routes[0]?.host ?? 'peer', why: `no answer within ${limits.dial_quic_ms_max} ms` });
    } finally {
      clear();
    }
  }

  #leg<Peer>(routes: readonly Route[], call: Call<Peer>, signal: AbortSignal): Promise<Won<Peer>> {
    const { clock } = this.#options.timers;
    const { endpoints } = call.memory;
    const attempts = routes.map(
      (route): Attempt<Won<Peer>> =>
        async (signal) => {
          const { transport, host } = route;
          try {
            const won = await attemptRoute(route, call, signal);
            endpoints.worked(transport.name, host, clock.now());
            return won;
          } catch (error) {
            if (!signal.aborted) endpoints.failed(transport.name, host, clock.now());
            throw error;
          }
        },
    );
    return race(attempts, { stagger_ms: limits.dial_endpoint_stagger_ms, timers: this.#options.timers, signal, discard });
  }

  /** Null: no QUIC within its time. @throws refusals, and when given up */
  async #probeOnce<Peer>(routes: readonly Route[], call: Call<Peer>, signal: AbortSignal): Promise<Won<Peer> | null> {
    const deadline = this.#deadline(limits.upgrade_probe_ms, signal);
    try {
      return await this.#leg(routes, call, deadline.signal);
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

  #udpIsBack(memory: DialMemory): void {
    memory.udpWhy = null;
    memory.udpLost_ms = null;
    memory.udpHold.back(this.#options.timers.clock.now());
  }

  #whyHeld({ udpHold }: DialMemory, why: string): string {
    const left_ms = udpHold.left_ms(this.#options.timers.clock.now());
    return left_ms === 0 ? why : `${why}; it comes and goes: tried again in ${Math.ceil(left_ms / 1_000)} s`;
  }

  #whyNotUdp(memory: DialMemory, error: unknown, began_ms: number): string {
    if (error !== undefined) return flatErrors(error).map((each) => transportWhy('quic', each))[0] ?? 'udp: no answer';
    return memory.udpWhy ?? `udp: no answer within ${Math.round(this.#options.timers.clock.now() - began_ms)} ms`;
  }
}

/** Handshake, then the verdict; a peer that is refused hears the code. */
async function attemptRoute<Peer>(route: Route, { credentials, verify, hasBulk }: Omit<Call<Peer>, 'memory'>, signal: AbortSignal): Promise<Won<Peer>> {
  const isSamePeer = async (peerChain: readonly Uint8Array[]): Promise<boolean> => {
    try {
      await verify({ peerChain });
      return true;
    } catch {
      return false;
    }
  };
  const session = await route.transport.dial({ host: route.host, port: route.port }, credentials, signal, isSamePeer, hasBulk);
  try {
    const peer = await verify(session);
    if (signal.aborted || session.isClosed) throw new SelvedgeError('session_closed', { why: 'ended before it was needed' });
    return { session, peer };
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
