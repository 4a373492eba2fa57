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

/** One direction between two programs, as it is now. */
interface Path {
  faults: PathFaults;
}

interface Link {
  readonly pair: MemoryPair;
  readonly transport: TransportName;
  readonly hosts: Readonly<Record<Side, string>>;
  /** By the end that they lead to. */
  readonly paths: Readonly<Record<Side, Path>>;
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

/** Whoever gives a dial up does not look at what becomes of it. */
const GIVEN_UP = new SelvedgeError('network_unreachable', { peer: 'peer', why: 'given up' });

export class SimNetwork {
  readonly #agenda: Agenda;
  readonly #timers: Timers;
  /** By where they lead from, and to. */
  readonly #paths = new Map<string, Map<string, Path>>();
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

  #path(from: string, to: string): Path {
    const others = this.#paths.get(from) ?? new Map<string, Path>();
    if (others.size === 0) this.#paths.set(from, others);
    const path = others.get(to) ?? { faults: goodPath };
    others.set(to, path);
    return path;
  }

  /** Changes one direction. What waited across a cut arrives when it is over. */
  setPath(from: string, to: string, faults: Partial<PathFaults>): void {
    const path = this.#path(from, to);
    path.faults = { ...path.faults, ...faults };
    for (const link of this.#links) if (link.paths.dialer === path || link.paths.acceptor === path) this.#hold(link);
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
      if (link.transport === 'tcp') this.#timers.after(2 * link.paths[other].faults.delay_ms, () => this.#end(link, other));
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
      if (signal.aborted) return reject(GIVEN_UP);
      let made: MemoryPair | null = null;
      const onAbort = (): void => {
        cancel();
        made?.dialer.close('session_closed', 'no longer needed');
        reject(GIVEN_UP);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      const over = (then: () => void) => (): void => {
        signal.removeEventListener('abort', onAbort);
        then();
      };
      const [forth, back] = [this.#path(from, to), this.#path(to, from)];
      const forward_ms = this.#delay(forth);
      let cancel = this.#timers.after(forward_ms, () => {
        // A handshake that is lost is sent again until the dialer gives up; here it simply never ends.
        if (!passes(name, forth) || !passes(name, back)) return;
        const program = this.#programs.get(to);
        const back_ms = this.#delay(back);
        if (program === undefined) {
          cancel = this.#timers.after(
            back_ms,
            over(() => reject(new SelvedgeError('network_unreachable', { peer: to, why: RESET_WHY }))),
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
    const paths = { dialer: this.#path(hosts.acceptor, hosts.dialer), acceptor: this.#path(hosts.dialer, hosts.acceptor) };
    const pair = memoryPair({
      transport,
      sources: transport === 'tcp' ? 'lanes' : 'streams',
      timers: this.#timers,
      dialerChain,
      acceptorChain,
      datagram_bytes_max: transport === 'tcp' ? 0 : 1_200,
      split,
      transit: (thing) => this.#transit(link, thing),
    });
    const link: Link = { pair, transport, hosts, paths, cancelIdle: this.#watchIdle(() => link) };
    this.#links.add(link);
    this.#hold(link);
    return pair;
  }

  #transit({ transport, hosts, paths, pair }: Link, { to, kind, head }: Departure): number | readonly [number, number] | null {
    const path = paths[to];
    const side = to === 'dialer' ? 'acceptor' : 'dialer';
    if (head !== null) this.watch(hosts[side], hosts[to], pair, side, head);
    const { faults } = path;
    const isCut = !passes(transport, path);
    const isLost = this.#agenda.random.unit() < faults.loss_part || isCut;
    if (kind === 'datagram' && isLost) return null;
    // The word that ends a connection is sent once.
    if (kind === 'close' && isCut) return null;
    const delay_ms = this.#delay(path);
    if (kind === 'datagram' && this.#agenda.random.unit() < faults.doubled_part) return [delay_ms, this.#delay(path)];
    return isLost ? delay_ms + 3 * faults.delay_ms : delay_ms;
  }

  #delay({ faults: { delay_ms, jitter_ms } }: Path): number {
    return delay_ms + this.#agenda.random.unit() * jitter_ms;
  }

  #hold({ pair, transport, paths }: Link): void {
    for (const side of ['dialer', 'acceptor'] as const) pair.hold(!passes(transport, paths[side]), side);
  }

  /** A connection that hears nothing for `quic_idle_ms_max` ends; so, by its keepalive, does one of TCP. */
  #watchIdle(link: () => Link): () => void {
    let cancel = (): void => {};
    const look = (): void => {
      const { pair } = link();
      const ends = [pair.dialer, pair.acceptor].filter(({ isClosed }) => !isClosed);
      for (const end of ends) if (end.silent_ms >= limits.quic_idle_ms_max) this.#end(link(), end.side);
      const silent_ms = ends.filter(({ isClosed }) => !isClosed).map((end) => end.silent_ms);
      if (silent_ms.length === 0) this.#links.delete(link());
      else later(Math.max(...silent_ms));
    };
    const later = (silent_ms: number): void => {
      cancel = this.#timers.after(limits.quic_idle_ms_max - silent_ms, look);
    };
    later(0);
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

function passes(transport: TransportName, { faults: { isCut, isUdpCut } }: Path): boolean {
  return !isCut && !(isUdpCut && transport === 'quic');
}

/** Pieces that the carrier answers within the turn: larger ones wait for the end of a turn of the event loop, which the virtual clock does not know. */
const PIECE_BYTES_MAX = 8_000;

function split(bytes: Uint8Array): readonly Uint8Array[] {
  if (bytes.length <= PIECE_BYTES_MAX) return [bytes];
  const pieces = Math.ceil(bytes.length / PIECE_BYTES_MAX);
  return Array.from({ length: pieces }, (_, index) => bytes.subarray(index * PIECE_BYTES_MAX, (index + 1) * PIECE_BYTES_MAX));
}
