/**
 * One flow joined to one connection of the tunnel's carry socket, until either ends: then both end, since the other half of a frame that was cut would never come.
 * What comes from the tunnel is always read, and what finds no room in the window is dropped here, by whole packets: so nothing waits unseen in sockets. What comes from
 * the flow waits there while the tunnel does not take it, and the sender's window sees it.
 */
import { asSelvedgeError, type SelvedgeError } from '../base/errors.ts';
import { type CarryWord, encodeWord, FrameGate } from '../transport/carry/frames.ts';
import { DelayWindow } from '../transport/carry/window.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { Timers } from '../transport/system.ts';
import { CarryMemory } from './carry-memory.ts';
import type { CarrySocket } from './carry-socket.ts';

export interface CarryJoinOptions {
  readonly flow: FlowHandle;
  /** What came on the flow behind its greeting. */
  readonly rest: Uint8Array;
  readonly socket: CarrySocket;
  readonly timers: Timers;
  readonly onWord: (word: CarryWord) => void;
  /** Once, whoever ended it; null: well. */
  readonly onEnd: (error: SelvedgeError | null) => void;
}

/** What is read of the flow and written to the tunnel at once. */
const ARRIVAL_BYTES = 256 * 1024;

export class CarryJoin {
  readonly #options: CarryJoinOptions;
  readonly #window: DelayWindow;
  readonly #out: FrameGate;
  readonly #in: FrameGate;
  readonly #memory = new CarryMemory();
  /** Of arrivals, and not under way to the tunnel. */
  readonly #buffers: Uint8Array[] = [];
  #unsaid: Uint8Array | null = null;
  #dropped = 0;
  /** When the octets were read that are being judged: asked once for all the packets in them. */
  #now_ms = 0;
  #isEnded = false;

  constructor(options: CarryJoinOptions) {
    this.#options = options;
    const { timers, flow, socket } = options;
    this.#window = new DelayWindow(timers.clock.now());
    this.#out = new FrameGate({ admit: (bytes) => this.#admit(bytes), onWord: null });
    this.#in = new FrameGate({ admit: () => true, onWord: options.onWord });
    socket.read({ room: () => this.#memory.room(), take: (bytes) => this.#leave(bytes) }, (error) => this.#end(error));
    void flow.closed.then((error) => this.#end(error));
    void this.#arrive().catch((error: unknown) => this.#end(asSelvedgeError(error, 'frame_invalid')));
  }

  /** Packets that found no room. */
  get dropped(): number {
    return this.#dropped;
  }

  say(word: CarryWord): void {
    this.#unsaid = encodeWord(word);
    this.#sayNow();
  }

  /** Between packets; the rest of one that is under way comes with the tunnel's next octets. */
  #sayNow(): void {
    if (this.#unsaid === null || this.#out.isMidFrame || this.#isEnded) return;
    const word = this.#unsaid;
    this.#unsaid = null;
    this.#write(word);
  }

  // ---- tunnel to flow

  readonly #write = (piece: Uint8Array): void => {
    // How much may wait is the window's to say, not the flow's queue's.
    this.#options.flow.write(piece);
  };

  /** What was read; the flow keeps what goes through where it lies. */
  #leave(read: Uint8Array): void {
    if (this.#isEnded) return;
    const { flow, timers } = this.#options;
    // Where little gets through, that little must not hold the memory of all.
    let isKept = false;
    const keep = (piece: Uint8Array) => {
      const isMost = piece.length >= read.length / 2;
      isKept ||= isMost;
      this.#write(isMost ? piece : piece.slice());
    };
    try {
      this.#now_ms = timers.clock.now();
      this.#window.acknowledged(this.#now_ms, flow.acknowledged);
      this.#memory.free(flow.acknowledged);
      this.#out.push(read, keep);
      this.#memory.took(read, isKept ? flow.written : null);
      this.#sayNow();
    } catch (error) {
      this.#end(asSelvedgeError(error, 'flow_lost'));
    }
  }

  #admit(frameBytes: number): boolean {
    const isAdmitted = this.#window.take(this.#now_ms, frameBytes);
    if (!isAdmitted) this.#dropped++;
    return isAdmitted;
  }

  // ---- flow to tunnel

  async #arrive(): Promise<void> {
    const { flow, socket, rest } = this.#options;
    this.#in.push(rest, (piece) => socket.write(piece));
    while (await flow.readable()) {
      while (!socket.isFull && this.#arriveOnce());
      if (socket.isFull && !this.#isEnded) await Promise.race([socket.drained(), flow.closed]);
      if (this.#isEnded) return;
    }
    // A reader hears that nothing more comes before anybody hears why: a flow that was reset has its error by now, one that the peer has finished has none.
    this.#end(await Promise.race([flow.closed, null]));
  }

  /** False: there was nothing. */
  #arriveOnce(): boolean {
    const { flow, socket } = this.#options;
    const buffer = this.#buffers.pop() ?? new Uint8Array(ARRIVAL_BYTES);
    const count = flow.readInto(buffer);
    let last: Uint8Array | null = null;
    const deliver = (piece: Uint8Array) => {
      if (last !== null) socket.write(last);
      last = piece;
    };
    if (count > 0) this.#in.push(count === buffer.length ? buffer : buffer.subarray(0, count), deliver);
    if (last === null) this.#buffers.push(buffer);
    else socket.write(last, () => this.#buffers.push(buffer));
    return count > 0;
  }

  // ---- the end

  /** Idempotent. */
  close(error: SelvedgeError | null = null): void {
    this.#end(error);
  }

  #end(error: SelvedgeError | null): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const { flow, socket, onEnd } = this.#options;
    socket.destroy();
    if (error === null) flow.end();
    else flow.reset(error.code, error.message);
    onEnd(error);
  }
}
