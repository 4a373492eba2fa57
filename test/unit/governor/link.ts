/**
 * A simulated bottleneck and the flows on it, under a virtual clock and from one seed: the governor's test bench. Times in ms, rates
 * in bytes per ms. The link is exact (departure times, tail drop in bytes); sender ticks and receivers jitter as event loops do.
 */
import { Governor, GovernorReceiver, type GovernorOptions, stampOf } from '../../../src/channel/governor.ts';

/** Headers of a packet on the wire (IP, UDP or TCP, QUIC or TLS, frame): at most 96 % of a line is payload. */
const HEAD_BYTES = 54;
const PACKET_BYTES = 1_300;

export const mbit = (rate: number): number => rate * 125;

/** Mulberry32. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
}

/** Events in the order of their times. */
export class Simulation {
  now = 0;
  readonly random: () => number;
  #heap: { time: number; order: number; run: () => void }[] = [];
  #order = 0;

  constructor(seed = 1) {
    this.random = seeded(seed);
  }

  at(time: number, run: () => void): void {
    const heap = this.#heap;
    const event = { time: Math.max(time, this.now), order: this.#order++, run };
    let at = heap.length;
    heap.push(event);
    while (at > 0) {
      const up = (at - 1) >> 1;
      if (!this.#before(event, heap[up])) break;
      heap[at] = heap[up] as typeof event;
      at = up;
    }
    heap[at] = event;
  }

  run(until: number): void {
    while (this.#heap[0] !== undefined && this.#heap[0].time <= until) {
      const event = this.#pop();
      this.now = event.time;
      event.run();
    }
    this.now = until;
  }

  #before(left: { time: number; order: number }, right: { time: number; order: number } | undefined): boolean {
    return right === undefined || left.time < right.time || (left.time === right.time && left.order < right.order);
  }

  #pop(): { time: number; order: number; run: () => void } {
    const heap = this.#heap;
    const top = heap[0] as (typeof heap)[0];
    const moved = heap.pop() as (typeof heap)[0];
    if (heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= heap.length) break;
      if (down + 1 < heap.length && this.#before(heap[down + 1] as typeof moved, heap[down])) down++;
      if (this.#before(moved, heap[down])) break;
      heap[at] = heap[down] as typeof moved;
      at = down;
    }
    heap[at] = moved;
    return top;
  }
}

export interface LinkOptions {
  /** Rates from given times on, in order; the first from 0. */
  readonly rates: readonly { from: number; rate: number }[];
  readonly delay_ms: number;
  /** Tail-drop queue: so long at the first rate. */
  readonly queue_ms: number;
  readonly loss?: number;
  /** Extra delay on the way there that is no queue of the link: what clocks, ticks and larger frames add from some time on. */
  readonly noise?: (now: number) => number;
  /** Extra delay on the way back: other traffic's queue there. */
  readonly backQueue?: (now: number) => number;
}

export class Link {
  readonly #sim: Simulation;
  readonly #options: LinkOptions;
  readonly #queue_bytes: number;
  #free_at = 0;

  constructor(sim: Simulation, options: LinkOptions) {
    this.#sim = sim;
    this.#options = options;
    this.#queue_bytes = options.queue_ms * this.rateAt(0);
  }

  rateAt(time: number): number {
    return (this.#options.rates.findLast((step) => step.from <= time) ?? { rate: 0 }).rate;
  }

  /** What a packet that came now would wait. */
  get wait_ms(): number {
    return Math.max(0, this.#free_at - this.#sim.now);
  }

  get delay_ms(): number {
    return this.#options.delay_ms;
  }

  /** One way back. */
  get back_ms(): number {
    return this.#options.delay_ms + (this.#options.backQueue?.(this.#sim.now) ?? 0);
  }

  /** Arrival time at the far end, and whether it gets there. */
  transmit(bytes: number): { arrives: number; lost: boolean } {
    const begin = Math.max(this.#sim.now, this.#free_at);
    if (this.#between(this.#sim.now, begin) + bytes > this.#queue_bytes) return { arrives: begin + this.delay_ms, lost: true };
    this.#free_at = this.#departure(begin, bytes);
    return { arrives: this.#free_at + this.delay_ms + (this.#options.noise?.(this.#sim.now) ?? 0), lost: this.#sim.random() < (this.#options.loss ?? 0) };
  }

  #departure(begin: number, bytes: number): number {
    let time = begin;
    let left = bytes;
    for (const step of this.#options.rates.filter((next) => next.from > begin)) {
      const carried = (step.from - time) * this.rateAt(time);
      if (carried >= left) break;
      left -= carried;
      time = step.from;
    }
    return time + left / this.rateAt(time);
  }

  #between(from: number, to: number): number {
    let bytes = 0;
    let time = from;
    for (const step of this.#options.rates.filter((next) => next.from > from && next.from < to)) {
      bytes += (step.from - time) * this.rateAt(time);
      time = step.from;
    }
    return bytes + (to - time) * this.rateAt(time);
  }
}

interface Packet {
  readonly index: number;
  readonly bytes: number;
  /** Set on the last packet of a frame. */
  readonly frame: { stamp_us: number; bytes: number } | null;
}

export interface FlowOptions {
  /** Feedback: packet by packet as QUIC's stack sees it, or the receiver's reports alone. */
  readonly feedback: 'quic' | 'tcp';
  readonly governor?: GovernorOptions;
  readonly start?: number;
  readonly stop?: number;
  /** Runs ungoverned with this many bytes in flight until then. */
  readonly ungoverned?: { until: number; in_flight_bytes: number };
  /** Whether there are data to send; always if absent. */
  readonly hasData?: (now: number) => boolean;
  /** Most bytes per ms that the application makes. */
  readonly app_rate?: number;
  readonly clock?: { offset_ms: number; skew: number };
  /** Longest pause of the sender's event loop. */
  readonly pause_ms?: number;
  /** Part of its turns that pause. */
  readonly pause_part?: number;
  /** The session below paces, and is handed so much ahead. */
  readonly lead_ms?: number;
}

/** A bulk flow with a governor at its sender. */
export class GovernedFlow {
  readonly delivered: { time: number; bytes: number }[] = [];
  governor: Governor | null = null;
  received_bytes = 0;
  readonly #sim: Simulation;
  readonly #link: Link;
  readonly #options: FlowOptions;
  readonly #receiver = new GovernorReceiver();
  readonly #waiting: Packet[] = [];
  readonly #early = new Map<number, Packet>();
  #next_index = 0;
  #expected = 0;
  #in_flight = 0;
  #sent_bytes = 0;
  #reported = 0;
  #poll_at = Number.POSITIVE_INFINITY;
  #app_bytes = 0;
  #paced_until = 0;
  #isPaceAwaited = false;
  #app_at = 0;
  #path = { rtt_min_ms: null as number | null, rtt_latest_ms: null as number | null, acked_bytes: 0, lost_bytes: 0, sent_bytes: 0, held_back_bytes: 0 };

  constructor(sim: Simulation, link: Link, options: FlowOptions) {
    this.#sim = sim;
    this.#link = link;
    this.#options = options;
    sim.at(options.start ?? 0, () => this.#tick());
  }

  #tick(): void {
    const { now, random } = this.#sim;
    if (now >= (this.#options.stop ?? Number.POSITIVE_INFINITY)) return;
    if (now < (this.#options.ungoverned?.until ?? 0)) this.#sendUngoverned();
    else this.#sendGoverned(now);
    const pause = random() < (this.#options.pause_part ?? 0.01) ? random() * (this.#options.pause_ms ?? 4) : 0;
    this.#sim.at(now + 1 + random() * 0.2 + pause, () => this.#tick());
  }

  #sendUngoverned(): void {
    const { in_flight_bytes, until } = this.#options.ungoverned ?? { in_flight_bytes: 0, until: 1 };
    const limit = in_flight_bytes * Math.min(1, (2 * this.#sim.now) / until);
    while (this.#sent_bytes - this.#reported < limit) this.#sendFrame(4_000);
  }

  #sendGoverned(now: number): void {
    this.governor ??= new Governor(now, { sent_bytes: this.#sent_bytes, lead_ms: this.#options.lead_ms ?? 0, ...this.#options.governor });
    const governor = this.governor;
    if (this.#options.feedback === 'quic') {
      const held_back_bytes = this.#waiting.reduce((sum, packet) => sum + packet.bytes - HEAD_BYTES, 0);
      governor.onPathSample(now, { ...this.#path, held_back_bytes });
      this.#path = { rtt_min_ms: null, rtt_latest_ms: null, acked_bytes: 0, lost_bytes: 0, sent_bytes: 0, held_back_bytes: 0 };
    }
    if (this.#options.app_rate !== undefined) {
      this.#app_bytes = Math.min(this.#app_bytes + (now - this.#app_at) * this.#options.app_rate, 64_000);
      this.#app_at = now;
    }
    for (;;) {
      const allowed = governor.allowance(now);
      if (allowed === 0) break;
      const bytes = Math.min(allowed, governor.frame_bytes);
      if (!(this.#options.hasData?.(now) ?? true) || (this.#options.app_rate !== undefined && this.#app_bytes < bytes)) {
        governor.onAppLimited(now);
        break;
      }
      this.#app_bytes -= bytes;
      this.#sendFrame(bytes);
      governor.onSent(now, bytes);
    }
    this.#flush();
  }

  #sendFrame(bytes: number): void {
    const stamp_us = stampOf(this.#sim.now);
    this.#sent_bytes += bytes;
    for (let left = bytes; left > 0; left -= PACKET_BYTES) {
      const frame = left <= PACKET_BYTES ? { stamp_us, bytes } : null;
      this.#waiting.push({ index: this.#next_index++, bytes: Math.min(left, PACKET_BYTES) + HEAD_BYTES, frame });
    }
    if (this.governor === null) this.#flush();
  }

  /** What the stack's congestion window lets go. */
  #flush(): void {
    const window = this.#options.feedback === 'quic' && this.governor !== null ? this.governor.congestion_window_bytes : Number.POSITIVE_INFINITY;
    while (this.#in_flight < window) {
      const [next] = this.#waiting;
      if (next === undefined || !this.#isPaceOpen(next.bytes - HEAD_BYTES)) return;
      const packet = this.#waiting.shift() as Packet;
      this.#transmit(packet);
    }
  }

  /** The session's own pacer: exact to a fifth of a millisecond. */
  #isPaceOpen(bytes: number): boolean {
    if (this.#options.lead_ms === undefined || this.governor === null) return true;
    const now = this.#sim.now;
    if (this.#paced_until > now) {
      if (!this.#isPaceAwaited) this.#sim.at(this.#paced_until + this.#sim.random() * 0.2, () => this.#onPace());
      this.#isPaceAwaited = true;
      return false;
    }
    this.#paced_until = Math.max(this.#paced_until, now - 1) + bytes / (this.governor.rate_bytes_per_s / 1_000);
    return true;
  }

  #onPace(): void {
    this.#isPaceAwaited = false;
    this.#flush();
  }

  #transmit(packet: Packet): void {
    const left_at = this.#sim.now;
    this.#in_flight += packet.bytes;
    this.#path.sent_bytes += packet.bytes;
    const { arrives, lost } = this.#link.transmit(packet.bytes);
    if (lost) {
      const rtt = arrives - left_at + this.#link.back_ms;
      this.#sim.at(left_at + rtt * 1.125, () => this.#onLost(packet));
      return;
    }
    this.#sim.at(arrives + this.#sim.random() * 0.3, () => {
      this.#onArrival(packet);
      this.#sim.at(this.#sim.now + this.#sim.random() + this.#link.back_ms, () => this.#onAck(packet, left_at));
    });
  }

  #onAck(packet: Packet, left_at: number): void {
    const rtt = this.#sim.now - left_at;
    this.#in_flight -= packet.bytes;
    this.#path.acked_bytes += packet.bytes;
    this.#path.rtt_latest_ms = rtt;
    this.#path.rtt_min_ms = Math.min(rtt, this.#path.rtt_min_ms ?? rtt);
    this.#flush();
  }

  #onLost(packet: Packet): void {
    this.#in_flight -= packet.bytes;
    this.#path.lost_bytes += packet.bytes;
    this.#waiting.unshift(packet);
    this.#flush();
  }

  #onArrival(packet: Packet): void {
    this.#early.set(packet.index, packet);
    const { offset_ms, skew } = this.#options.clock ?? { offset_ms: 12_345, skew: 0 };
    for (let next = this.#early.get(this.#expected); next !== undefined; next = this.#early.get(this.#expected)) {
      this.#early.delete(this.#expected++);
      if (next.frame === null) continue;
      this.#receiver.onBulkFrame(offset_ms + this.#sim.now * (1 + skew), next.frame.stamp_us, next.frame.bytes);
      this.received_bytes += next.frame.bytes;
      this.delivered.push({ time: this.#sim.now, bytes: next.frame.bytes });
    }
    this.#poll();
  }

  #poll(): void {
    const { offset_ms, skew } = this.#options.clock ?? { offset_ms: 12_345, skew: 0 };
    const there = offset_ms + this.#sim.now * (1 + skew);
    const report = this.#receiver.pollReport(there);
    if (report !== null) {
      this.#sim.at(this.#sim.now + this.#link.back_ms, () => {
        this.#reported = report.bytes;
        this.governor?.onReport(this.#sim.now, report);
      });
    }
    const due = this.#receiver.nextTime(there);
    if (due === null) return;
    const at = this.#sim.now + (due - there) + 0.01;
    if (this.#poll_at > this.#sim.now && this.#poll_at <= at) return;
    this.#poll_at = at;
    this.#sim.at(at, () => this.#poll());
  }
}

/** A foreign flow with Cubic's window and no manners. */
export class CubicFlow {
  received_bytes = 0;
  readonly #sim: Simulation;
  readonly #link: Link;
  #window = 10;
  #top = 0;
  #lost_at: number | null = null;
  #in_flight = 0;
  readonly #stop: number;

  constructor(sim: Simulation, link: Link, options: { start?: number; stop?: number } = {}) {
    this.#sim = sim;
    this.#link = link;
    this.#stop = options.stop ?? Number.POSITIVE_INFINITY;
    sim.at(options.start ?? 0, () => this.#send());
  }

  #send(): void {
    while (this.#in_flight < this.#window && this.#sim.now < this.#stop) {
      this.#in_flight++;
      const left_at = this.#sim.now;
      const { arrives, lost } = this.#link.transmit(PACKET_BYTES + HEAD_BYTES);
      this.#sim.at(arrives + this.#link.back_ms, () => this.#onFeedback(lost, left_at));
    }
  }

  #onFeedback(lost: boolean, left_at: number): void {
    this.#in_flight--;
    if (lost) {
      if (this.#lost_at === null || left_at > this.#lost_at) {
        this.#top = this.#window;
        this.#window = Math.max(2, this.#window * 0.7);
        this.#lost_at = this.#sim.now;
      }
    } else {
      this.received_bytes += PACKET_BYTES;
      if (this.#lost_at === null) this.#window += 1;
      else {
        const plateau = Math.cbrt((this.#top * 0.3) / 0.4);
        const cubic = 0.4 * ((this.#sim.now - this.#lost_at) / 1000 - plateau) ** 3 + this.#top;
        if (cubic > this.#window) this.#window += (cubic - this.#window) / this.#window;
      }
    }
    this.#send();
  }
}

export interface Measured {
  readonly p50_ms: number;
  readonly p99_ms: number;
  readonly max_ms: number;
  /** Payload, of what the line carries. */
  readonly share: number;
}

/** What a small packet would wait at the link, sampled 200 times a second at random moments. */
export function watchQueue(
  sim: Simulation,
  link: Link,
  from: number,
  to: number,
): { result(received_bytes: number): Measured; waits: { time: number; wait: number }[] } {
  const waits: { time: number; wait: number }[] = [];
  const look = (): void => {
    waits.push({ time: sim.now, wait: link.wait_ms });
    if (sim.now < to) sim.at(sim.now + sim.random() * 10, look);
  };
  sim.at(from, look);
  return {
    waits,
    result(received_bytes: number): Measured {
      const sorted = waits.map((sample) => sample.wait).sort((left, right) => left - right);
      const at = (part: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
      return { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1), share: received_bytes / ((to - from) * link.rateAt(from)) };
    },
  };
}

export function receivedBetween(flow: GovernedFlow, from: number, to: number): number {
  return flow.delivered.reduce((sum, part) => sum + (part.time >= from && part.time < to ? part.bytes : 0), 0);
}

/** One governed flow on one link, measured from `from` to `to`. */
export function measureOne(options: {
  link: LinkOptions;
  flow: FlowOptions;
  from: number;
  to: number;
  seed?: number;
}): Measured & { flow: GovernedFlow; waits: { time: number; wait: number }[] } {
  const sim = new Simulation(options.seed ?? 1);
  const link = new Link(sim, options.link);
  const flow = new GovernedFlow(sim, link, options.flow);
  const queue = watchQueue(sim, link, options.from, options.to);
  sim.run(options.to);
  return { ...queue.result(receivedBetween(flow, options.from, options.to)), flow, waits: queue.waits };
}
