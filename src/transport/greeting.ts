/**
 * The first exchange on an approved session: hello and accept (spec 5.1, 5.2). It reads exactly the first frame of the control source,
 * within its time and size, and keeps what comes behind for whoever carries the session on. It decides nothing.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { CONTROL_PRIORITY } from '../channel/classes.ts';
import { frameTypes } from '../channel/frames.ts';
import { decodeHello, encodeHello, type Hello, splitHello } from '../channel/hello.ts';
import { CONTROL_FLOW, type LaneName, type Session, type SessionHandler } from './session.ts';
import type { Timers } from './system.ts';

/** Octets of other sources that may come before the accept; more is refused. */
const EARLY_BYTES_MAX = 1024 * 1024;

/** A session's handler that can be handed from the greeting to the carrier with nothing lost in between. */
export class Relay implements SessionHandler {
  #target: SessionHandler | null = null;
  #early: { source: number; bytes: Uint8Array | null }[] = [];
  #earlyBytes = 0;
  #ended: ((target: SessionHandler) => void)[] = [];
  #onEarly: (() => void) | null = null;

  /** What came so far is told first, in order. */
  handTo(target: SessionHandler): void {
    this.#target = target;
    this.#onEarly = null;
    const early = this.#early;
    this.#early = [];
    for (const { source, bytes } of early) {
      if (bytes) target.data(source, bytes);
      else target.sourceEnd(source);
    }
    for (const tell of this.#ended.splice(0)) tell(target);
  }

  whenEarly(tell: () => void): void {
    this.#onEarly = tell;
  }

  get earlyBytes(): number {
    return this.#earlyBytes;
  }

  /** Sources that have spoken, and the type of frame that each began with. */
  beginnings(): Map<number, number> {
    const types = new Map<number, number>();
    for (const { source, bytes } of this.#early) if (bytes?.[0] !== undefined && !types.has(source)) types.set(source, bytes[0]);
    return types;
  }

  /** Octets of one source, joined. */
  octetsOf(source: number): Uint8Array {
    const parts = this.#early.flatMap((piece) => (piece.source === source && piece.bytes ? [piece.bytes] : []));
    return parts.length === 1 ? (parts[0] as Uint8Array) : new Uint8Array(Buffer.concat(parts));
  }

  /** The hello's octets are taken; `rest` stands in their place. */
  replaceOctets(source: number, rest: Uint8Array): void {
    const others = this.#early.filter((piece) => piece.source !== source || piece.bytes === null);
    this.#early = rest.length > 0 ? [{ source, bytes: rest }, ...others] : others;
  }

  get keepsNothing(): boolean {
    return this.#target?.keepsNothing === true;
  }

  data(source: number, bytes: Uint8Array): void {
    if (this.#target) return this.#target.data(source, bytes);
    this.#early.push({ source, bytes });
    this.#earlyBytes += bytes.length;
    this.#onEarly?.();
  }

  sourceEnd(source: number): void {
    if (this.#target) return this.#target.sourceEnd(source);
    this.#early.push({ source, bytes: null });
  }

  ready(lane: LaneName): void {
    this.#target?.ready(lane);
  }

  writable(flow: number): void {
    this.#target?.writable(flow);
  }

  datagram(bytes: Uint8Array): void {
    this.#target?.datagram(bytes);
  }

  finished(): void {
    if (this.#target) return this.#target.finished();
    this.#ended.push((target) => target.finished());
  }

  closed(error: SelvedgeError): void {
    if (this.#target) return this.#target.closed(error);
    this.#ended.push((target) => target.closed(error));
    this.#error = error;
    this.#onEarly?.();
  }

  #error: SelvedgeError | null = null;

  get error(): SelvedgeError | null {
    return this.#error;
  }
}

/** What a flow's source may begin with. It may overtake the accept, which comes on a source of its own; nothing overtakes a hello. */
const flowFrames: ReadonlySet<number> = new Set([frameTypes.open, frameTypes.data, frameTypes.latest, frameTypes.datagram]);

/** The source on which the hello or accept comes; null while none has spoken but those of flows. */
function helloSource(relay: Relay, expected: 'hello' | 'accept'): number | null {
  for (const [source, type] of relay.beginnings()) {
    if (expected === 'hello' || !flowFrames.has(type)) return source;
  }
  return null;
}

/** Waits for the first frame. @throws what closed the session, handshake_timeout, frame_invalid */
function awaitHello(session: Session, relay: Relay, timers: Timers, expected: 'hello' | 'accept'): Promise<Hello> {
  return new Promise((resolve, reject) => {
    const cancel = timers.after(limits.handshake_ms_max, () =>
      end(new SelvedgeError('handshake_timeout', { peer: session.remote, ms: limits.handshake_ms_max })),
    );
    const end = (error: SelvedgeError): void => {
      cancel();
      relay.whenEarly(() => {});
      session.close(error.code, error.message);
      reject(error);
    };
    const look = (): void => {
      try {
        if (relay.earlyBytes > EARLY_BYTES_MAX) throw new SelvedgeError('limit_reached', { limit: 'octets before the accept', max: EARLY_BYTES_MAX });
        const source = helloSource(relay, expected);
        const split = source === null ? null : splitHello(relay.octetsOf(source));
        if (source !== null && split) {
          if (split.type !== expected) throw new SelvedgeError('frame_invalid', { why: `${split.type} where ${expected} belongs` });
          const hello = decodeHello(split.body);
          relay.replaceOctets(source, split.rest);
          cancel();
          relay.whenEarly(() => {});
          resolve(hello);
        } else if (relay.error) end(relay.error);
      } catch (error) {
        if (!(error instanceof SelvedgeError)) throw error;
        end(error);
      }
    };
    relay.whenEarly(look);
    look();
  });
}

/** The dialing side: says hello, and believes in the session once the other has accepted. */
export async function greet(session: Session, hello: Hello, timers: Timers): Promise<{ accept: Hello; relay: Relay }> {
  const relay = new Relay();
  session.approve(relay);
  session.write(CONTROL_FLOW, 'urgent', CONTROL_PRIORITY, encodeHello('hello', hello), null);
  return { accept: await awaitHello(session, relay, timers, 'accept'), relay };
}

/** The accepting side: hears the hello, and answers with `accept` when it has decided. */
export async function hearHello(session: Session, timers: Timers): Promise<{ hello: Hello; relay: Relay; accept: (answer: Hello) => void }> {
  const relay = new Relay();
  session.approve(relay);
  const hello = await awaitHello(session, relay, timers, 'hello');
  return { hello, relay, accept: (answer) => void session.write(CONTROL_FLOW, 'urgent', CONTROL_PRIORITY, encodeHello('accept', answer), null) };
}
