/**
 * One flow joined to one connection of the tunnel's carry socket, until either ends: then both end, since the other half of a frame that was cut would never come.
 * What comes from the tunnel is always read, and what finds no room in the window is dropped here, by whole packets: so nothing waits unseen in sockets. What comes from
 * the flow waits there while the tunnel does not take it, and the sender's window sees it.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { type CarryWord, encodeWord, FrameGate } from '../transport/carry/frames.ts';
import { DelayWindow } from '../transport/carry/window.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { Timers } from '../transport/system.ts';

export interface CarryJoinOptions {
  readonly flow: FlowHandle;
  /** What came on the flow behind its greeting. */
  readonly rest: Uint8Array;
  readonly socket: Socket;
  readonly timers: Timers;
  readonly onWord: (word: CarryWord) => void;
  /** Once, whoever ended it; null: well. */
  readonly onEnd: (error: SelvedgeError | null) => void;
}

export class CarryJoin {
  readonly #options: CarryJoinOptions;
  readonly #window: DelayWindow;
  readonly #out: FrameGate;
  readonly #in: FrameGate;
  #unsaid: Uint8Array | null = null;
  #dropped = 0;
  #isEnded = false;

  constructor(options: CarryJoinOptions) {
    this.#options = options;
    const { timers, flow, socket } = options;
    this.#window = new DelayWindow(timers.clock.now());
    this.#out = new FrameGate({ admit: (bytes) => this.#admit(bytes), onWord: null });
    this.#in = new FrameGate({ admit: () => true, onWord: options.onWord });
    socket.on('data', (chunk) => this.#leave(chunk));
    socket.on('error', (error) => this.#end(asSelvedgeError(error, 'tunnel_unreachable', { path: 'the carry socket' })));
    socket.on('close', () => this.#end(new SelvedgeError('tunnel_unreachable', { path: 'the carry socket', why: 'it was closed' })));
    void flow.closed.then((error) => this.#end(error));
    void this.#arrive().catch((error: unknown) => this.#end(asSelvedgeError(error, 'frame_invalid')));
    socket.resume();
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

  #leave(chunk: Uint8Array): void {
    if (this.#isEnded) return;
    try {
      this.#window.acknowledged(this.#options.timers.clock.now(), this.#options.flow.acknowledged);
      this.#out.push(chunk, this.#write);
      this.#sayNow();
    } catch (error) {
      this.#end(asSelvedgeError(error, 'flow_lost'));
    }
  }

  #admit(frameBytes: number): boolean {
    const isAdmitted = this.#window.take(this.#options.timers.clock.now(), frameBytes);
    if (!isAdmitted) this.#dropped++;
    return isAdmitted;
  }

  // ---- flow to tunnel

  async #arrive(): Promise<void> {
    const { flow, socket, rest } = this.#options;
    const deliver = (piece: Uint8Array) => void socket.write(piece);
    this.#in.push(rest, deliver);
    while (await flow.readable()) {
      socket.cork();
      for (let piece = flow.read(); piece !== null; piece = socket.writableNeedDrain ? null : flow.read()) this.#in.push(piece, deliver);
      socket.uncork();
      if (socket.writableNeedDrain && !this.#isEnded) await Promise.race([once(socket, 'drain'), flow.closed]);
      if (this.#isEnded) return;
    }
    this.#end(null);
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
