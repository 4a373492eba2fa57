/**
 * The carried way to one peer: at most one, whoever opened it. It is opened when this end wants one and none is there, taken when the peer opens one, opened again when it is
 * lost, and ended once neither end wants it. Where both open one at the same time, that of the node with the smaller id stays. One that rules deny is asked for again
 * when they may have changed, and in case the other end hears of that later, ever more seldom by itself.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { Backoff } from '../channel/backoff.ts';
import type { CarryWord } from '../transport/carry/frames.ts';
import { type CarryMesh, openCarry } from '../transport/carry/greeting.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { Timers } from '../transport/system.ts';
import type { CarriedState, CarryRoute } from './carrier.ts';
import { CarryJoin } from './carry-join.ts';
import { CarrySocket } from './carry-socket.ts';

export interface CarriedPeerOptions {
  readonly self: string;
  readonly node: string;
  readonly mesh: CarryMesh;
  readonly socketPath: string;
  readonly timers: Timers;
  readonly random: Random;
  readonly routeTo: (node: string) => CarryRoute | null;
  readonly onChange: () => void;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

interface Way {
  readonly flow: FlowHandle;
  readonly isOwn: boolean;
  readonly route: CarryRoute;
  /** Null while the tunnel has not agreed. */
  join: CarryJoin | null;
  peer: CarryWord | null;
}

export class CarriedPeer {
  readonly #options: CarriedPeerOptions;
  readonly #backoff: Backoff;
  /** Between two questions whether rules still deny it. */
  readonly #patience: Backoff;
  #word: CarryWord = { wants: false, hears: false };
  #way: Way | null = null;
  #cancelRetry: (() => void) | null = null;
  #triedRoute: CarryRoute | null = null;
  #denial: { readonly error: SelvedgeError; readonly until_ms: number } | null = null;
  /** Of ways that have ended. */
  #dropped = 0;
  #isClosed = false;

  constructor(options: CarriedPeerOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, limits.carry_retry_ms_base, limits.carry_retry_ms_max);
    this.#patience = new Backoff(options.random, limits.carry_denied_ms_base, limits.carry_denied_ms_max);
  }

  get state(): CarriedState | null {
    const way = this.#way;
    return way?.join ? { route: way.route, peer: way.peer } : null;
  }

  /** Packets that found no room, on all ways so far. */
  get dropped(): number {
    return this.#dropped + (this.#way?.join?.dropped ?? 0);
  }

  /** What rules said last, if that was no. */
  get denial(): SelvedgeError | null {
    return this.#denial?.error ?? null;
  }

  /** They said it so lately that they are not asked again yet. */
  get isDenied(): boolean {
    return this.#denial !== null && this.#options.timers.clock.now() < this.#denial.until_ms;
  }

  /** Rules may be others now. */
  rulesChanged(): void {
    this.#patience.reset();
    this.#denial = null;
  }

  say(word: CarryWord): void {
    const { wants, hears } = this.#word;
    if (word.wants === wants && word.hears === hears) return;
    this.#word = word;
    this.#way?.join?.say(word);
    this.#settle();
  }

  /** The peer opened a way. */
  take(flow: FlowHandle, rest: Uint8Array, route: CarryRoute): void {
    if (this.#isClosed) return flow.reset('shutting_down', 'the daemon stops');
    if (this.#prefersOwn(route)) return flow.reset('replaced', 'both ends opened a way; the other stays');
    this.#lose(new SelvedgeError('replaced'));
    void this.#join({ flow, isOwn: false, route, join: null, peer: null }, rest);
  }

  /** Both ends must come to the same answer: who goes through the tower knows why, and else the smaller id has its way. */
  #prefersOwn(route: CarryRoute): boolean {
    const way = this.#way;
    const { self, node } = this.#options;
    if (!way?.isOwn) return false;
    return way.route === route ? self < node : way.route === 'tower';
  }

  /** Takes the better route, if there is one now: while a channel is silent the tower's, and the channel's own else. Who only took a way opens one itself when that is silent. */
  channelsChanged(): void {
    const way = this.#way;
    const { node, routeTo } = this.#options;
    const route = routeTo(node);
    const isBetter = way !== null && route !== null && route !== way.route && (way.isOwn || route === 'tower');
    if (isBetter && this.#word.wants) this.#lose(new SelvedgeError('replaced'));
    if (this.#word.wants && this.#way === null && (isBetter || this.#cancelRetry === null || route !== this.#triedRoute)) {
      this.#backoff.reset();
      this.#open();
    }
  }

  #open(): void {
    const { node, self, mesh, routeTo } = this.#options;
    this.#cancelRetry?.();
    this.#cancelRetry = null;
    const route = routeTo(node);
    this.#triedRoute = route;
    if (route === null) return;
    try {
      const flow = openCarry(mesh, route === 'channel' ? node : TOWER_ID, { from: self, to: node });
      void this.#join({ flow, isOwn: true, route, join: null, peer: null }, new Uint8Array(0));
    } catch (error) {
      this.#failed(error);
    }
  }

  async #join(way: Way, rest: Uint8Array): Promise<void> {
    const { node, socketPath, timers, log, onChange } = this.#options;
    this.#way = way;
    void way.flow.closed.then((error) => {
      if (this.#way === way && way.join === null) this.#ended(way, error);
    });
    try {
      const socket = await CarrySocket.open(socketPath, node, timers);
      if (this.#way !== way) return void socket.destroy();
      way.join = new CarryJoin({
        flow: way.flow,
        rest,
        socket,
        timers,
        onWord: (word) => {
          way.peer = word;
          this.#backoff.reset();
          this.rulesChanged();
          this.#settle();
          onChange();
        },
        onEnd: (error) => this.#ended(way, error),
      });
      way.join.say(this.#word);
      log('carried path open', { peer: node, route: way.route, opened_by: way.isOwn ? 'this end' : 'the peer' });
      onChange();
    } catch (error) {
      const why = asSelvedgeError(error, 'tunnel_unreachable', { path: socketPath });
      way.flow.reset(why.code, why.message);
      this.#ended(way, why);
    }
  }

  #ended(way: Way, error: SelvedgeError | null): void {
    if (this.#way !== way) return;
    this.#forget(way);
    if (error !== null) this.#failed(error);
    else this.#options.log('carried path ended', { peer: this.#options.node, dropped: way.join?.dropped ?? 0 });
    if (error === null && this.#word.wants) this.#retry();
    this.#options.onChange();
  }

  #failed(error: unknown): void {
    const why = asSelvedgeError(error, 'flow_lost');
    const { code, message } = why;
    // Losing against the peer's own way is no failure.
    if (code !== 'replaced' && !this.#isClosed) this.#options.log('carried path lost', { peer: this.#options.node, code, reason: message });
    if (code === 'channel_class_denied') {
      this.#denial = { error: why, until_ms: this.#options.timers.clock.now() + this.#patience.next() };
      this.#options.onChange();
    } else if (this.#word.wants) this.#retry();
  }

  #forget(way: Way): void {
    this.#way = null;
    this.#dropped += way.join?.dropped ?? 0;
  }

  #retry(): void {
    if (this.#isClosed || this.#cancelRetry !== null) return;
    this.#cancelRetry = this.#options.timers.after(this.#backoff.next(), () => {
      this.#cancelRetry = null;
      if (this.#word.wants && this.#way === null) this.#open();
    });
  }

  /** Opens what is wanted; ends what nobody wants. */
  #settle(): void {
    const way = this.#way;
    if (way === null) {
      if (this.#word.wants && this.#cancelRetry === null) this.#open();
    } else if (!this.#word.wants && way.peer?.wants === false) way.join?.close();
  }

  #lose(error: SelvedgeError): void {
    const way = this.#way;
    if (way === null) return;
    this.#forget(way);
    if (way.join) way.join.close(error);
    else way.flow.reset(error.code, error.message);
  }

  /** Idempotent. */
  close(error: SelvedgeError): void {
    this.#isClosed = true;
    this.#cancelRetry?.();
    this.#lose(error);
  }
}
