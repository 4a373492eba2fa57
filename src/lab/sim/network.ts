/**
 * The network of the simulator: programs at addresses, and between each two of them a path that delays, loses, reorders, doubles, and is cut one way or
 * both. It offers the same `Transport` as the real ones, over sessions in memory, so that all above runs as it is.
 *
 * Octets of a stream are never lost for good, as TCP and QUIC would have it: a loss costs them a round trip and a half. Across a cut they wait; a session
 * that hears nothing for long ends, as a QUIC connection does.
 */
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { type Departure, type MemoryPair, memoryPair } from '../../transport/memory.ts';
import type { Credentials, Session, Transport, TransportName } from '../../transport/session.ts';
import type { Timers } from '../../transport/system.ts';
import type { Agenda } from './agenda.ts';

/** One direction of a path. */
export interface PathFaults {
  readonly delay_ms: number;
  /** Up to so much more, each time anew: what comes on different streams overtakes itself. */
  readonly jitter_ms: number;
  readonly loss_part: number;
  /** Of datagrams that arrive twice. */
  readonly doubled_part: number;
  readonly isCut: boolean;
  /** UDP alone is dropped: QUIC does not pass. */
  readonly isUdpCut: boolean;
}

export const goodPath: PathFaults = { delay_ms: 5, jitter_ms: 1, loss_part: 0, doubled_part: 0, isCut: false, isUdpCut: false };

type Side = 'dialer' | 'acceptor';

interface Link {
  readonly pair: MemoryPair;
  readonly transport: TransportName;
  readonly hosts: Readonly<Record<Side, string>>;
  readonly cancelIdle: () => void;
}

/** A program that runs at an address. */
export interface Program {
  readonly chain: readonly Uint8Array[];
  readonly onSession: (session: Session) => void;
}

/** Sees each frame as it leaves; for invariants. */
export type FrameWatcher = (from: string, to: string, session: MemoryPair, side: Side, head: Uint8Array) => void;

/** What a TCP segment to a port where nobody listens is answered with, or a connection whose other end has lost its memory. */
const RESET_WHY = 'connection refused';

export class SimNetwork {
  readonly #agenda: Agenda;
  readonly #timers: Timers;
  readonly #paths = new Map<string, PathFaults>();
  readonly #programs = new Map<string, Program>();
  readonly #links = new Set<Link>();
  watch: FrameWatcher = () => {};
  sessionsMade = 0;

  constructor(agenda: Agenda) {
    this.#agenda = agenda;
    this.#timers = {
      clock: { now: () => agenda.now, wall: () => agenda.now },
      after: (delay_ms, action) => agenda.at(agenda.now + delay_ms, action),
    };
  }

  path(from: string, to: string): PathFaults {
    return this.#paths.get(`${from}>${to}`) ?? goodPath;
  }

  /** Changes one direction. What waited across a cut arrives when it is over. */
  setPath(from: string, to: string, faults: Partial<PathFaults>): void {
    this.#paths.set(`${from}>${to}`, { ...this.path(from, to), ...faults });
    for (const link of this.#links) this.#hold(link);
  }

  start(host: string, program: Program): void {
    this.#programs.set(host, program);
  }

  /** The program dies without a word; what was connected to it finds out by itself. */
  kill(host: string): void {
    this.#programs.delete(host);
    for (const link of [...this.#links]) {
      const side = (['dialer', 'acceptor'] as const).find((one) => link.hosts[one] === host);
      if (side === undefined) continue;
      link.pair.cut(side);
      const other = side === 'dialer' ? 'acceptor' : 'dialer';
      // The system answers for it: a TCP connection is reset when its next segment comes. Of QUIC nobody knows any more.
      if (link.transport === 'tcp') this.#timers.after(2 * this.path(host, link.hosts[other]).delay_ms, () => this.#end(link, other));
    }
  }

  /** Of a program that may die: what it dials then never comes about. */
  transport(name: 'quic' | 'tcp', from: string, isAlive: () => boolean): Transport {
    return {
      name,
      dial: ({ host }, credentials, signal) => (isAlive() ? this.#dial(name, from, host, credentials, signal) : new Promise(() => {})),
    };
  }

  #dial(name: 'quic' | 'tcp', from: string, to: string, { chain }: Credentials, signal: AbortSignal): Promise<Session> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => reject(new SelvedgeError('network_unreachable', { peer: to, why }));
      if (signal.aborted) return fail('given up');
      let made: MemoryPair | null = null;
      const onAbort = (): void => {
        cancel();
        made?.dialer.close('session_closed', 'no longer needed');
        fail('given up');
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const over = (then: () => void) => (): void => {
        signal.removeEventListener('abort', onAbort);
        then();
      };
      const forward_ms = this.#delay(from, to);
      let cancel = this.#timers.after(forward_ms, () => {
        // A handshake that is lost is sent again until the dialer gives up; here it simply never ends.
        if (!this.#passes(name, from, to) || !this.#passes(name, to, from)) return;
        const program = this.#programs.get(to);
        const back_ms = this.#delay(to, from);
        if (program === undefined) {
          cancel = this.#timers.after(
            back_ms,
            over(() => fail(RESET_WHY)),
          );
          return;
        }
        const pair = this.#connect(name, { dialer: from, acceptor: to }, chain, program.chain);
        cancel = this.#timers.after(
          back_ms,
          over(() => resolve(pair.dialer)),
        );
        made = pair;
        program.onSession(pair.acceptor);
      });
    });
  }

  #connect(transport: 'quic' | 'tcp', hosts: Link['hosts'], dialerChain: readonly Uint8Array[], acceptorChain: readonly Uint8Array[]): MemoryPair {
    this.sessionsMade++;
    const pair: MemoryPair = memoryPair({
      transport,
      sources: transport === 'tcp' ? 'lanes' : 'streams',
      timers: this.#timers,
      dialerChain,
      acceptorChain,
      datagram_bytes_max: transport === 'tcp' ? 0 : 1_200,
      transit: (thing) => this.#transit(transport, hosts, pair, thing),
    });
    const link: Link = { pair, transport, hosts, cancelIdle: this.#watchIdle(() => link) };
    this.#links.add(link);
    this.#hold(link);
    return pair;
  }

  #transit(transport: TransportName, hosts: Link['hosts'], pair: MemoryPair, { to, kind, head }: Departure): number | readonly [number, number] | null {
    const side = to === 'dialer' ? 'acceptor' : 'dialer';
    const from = hosts[side];
    if (head !== null) this.watch(from, hosts[to], pair, side, head);
    const faults = this.path(from, hosts[to]);
    const isLost = this.#agenda.random.unit() < faults.loss_part || !this.#passes(transport, from, hosts[to]);
    if (kind === 'datagram' && isLost) return null;
    // The word that ends a connection is sent once.
    if (kind === 'close' && !this.#passes(transport, from, hosts[to])) return null;
    const delay_ms = this.#delay(from, hosts[to]);
    if (kind === 'datagram' && this.#agenda.random.unit() < faults.doubled_part) return [delay_ms, this.#delay(from, hosts[to])];
    return isLost ? delay_ms + 3 * faults.delay_ms : delay_ms;
  }

  #delay(from: string, to: string): number {
    const { delay_ms, jitter_ms } = this.path(from, to);
    return delay_ms + this.#agenda.random.unit() * jitter_ms;
  }

  #passes(transport: TransportName, from: string, to: string): boolean {
    const { isCut, isUdpCut } = this.path(from, to);
    return !isCut && !(isUdpCut && transport === 'quic');
  }

  #hold(link: Link): void {
    const { dialer, acceptor } = link.hosts;
    link.pair.hold(!this.#passes(link.transport, acceptor, dialer), 'dialer');
    link.pair.hold(!this.#passes(link.transport, dialer, acceptor), 'acceptor');
  }

  /** A connection that hears nothing for `quic_idle_ms_max` ends; so, by its keepalive, does one of TCP. */
  #watchIdle(link: () => Link): () => void {
    let cancel = (): void => {};
    const look = (): void => {
      const { pair } = link();
      for (const side of ['dialer', 'acceptor'] as const) if (!pair[side].isClosed && pair[side].silent_ms >= limits.quic_idle_ms_max) this.#end(link(), side);
      if (pair.dialer.isClosed && pair.acceptor.isClosed) {
        this.#links.delete(link());
        return;
      }
      cancel = this.#timers.after(limits.quic_idle_ms_max / 6, look);
    };
    cancel = this.#timers.after(limits.quic_idle_ms_max / 6, look);
    return () => cancel();
  }

  #end({ pair }: Link, side: Side): void {
    pair.cut(side);
  }

  /** Nothing of it goes on. */
  close(): void {
    for (const link of this.#links) {
      link.cancelIdle();
      link.pair.cut();
    }
    this.#links.clear();
  }

  get liveSessions(): number {
    return [...this.#links].filter(({ pair }) => !pair.dialer.isClosed || !pair.acceptor.isClosed).length;
  }
}
