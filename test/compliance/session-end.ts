/**
 * One end of a session under test: sends frames, keeps what arrives, and checks at each call to its handler that the session may make it.
 */
import type { ErrorCode, SelvedgeError } from '../../src/base/errors.ts';
import type { LaneName, Session, SessionHandler, TransportName } from '../../src/transport/session.ts';

export interface PairOptions {
  /** Until a pending session closes itself. */
  readonly handshake_ms?: number;
  /** Let what arrives come in pieces of 1 to a few octets. */
  readonly hostile?: boolean;
}

/** Two pending sessions, joined. */
export interface SessionPair {
  readonly dialer: Session;
  readonly acceptor: Session;
  /** What each side showed. */
  readonly dialerChain: readonly Uint8Array[];
  readonly acceptorChain: readonly Uint8Array[];
  /** The network between them dies without a word. */
  sever?(): void;
  /** Ends whatever the pair needed; resolves when nothing of it is open. */
  close(): Promise<void>;
}

export interface SessionImplementation {
  readonly name: TransportName;
  readonly datagrams: boolean;
  /** Whether `hostile` and `sever` are there. */
  readonly hostile: boolean;
  pair(options?: PairOptions): Promise<SessionPair>;
}

const FRAME_HEAD_BYTES = 12;
const FRAME_MARK = 0x5e1fed9e;

/** Both ends of a pair under test. */
export class Ends {
  readonly pair: SessionPair;
  readonly dialer: End;
  readonly acceptor: End;

  static async open(implementation: SessionImplementation, options?: PairOptions): Promise<Ends> {
    return new Ends(await implementation.pair(options));
  }

  private constructor(pair: SessionPair) {
    this.pair = pair;
    this.dialer = new End(pair.dialer);
    this.acceptor = new End(pair.acceptor);
  }

  violations(): string[] {
    return [...this.dialer.violations, ...this.acceptor.violations];
  }

  async close(): Promise<void> {
    for (const end of [this.dialer, this.acceptor]) end.call((session) => session.close('session_closed', 'end of the test'));
    await Promise.all([this.dialer, this.acceptor].filter((end) => end.approved).map((end) => end.ended()));
    await this.pair.close();
  }
}

/** One session and everything that its handler heard, with the rules for calls to a handler checked at each. */
export class End implements SessionHandler {
  readonly session: Session;
  readonly violations: string[] = [];
  readonly datagrams: Uint8Array[] = [];
  readonly sources = new Set<number>();
  readonly endedSources = new Set<number>();
  approved = false;
  isFinished = false;
  dataCalls = 0;
  onData: (() => void) | null = null;
  readonly #parsers = new Map<number, FrameParser>();
  readonly #frames = new Map<number, Uint8Array[]>();
  readonly #sent = new Map<number, Uint8Array[]>();
  readonly #writable = new Set<number>();
  #closedWith: SelvedgeError | null = null;
  #inside = false;
  #wake: (() => void)[] = [];

  constructor(session: Session) {
    this.session = session;
  }

  approve(): void {
    this.call((session) => session.approve(this));
    this.approved = true;
  }

  /** Calls the session; a handler method called before this returns breaks the rules. */
  call<Result>(action: (session: Session) => Result): Result {
    const outer = this.#inside;
    this.#inside = true;
    try {
      return action(this.session);
    } finally {
      this.#inside = outer;
    }
  }

  close(code: ErrorCode, reason: string): void {
    this.call((session) => session.close(code, reason));
  }

  /** Sends one frame; what `write` said. */
  send(flow: number, lane: LaneName, body: Uint8Array | null, options: { count: boolean } = { count: true }): boolean {
    const head = new Uint8Array(FRAME_HEAD_BYTES);
    const view = new DataView(head.buffer);
    view.setUint32(0, flow);
    view.setUint32(4, body?.length ?? 0);
    view.setUint32(8, FRAME_MARK);
    this.#writable.delete(flow);
    const more = this.call((session) => session.write(flow, lane, 1, head, body));
    // A head is scratch space of the caller: the session may not read it later.
    head.fill(0xff);
    if (options.count) entry(this.#sent, flow).push(body ?? new Uint8Array(0));
    return more;
  }

  async sendPatiently(flow: number, lane: LaneName, body: Uint8Array): Promise<void> {
    if (!this.send(flow, lane, body)) await this.until(() => this.#writable.has(flow));
  }

  async writableWithin(flow: number, ms: number): Promise<boolean> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(resolve, ms, false);
    });
    const told = this.until(() => this.#writable.has(flow)).then(() => true);
    const result = await Promise.race([told, late]);
    clearTimeout(timer);
    return result;
  }

  frames(flow: number): readonly Uint8Array[] {
    return this.#frames.get(flow) ?? [];
  }

  sentFrames(flow: number): readonly Uint8Array[] {
    return this.#sent.get(flow) ?? [];
  }

  /** Waits for what the handler hears to make it true; fails if the session ends before. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.#closedWith !== null) throw new Error(`the session ended while the test waited: ${this.#closedWith.message}`);
      await this.#heard();
    }
  }

  async ended(): Promise<SelvedgeError> {
    while (this.#closedWith === null) await this.#heard();
    return this.#closedWith;
  }

  #heard(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #note(name: string): void {
    if (this.#inside) this.violations.push(`${name} called inside a call`);
    if (!this.approved) this.violations.push(`${name} called before approval`);
    if (this.#closedWith !== null) this.violations.push(`${name} called after closed`);
    else if (name !== 'closed' && this.session.isClosed) this.violations.push(`${name} called after the end`);
    const wake = this.#wake;
    this.#wake = [];
    for (const resolve of wake) resolve();
  }

  data(source: number, bytes: Uint8Array): void {
    this.#note('data');
    this.dataCalls++;
    this.sources.add(source);
    if (this.endedSources.has(source)) this.violations.push(`data of source ${source} after its end`);
    if (Object.getPrototypeOf(bytes) !== Uint8Array.prototype) this.violations.push('data is not a plain Uint8Array');
    const parser = this.#parsers.get(source) ?? new FrameParser();
    this.#parsers.set(source, parser);
    for (const frame of parser.push(bytes)) entry(this.#frames, frame.flow).push(frame.body);
    this.onData?.();
  }

  sourceEnd(source: number): void {
    this.#note('sourceEnd');
    if (this.endedSources.has(source)) this.violations.push(`source ${source} ended twice`);
    this.endedSources.add(source);
  }

  ready(lane: LaneName): void {
    this.#note('ready');
    if (!this.session.ready(lane)) this.violations.push(`ready(${lane}) told, but it is not`);
  }

  writable(flow: number): void {
    this.#note('writable');
    this.#writable.add(flow);
  }

  datagram(bytes: Uint8Array): void {
    this.#note('datagram');
    this.datagrams.push(bytes);
  }

  finished(): void {
    this.#note('finished');
    if (this.isFinished) this.violations.push('finished told twice');
    this.isFinished = true;
  }

  closed(error: SelvedgeError): void {
    this.#note('closed');
    this.#closedWith ??= error;
  }
}

export const silentHandler: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };

/** Cuts the octets of one source into the test's frames: [u32 flow][u32 length][u32 mark] body. */
class FrameParser {
  #parts: Uint8Array[] = [];
  #have_bytes = 0;
  #need_bytes = FRAME_HEAD_BYTES;

  push(bytes: Uint8Array): { flow: number; body: Uint8Array }[] {
    this.#parts.push(bytes);
    this.#have_bytes += bytes.length;
    const frames: { flow: number; body: Uint8Array }[] = [];
    while (this.#have_bytes >= this.#need_bytes) {
      const all = new Uint8Array(Buffer.concat(this.#parts));
      const view = new DataView(all.buffer);
      if (view.getUint32(8) !== FRAME_MARK) throw new Error('frames lost their place');
      const end = FRAME_HEAD_BYTES + view.getUint32(4);
      this.#need_bytes = end;
      this.#parts = [all];
      if (all.length < end) break;
      frames.push({ flow: view.getUint32(0), body: all.slice(FRAME_HEAD_BYTES, end) });
      this.#parts = [all.slice(end)];
      this.#have_bytes = all.length - end;
      this.#need_bytes = FRAME_HEAD_BYTES;
    }
    return frames;
  }
}

function entry(map: Map<number, Uint8Array[]>, flow: number): Uint8Array[] {
  const list = map.get(flow) ?? [];
  map.set(flow, list);
  return list;
}

export function pattern(length: number, seed: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let index = 0; index < length; index++) bytes[index] = (index * 31 + seed * 17 + (index >> 8)) & 0xff;
  return bytes;
}

export const sameFrames = (left: readonly Uint8Array[], right: readonly Uint8Array[]): boolean =>
  left.length === right.length &&
  left.every((frame, index) => Buffer.compare(frame, right[index] ?? new Uint8Array(0)) === 0 && frame.length === right[index]?.length);

export const plain = (list: readonly Uint8Array[]): string[] => list.map((bytes) => Buffer.from(bytes).toString('hex'));
