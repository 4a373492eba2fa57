/**
 * A flow: one conversation of one class and kind within a channel. It knows its octets and their bounds; of sessions it knows only
 * whether its opening has reached the peer. The channel moves frames in and out, the application reads and writes.
 */
import { ByteReader } from '../base/bytes.ts';
import { assert, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { classRow, type FlowKind, type TrafficClass } from './classes.ts';
import { encodeMessage } from './frame-encoder.ts';
import { LatestReceiver, LatestSender } from './latest.ts';
import { ReceiveHalf } from './receive-half.ts';
import { SendHalf } from './send-half.ts';

/** What a flow tells its channel: there is work, or its user ended it. */
export interface FlowOwner {
  flowHasWork(flow: Flow): void;
  flowConsumed(flow: Flow): void;
  flowReset(flow: Flow, code: ErrorCode, reason: string): void;
}

export class Flow {
  readonly id: number;
  readonly class: TrafficClass;
  readonly kind: FlowKind;
  readonly service: string;
  readonly isOwn: boolean;
  readonly isBulk: boolean;
  readonly send: SendHalf | null;
  readonly receive: ReceiveHalf | null;
  readonly latestOut: LatestSender | null;
  readonly latestIn: LatestReceiver | null;
  readonly datagramsOut: BoundedQueue | null;
  readonly datagramsIn: BoundedQueue | null;
  readonly #owner: FlowOwner;
  readonly #messages: MessageAssembler | null;

  /** The opening frame has to leave on the current session. */
  mustOpen: boolean;
  /** The session on which the opening frame left last. */
  openedOn: number | null = null;
  /** The session on which the peer first showed that it knows the flow; null until then. */
  knownSince: number | null = null;
  /** Why the flow ended; null while it lives or when it ended well. */
  error: SelvedgeError | null = null;
  isEnded = false;
  /** A writer was told to wait. */
  wantsDrain = false;
  /** The application was told that there is something to read. */
  wasTold = false;
  bytesOut = 0;
  bytesIn = 0;

  constructor(owner: FlowOwner, id: number, cls: TrafficClass, kind: FlowKind, service: string, isOwn: boolean) {
    this.#owner = owner;
    this.id = id;
    this.class = cls;
    this.kind = kind;
    this.service = service;
    this.isOwn = isOwn;
    this.isBulk = classRow(cls).bulk;
    this.mustOpen = isOwn;
    const isReliable = kind === 'stream' || kind === 'messages';
    this.send = isReliable ? new SendHalf() : null;
    this.receive = isReliable ? new ReceiveHalf(classRow(cls).wide ? limits.carry_window_bytes_max : limits.flow_window_bytes_initial) : null;
    this.#messages = kind === 'messages' ? new MessageAssembler() : null;
    this.latestOut = kind === 'latest' ? new LatestSender() : null;
    this.latestIn = kind === 'latest' ? new LatestReceiver() : null;
    this.datagramsOut = kind === 'datagrams' ? new BoundedQueue(limits.flow_datagram_queue_bytes_max) : null;
    this.datagramsIn = kind === 'datagrams' ? new BoundedQueue(limits.flow_datagram_queue_bytes_max) : null;
  }

  get hasWork(): boolean {
    return this.mustOpen || (this.send?.isReady ?? this.latestOut?.isReady ?? this.datagramsOut?.isEmpty === false);
  }

  /** Frames of a `latest` flow that newer ones took the place of, at this end. */
  get staleDropped(): number {
    return (this.latestOut?.dropped ?? 0) + (this.latestIn?.dropped ?? 0);
  }

  // ---- the application's side

  /** Queues octets of a `stream`. False: wait until told `drained`. The array belongs to the flow from here on. */
  write(bytes: Uint8Array): boolean {
    this.#checkOpen();
    assert(this.kind === 'stream' && this.send, 'write on a flow that is not a stream');
    return this.#wrote(this.send.write(bytes));
  }

  /** One whole message, frame or datagram. False: wait until told `drained` (messages), or it was dropped here (datagrams). */
  sendMessage(message: Uint8Array): boolean {
    this.#checkOpen();
    if (this.latestOut) {
      this.latestOut.send(message);
      this.#owner.flowHasWork(this);
      return true;
    }
    if (this.datagramsOut) {
      if (message.length > limits.datagram_bytes_max - 16)
        throw new SelvedgeError('frame_too_large', { found: message.length, max: limits.datagram_bytes_max - 16 });
      const isTaken = this.datagramsOut.push(message);
      this.#owner.flowHasWork(this);
      return isTaken;
    }
    assert(this.kind === 'messages' && this.send, 'message on a stream');
    if (message.length > limits.message_bytes_max) throw new SelvedgeError('frame_too_large', { found: message.length, max: limits.message_bytes_max });
    return this.#wrote(this.send.write(encodeMessage(message)));
  }

  #wrote(wantsMore: boolean): boolean {
    if (!wantsMore) this.wantsDrain = true;
    this.#owner.flowHasWork(this);
    return wantsMore;
  }

  /** The next octets of a `stream`, or null. */
  read(): Uint8Array | null {
    const bytes = this.receive?.read() ?? null;
    if (bytes !== null) this.#owner.flowConsumed(this);
    return bytes;
  }

  /** Copies the next octets of a `stream` into `into`; how many: 0 if there are none now. */
  readInto(into: Uint8Array): number {
    const count = this.receive?.readInto(into) ?? 0;
    if (count > 0) this.#owner.flowConsumed(this);
    return count;
  }

  /** The next whole message, frame or datagram, or null. */
  readMessage(): Uint8Array | null {
    if (this.latestIn || this.datagramsIn) {
      this.wasTold = false;
      return this.latestIn?.read() ?? this.datagramsIn?.shift() ?? null;
    }
    const messages = this.#messages;
    if (!messages || !this.receive) return null;
    for (;;) {
      const message = messages.next();
      if (message !== null) return message;
      const bytes = messages.isOversize ? null : this.receive.read();
      if (bytes === null) {
        if (messages.isOversize) this.reset('flow_violation', `message of more than ${limits.message_bytes_max} octets`);
        else if (this.receive.isDone && messages.isMidMessage) this.reset('flow_violation', 'ended in the middle of a message');
        return null;
      }
      messages.push(bytes);
      this.#owner.flowConsumed(this);
    }
  }

  /** Whether anything can be read now; for messages, whether octets wait that may complete one. */
  get isReadable(): boolean {
    return (this.receive?.hasData ?? this.latestIn?.hasFrame ?? this.datagramsIn?.isEmpty === false) || (this.#messages?.hasWhole ?? false);
  }

  /** The peer has finished and everything was read. */
  get isReadDone(): boolean {
    return this.receive?.isDone ?? this.isEnded;
  }

  /** Finishes this direction. */
  end(): void {
    if (this.isEnded || this.send?.isFinished) return;
    if (this.send) {
      this.send.finish();
      this.#owner.flowHasWork(this);
    } else this.reset('session_closed', 'ended');
  }

  reset(code: ErrorCode, reason: string): void {
    if (!this.isEnded) this.#owner.flowReset(this, code, reason);
  }

  #checkOpen(): void {
    if (this.isEnded) throw this.error ?? new SelvedgeError('handle_closed', { what: `flow ${this.service}` });
    if (this.send?.isFinished) throw new SelvedgeError('handle_closed', { what: `sending side of flow ${this.service}` });
  }
}

/** A queue of datagrams with a bound in octets; when it is full, the newest is dropped and counted. */
export class BoundedQueue {
  readonly #bytesMax: number;
  #items: Uint8Array[] = [];
  #head = 0;
  #bytes = 0;
  #dropped = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get isEmpty(): boolean {
    return this.#head === this.#items.length;
  }

  get dropped(): number {
    return this.#dropped;
  }

  push(item: Uint8Array): boolean {
    if (this.#bytes + sizeOf(item) > this.#bytesMax) {
      this.#dropped++;
      return false;
    }
    this.#items.push(item);
    this.#bytes += sizeOf(item);
    return true;
  }

  shift(): Uint8Array | null {
    if (this.isEmpty) return null;
    const item = this.#items[this.#head] as Uint8Array;
    this.#head++;
    if (this.#head === this.#items.length || this.#head > 256) {
      this.#items.splice(0, this.#head);
      this.#head = 0;
    }
    this.#bytes -= sizeOf(item);
    return item;
  }
}

const sizeOf = (item: Uint8Array): number => item.length + limits.queued_piece_bytes_overhead;

/** Cuts a stream's octets into messages, each behind its length; holds at most one unfinished message. */
class MessageAssembler {
  #bytes: Uint8Array = new Uint8Array(0);
  /** Of the message that begins at `#bytes`: octets of its length, 0 while that is not there, and what it says. */
  #prefixBytes = 0;
  #messageBytes = 0;
  #partial: Uint8Array | null = null;
  #filled = 0;

  get hasWhole(): boolean {
    return this.#partial === null && this.#prefixBytes > 0 && this.#bytes.length >= this.#prefixBytes + this.#messageBytes;
  }

  /** The message that begins here is longer than any may be: nothing more can be read. */
  get isOversize(): boolean {
    return this.#partial === null && this.#messageBytes > limits.message_bytes_max;
  }

  get isMidMessage(): boolean {
    return this.#partial !== null || this.#bytes.length > 0;
  }

  push(bytes: Uint8Array): void {
    if (this.#bytes.length === 0) return this.#keep(bytes);
    const joined = new Uint8Array(this.#bytes.length + bytes.length);
    joined.set(this.#bytes);
    joined.set(bytes, this.#bytes.length);
    this.#keep(joined);
  }

  /** The next whole message, or null. */
  next(): Uint8Array | null {
    if (this.#partial === null) {
      const length = this.#messageBytes;
      if (this.#prefixBytes === 0 || length > limits.message_bytes_max) return null;
      const from = this.#prefixBytes;
      if (this.#bytes.length >= from + length) {
        const whole = this.#bytes.subarray(from, from + length);
        this.#keep(this.#bytes.subarray(from + length));
        return whole;
      }
      this.#partial = new Uint8Array(length);
      this.#filled = 0;
      this.#keep(this.#bytes.subarray(from));
    }
    const count = Math.min(this.#bytes.length, this.#partial.length - this.#filled);
    this.#partial.set(this.#bytes.subarray(0, count), this.#filled);
    this.#filled += count;
    const message = this.#filled < this.#partial.length ? null : this.#partial;
    if (message !== null) this.#partial = null;
    this.#keep(this.#bytes.subarray(count));
    return message;
  }

  /** What is left to be cut; between messages, a length comes first. */
  #keep(bytes: Uint8Array): void {
    this.#bytes = bytes;
    this.#prefixBytes = 0;
    this.#messageBytes = 0;
    if (this.#partial !== null || bytes.length === 0) return;
    const prefix = 1 << ((bytes[0] as number) >> 6);
    if (bytes.length < prefix) return;
    this.#prefixBytes = prefix;
    // No length that matters needs eight octets; a varint beyond 2^53 must not throw here.
    this.#messageBytes = prefix === 8 ? Number.POSITIVE_INFINITY : new ByteReader(bytes).varint();
  }
}
