/**
 * Two channels joined by sessions that are made of nothing but the virtual clock: each with its delay, rate and shape, to be cut, to go
 * silent, to be replaced. Sources of one session may overtake each other, as QUIC's streams do; octets arrive in pieces of any size.
 */
import { SelvedgeError } from '../../../src/base/errors.ts';
import { Channel, type ChannelEvent, type ChannelOptions, type Transmit } from '../../../src/channel/channel.ts';
import type { Flow } from '../../../src/channel/flow.ts';
import { Agenda } from '../../../src/lab/sim/agenda.ts';

export interface WireOptions {
  /** `streams`: a source for each flow and one for control, which overtake each other. `lanes`: two sources. */
  readonly sources?: 'streams' | 'lanes';
  readonly delay_ms?: number;
  /** Added to each source's delay, anew for each frame, in order within the source. */
  readonly jitter_ms?: number;
  /** Octets per millisecond, each way; unlimited if absent. */
  readonly rate?: number;
  /** Octets that may wait to leave, each way and lane, before the session says that it is not ready. */
  readonly unsent_bytes_max?: number;
  /** Octets arrive in pieces of random size. */
  readonly isSplit?: boolean;
}

export type EndName = 'a' | 'b';
export type AttachMode = 'new' | 'resume' | 'migrate';

const TIMER_MS_MIN = 0.01;

/** One end: the channel, what its application was told, and its timer. */
export class End {
  readonly name: EndName;
  readonly channel: Channel;
  readonly world: Agenda;
  readonly wires = new Map<number, Wire>();
  readonly events: ChannelEvent[] = [];
  readonly accepted: Flow[] = [];
  onEvent: (event: ChannelEvent) => void = () => {};
  /** Sees each frame on its way out. */
  onTransmit: (frame: Transmit) => void = () => {};
  #cancelTimer: () => void = () => {};
  readonly #wakes: number[] = [];

  constructor(name: EndName, world: Agenda, options: ChannelOptions) {
    this.name = name;
    this.world = world;
    this.channel = new Channel(options);
  }

  /** Runs what an application does, and moves what follows from it. */
  do<T>(action: (channel: Channel) => T): T {
    const result = action(this.channel);
    this.pump();
    return result;
  }

  open(...args: Parameters<Channel['open']>): Flow {
    return this.do((channel) => channel.open(...args));
  }

  pump(): void {
    let frames = 0;
    for (let isMore = true; isMore; ) {
      isMore = false;
      for (let event = this.channel.pollEvent(); event !== null; event = this.channel.pollEvent()) {
        isMore = true;
        this.events.push(event);
        if (event.type === 'flow') this.accepted.push(event.flow);
        if (event.type === 'finish') this.wires.get(event.key)?.finish(this);
        if (event.type === 'drop') this.wires.get(event.key)?.close(this, event.error);
        if (event.type === 'ended') for (const wire of this.wires.values()) wire.endFlow(this, event.flow.id);
        this.onEvent(event);
      }
      for (let frame = this.channel.pollTransmit(this.world.now); frame !== null; frame = this.channel.pollTransmit(this.world.now)) {
        isMore = true;
        if (++frames > 100_000) throw new Error(`frames without end: flow ${frame.flow}, ${frame.head}`);
        this.onTransmit(frame);
        this.wires.get(frame.key)?.send(this, frame);
      }
    }
    this.#cancelTimer();
    this.#cancelTimer = () => {};
    const at = this.channel.pollTimeout(this.world.now);
    if (at === null) return;
    // No real timer is exact to less than this.
    this.#cancelTimer = this.world.at(Math.max(at, this.world.now + TIMER_MS_MIN), () => {
      this.#wakes.push(this.world.now);
      if (this.#wakes.length > 100 && (this.#wakes.shift() as number) > this.world.now - 1.5)
        throw new Error(`end ${this.name} is woken again and again at ${this.world.now}`);
      this.channel.handleTimeout(this.world.now);
      this.pump();
    });
  }

  states(): string[] {
    return this.events.flatMap((event) => (event.type === 'state' ? [event.state] : []));
  }

  count(type: ChannelEvent['type']): number {
    return this.events.filter((event) => event.type === type).length;
  }

  get failure(): SelvedgeError | null {
    for (const event of this.events) if (event.type === 'state' && event.state === 'failed') return event.error;
    return null;
  }
}

interface Way {
  freeAt: number;
  readonly unsent: Record<'urgent' | 'bulk', number>;
  /** Sources that have been used, and when their last octets arrive. */
  readonly arrivals: Map<number, number>;
  hasFinished: boolean;
  isFinishTold: boolean;
}

const newWay = (): Way => ({ freeAt: 0, unsent: { urgent: 0, bulk: 0 }, arrivals: new Map(), hasFinished: false, isFinishTold: false });

export class Wire {
  readonly key: number;
  readonly #pair: Pair;
  readonly #options: Required<WireOptions>;
  readonly #ways = { a: newWay(), b: newWay() };
  #isGone = false;
  /** Nothing arrives any more, and nobody is told. */
  isSilent = false;
  /** Octets that arrived, each way. */
  readonly delivered = { a: 0, b: 0 };
  /** What came before the dialer had the accept, as the greeting keeps it. */
  #early: (() => void)[] | null = [];

  constructor(pair: Pair, key: number, options: WireOptions) {
    this.#pair = pair;
    this.key = key;
    this.#options = {
      sources: 'streams',
      delay_ms: 10,
      jitter_ms: 0,
      rate: Number.POSITIVE_INFINITY,
      unsent_bytes_max: 256 * 1024,
      isSplit: false,
      ...options,
    };
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  send(from: End, frame: Transmit): void {
    const way = this.#ways[from.name];
    if (this.#isGone || way.hasFinished) return;
    const { world } = this.#pair;
    const bytes = new Uint8Array(frame.head.length + (frame.body?.length ?? 0));
    bytes.set(frame.head);
    if (frame.body) bytes.set(frame.body, frame.head.length);
    const source = this.#options.sources === 'streams' ? frame.flow : frame.lane === 'urgent' ? 0 : 1;
    const leaves = Math.max(way.freeAt, world.now) + bytes.length / this.#options.rate;
    way.freeAt = leaves;
    way.unsent[frame.lane] += bytes.length;
    if (way.unsent[frame.lane] >= this.#options.unsent_bytes_max) from.channel.setReady(this.key, frame.lane, false);
    world.at(leaves, () => {
      way.unsent[frame.lane] -= bytes.length;
      if (this.#isGone || way.unsent[frame.lane] >= this.#options.unsent_bytes_max) return;
      from.channel.setReady(this.key, frame.lane, true);
      from.pump();
    });
    this.#arriveIn(way, source, leaves, () => this.#deliver(from, source, bytes));
  }

  #arriveIn(way: Way, source: number, leaves: number, action: () => void): void {
    const { world } = this.#pair;
    const arrives = Math.max(way.arrivals.get(source) ?? 0, leaves + this.#options.delay_ms + world.random.unit() * this.#options.jitter_ms);
    way.arrivals.set(source, arrives);
    world.at(arrives, () => {
      if (!this.#isGone && !this.isSilent) action();
    });
  }

  /** The dialer has attached: it hears what came before. */
  releaseEarly(): void {
    const early = this.#early ?? [];
    this.#early = null;
    for (const tell of early) tell();
  }

  #deliver(from: End, source: number, bytes: Uint8Array): void {
    const to = this.#pair.other(from);
    const { world } = this.#pair;
    if (to.name === 'a' && this.#early) {
      this.#early.push(() => this.#deliver(from, source, bytes));
      return;
    }
    this.delivered[to.name] += bytes.length;
    if (!this.#options.isSplit) to.channel.receive(world.now, this.key, source, bytes);
    else {
      for (let at = 0; at < bytes.length; ) {
        const count = 1 + world.random.below(world.random.below(4) === 0 ? 8 : 3_000);
        to.channel.receive(world.now, this.key, source, bytes.slice(at, at + count));
        at += count;
      }
    }
    to.pump();
  }

  /** The flow's own source ends. */
  endFlow(from: End, flow: number): void {
    const way = this.#ways[from.name];
    if (this.#isGone || way.hasFinished || this.#options.sources === 'lanes' || !way.arrivals.has(flow)) return;
    this.#arriveIn(way, flow, this.#pair.world.now, () => this.#deliverEnd(from, flow));
    way.arrivals.delete(flow);
  }

  #deliverEnd(from: End, source: number): void {
    const to = this.#pair.other(from);
    if (to.name === 'a' && this.#early) this.#early.push(() => this.#deliverEnd(from, source));
    else to.do((channel) => channel.sourceEnded(this.#pair.world.now, this.key, source));
  }

  /** This end writes no more; when both have said so and all has arrived, both are told. */
  finish(from: End): void {
    const way = this.#ways[from.name];
    if (this.#isGone || way.hasFinished) return;
    way.hasFinished = true;
    const last = Math.max(way.freeAt, ...way.arrivals.values(), this.#pair.world.now);
    this.#arriveIn(way, -9, last, () => {
      way.isFinishTold = true;
      if (!this.#ways.a.isFinishTold || !this.#ways.b.isFinishTold) return;
      this.#isGone = true;
      for (const end of this.#pair.ends) {
        end.wires.delete(this.key);
        end.channel.sessionFinished(this.#pair.world.now, this.key);
        end.pump();
      }
    });
  }

  /** One end gives it up; the other hears of it a little later. What is under way is lost. */
  close(from: End, error: SelvedgeError): void {
    if (this.#isGone) return;
    this.#isGone = true;
    from.wires.delete(this.key);
    const to = this.#pair.other(from);
    this.#pair.world.at(this.#pair.world.now + this.#options.delay_ms, () => this.#lose(to, error));
  }

  /** The path is gone. Each end notices after its own time. */
  cut(notice_ms: { a: number; b: number } = { a: 0, b: 0 }): void {
    if (this.#isGone) return;
    this.#isGone = true;
    const error = new SelvedgeError('network_unreachable', { peer: 'test', why: 'path cut' });
    for (const end of this.#pair.ends) this.#pair.world.at(this.#pair.world.now + notice_ms[end.name], () => this.#lose(end, error));
  }

  #lose(end: End, error: SelvedgeError): void {
    if (!end.wires.delete(this.key)) return;
    end.channel.sessionLost(this.#pair.world.now, this.key, error);
    end.pump();
  }
}

export interface PairOptions {
  readonly seed?: number;
  readonly isGoverned?: boolean;
  readonly authorize?: ChannelOptions['authorize'];
  /** Leaves both channels idle. */
  readonly isIdle?: boolean;
}

export class Pair {
  readonly world: Agenda;
  readonly a: End;
  readonly b: End;
  #nextKey = 1;

  constructor(options: PairOptions = {}) {
    this.world = new Agenda(options.seed ?? 1);
    const shared = { random: this.world.random, now: this.world.now, isGoverned: options.isGoverned ?? false, authorize: options.authorize ?? (() => null) };
    this.a = new End('a', this.world, { ...shared, side: 'dialer', self: 'aaaaaaaaaaaa', peer: 'bbbbbbbbbbbb' });
    this.b = new End('b', this.world, { ...shared, side: 'acceptor', self: 'bbbbbbbbbbbb', peer: 'aaaaaaaaaaaa' });
    if (options.isIdle) return;
    for (const cause of ['dial', 'connected', 'handshaken', 'authenticated', 'authorized'] as const) this.a.channel.move(cause);
    for (const cause of ['accept', 'handshaken', 'authenticated', 'authorized'] as const) this.b.channel.move(cause);
  }

  get ends(): readonly [End, End] {
    return [this.a, this.b];
  }

  other(end: End): End {
    return end === this.a ? this.b : this.a;
  }

  /** The dialer greets one session after another: until then it brings no other. */
  isGreeting = false;

  /** A new session carries the channel. The acceptor attaches first; the dialer when the accept has arrived. */
  attach(mode: AttachMode, options: WireOptions = {}, accept_ms = 0): Wire {
    const wire = new Wire(this, this.#nextKey++, options);
    const shape = { transport: 'memory', chunkBytesMax: options.sources === 'lanes' ? 16 * 1024 : 64 * 1024 };
    const attachDialer = (): void => {
      this.isGreeting = false;
      if (wire.isGone) return;
      this.a.wires.set(wire.key, wire);
      this.a.channel.attach(this.world.now, wire.key, shape, mode);
      wire.releaseEarly();
      this.a.pump();
    };
    this.isGreeting = true;
    this.b.wires.set(wire.key, wire);
    this.b.channel.attach(this.world.now, wire.key, shape, mode);
    if (accept_ms === 0) attachDialer();
    else this.world.at(this.world.now + accept_ms, attachDialer);
    this.b.pump();
    return wire;
  }

  /** Ends both channels and lists what is still there that should not be. */
  leftovers(): string[] {
    for (const end of this.ends) end.do((channel) => channel.close('channel_closed', 'test over'));
    this.world.run(120_000);
    const left: string[] = [];
    for (const end of this.ends) {
      if ([...end.channel.flows].length > 0) left.push(`${end.name}: flows`);
      if (end.channel.pollEvent() !== null) left.push(`${end.name}: events`);
      if (end.channel.pollTransmit(this.world.now) !== null) left.push(`${end.name}: frames`);
      if (end.channel.pollTimeout(this.world.now) !== null) left.push(`${end.name}: a timer`);
      if (end.wires.size > 0) left.push(`${end.name}: sessions`);
    }
    if (this.world.planned > 0) left.push(`${this.world.planned} actions planned`);
    return left;
  }
}
