/** `FlowHandle`: what an application holds of a flow. Reads and writes are plain calls; only waiting is a promise. */
import type { ErrorCode, SelvedgeError } from '../base/errors.ts';
import type { FlowKind, TrafficClass } from '../channel/classes.ts';
import type { Flow } from '../channel/flow.ts';

export interface FlowHandle {
  readonly class: TrafficClass;
  readonly kind: FlowKind;
  readonly service: string;
  /** Node id of the other end. */
  readonly peer: string;
  /** `stream`: queues octets, which are the flow's from here on. False: wait for `drained`. @throws handle_closed, or why the flow ended */
  write(bytes: Uint8Array): boolean;
  /** Resolves when more may be written, or the flow has ended. */
  drained(): Promise<void>;
  /** `stream`: the next octets in order; null: none now. */
  read(): Uint8Array | null;
  /** `stream`: copies the next octets into `into`, and says how many; 0: none now. For much: unlike `read` it makes no garbage. */
  readInto(into: Uint8Array): number;
  /** Resolves to true when `read` (or `receive`) has something, to false when nothing more will come. */
  readable(): Promise<boolean>;
  /** One whole message, frame or datagram. False: wait for `drained` (messages), or it was dropped (datagrams). */
  send(message: Uint8Array): boolean;
  /** The next message, frame or datagram; null: the flow has ended. */
  receive(): Promise<Uint8Array | null>;
  /** Finishes this direction. */
  end(): void;
  reset(code: ErrorCode, why: string): void;
  /** Octets written so far. */
  readonly written: number;
  /** Octets that the peer has consumed, of those written. */
  readonly acknowledged: number;
  /** Null: both directions finished. Never rejects. */
  readonly closed: Promise<SelvedgeError | null>;
}

/** What a reader waits for: told what `#readableNow` or `#take` says once that is not "wait". */
type Waiter<T> = (answer: T) => void;

/**
 * The handle of one core flow; `pump` is called after what may have made work for the carrier. A waiting reader is answered with what it
 * waits for, not woken to look: between the octets' arrival and the application lies one turn of the microtask queue.
 */
export class CarriedFlow implements FlowHandle {
  readonly #flow: Flow;
  readonly #pump: () => void;
  readonly peer: string;
  readonly closed: Promise<SelvedgeError | null>;
  #close: (error: SelvedgeError | null) => void = () => {};
  #drainWaiters: Waiter<void>[] = [];
  #readers: Waiter<boolean>[] = [];
  #receivers: Waiter<Uint8Array | null>[] = [];

  constructor(flow: Flow, peer: string, pump: () => void) {
    this.#flow = flow;
    this.#pump = pump;
    this.peer = peer;
    this.closed = new Promise((resolve) => {
      this.#close = resolve;
    });
  }

  get class(): TrafficClass {
    return this.#flow.class;
  }

  get kind(): FlowKind {
    return this.#flow.kind;
  }

  get service(): string {
    return this.#flow.service;
  }

  get written(): number {
    return this.#flow.send?.end ?? 0;
  }

  get acknowledged(): number {
    return this.#flow.send?.acknowledged ?? 0;
  }

  write(bytes: Uint8Array): boolean {
    const wantsMore = this.#flow.write(bytes);
    this.#pump();
    return wantsMore;
  }

  send(message: Uint8Array): boolean {
    const isTaken = this.#flow.sendMessage(message);
    this.#pump();
    return isTaken;
  }

  async drained(): Promise<void> {
    while (!this.#flow.isEnded && this.#flow.wantsDrain) await new Promise<void>((resolve) => this.#drainWaiters.push(resolve));
  }

  read(): Uint8Array | null {
    const bytes = this.#flow.read();
    if (bytes) this.#pump();
    return bytes;
  }

  readInto(into: Uint8Array): number {
    const count = this.#flow.readInto(into);
    if (count > 0) this.#pump();
    return count;
  }

  readable(): Promise<boolean> {
    const now = this.#readableNow();
    return now === 'wait' ? new Promise((resolve) => this.#readers.push(resolve)) : Promise.resolve(now);
  }

  receive(): Promise<Uint8Array | null> {
    const now = this.#receivers.length > 0 ? 'wait' : this.#take();
    return now === 'wait' ? new Promise((resolve) => this.#receivers.push(resolve)) : Promise.resolve(now);
  }

  #readableNow(): boolean | 'wait' {
    if (this.#flow.isReadable) return true;
    return this.#isOver ? false : 'wait';
  }

  #take(): Uint8Array | null | 'wait' {
    const message = this.#flow.readMessage();
    this.#pump();
    if (message) return message;
    return this.#isOver ? null : 'wait';
  }

  get #isOver(): boolean {
    return this.#flow.isReadDone || this.#flow.isEnded;
  }

  end(): void {
    this.#flow.end();
    this.#pump();
  }

  reset(code: ErrorCode, why: string): void {
    this.#flow.reset(code, why);
    this.#pump();
  }

  // ---- the carrier's side

  tellReadable(): void {
    if (this.#readers.length > 0) {
      const now = this.#readableNow();
      if (now !== 'wait') for (const answer of this.#readers.splice(0)) answer(now);
    }
    while (this.#receivers.length > 0) {
      const now = this.#take();
      if (now === 'wait') return;
      this.#receivers.shift()?.(now);
    }
  }

  tellDrained(): void {
    for (const wake of this.#drainWaiters.splice(0)) wake();
  }

  tellEnded(): void {
    this.tellReadable();
    this.tellDrained();
    this.#close(this.#flow.error);
  }
}
