/** A hostile peer in the caller's hands: a session that hears everything, and says whatever frames it is told, in whatever order. */
import type { SelvedgeError } from '../../src/base/errors.ts';
import { FrameDecoder } from '../../src/channel/frame-decoder.ts';
import { type ControlFrame, frameTypes } from '../../src/channel/frames.ts';
import { decodeHello, encodeHello, type Hello } from '../../src/channel/hello.ts';
import { CONTROL_FLOW, type Session } from '../../src/transport/session.ts';

/** A session of a hostile node, past its hello unless told; it hears, and says only what the test says. */
export interface Hostile {
  readonly session: Session;
  readonly accept: Hello | null;
  /** Why the victim ended it. */
  readonly closed: Promise<SelvedgeError>;
  readonly control: ControlFrame[];
  /** Octets of flows that came. */
  received: number;
  /** Writes whole frames of one source; QUIC: a stream for each flow. */
  say(flow: number, ...frames: (Uint8Array | null)[]): void;
  /** Waits until the transport takes more. */
  ready(): Promise<void>;
  /** The first control frame that fits, also one that came before. */
  heard(fits: (frame: ControlFrame) => boolean): Promise<ControlFrame>;
}

/** Approves the session, says this hello (null: none), and waits for the answer to it. */
export async function speakRaw(session: Session, hello: Hello | null): Promise<Hostile> {
  const closed = Promise.withResolvers<SelvedgeError>();
  const accepted = Promise.withResolvers<Hello | null>();
  const waiting = new Set<() => void>();
  const wake = (): void => {
    for (const check of [...waiting]) check();
  };
  const control: ControlFrame[] = [];
  const decoders = new Map<number, FrameDecoder>();
  const result = { received: 0 };
  const sink = {
    data: (_head: unknown, _offset: number, piece: Uint8Array) => {
      result.received += piece.length;
    },
    latest: (_head: unknown, piece: Uint8Array) => {
      result.received += piece.length;
    },
    datagram: (_flow: number, bytes: Uint8Array) => {
      result.received += bytes.length;
    },
    hello: (_type: string, body: Uint8Array) => accepted.resolve(decodeHello(body)),
    control: (frame: ControlFrame) => {
      control.push(frame);
    },
  };
  session.approve({
    data(source, bytes) {
      const decoder = decoders.get(source) ?? new FrameDecoder(sink);
      decoders.set(source, decoder);
      decoder.push(bytes);
      wake();
    },
    sourceEnd: () => {},
    ready: wake,
    writable: () => {},
    datagram: () => {},
    finished: () => {},
    closed: (why) => {
      closed.resolve(why);
      accepted.resolve(null);
      wake();
    },
  });
  const until = <T>(look: () => T | null): Promise<T> =>
    new Promise((resolve) => {
      const check = (): void => {
        const found = look();
        if (found === null) return;
        waiting.delete(check);
        resolve(found);
      };
      waiting.add(check);
      check();
    });
  if (hello !== null) session.write(CONTROL_FLOW, 'urgent', 100, encodeHello('hello', hello), null);
  const accept = hello === null ? null : await accepted.promise;
  return {
    session,
    accept,
    closed: closed.promise,
    control,
    get received() {
      return result.received;
    },
    say(flow, ...frames) {
      for (const frame of frames) if (frame) session.write(flow, 'urgent', 50, frame, null);
    },
    ready: () => until(() => (session.isClosed || session.ready('urgent') ? true : null)).then(() => undefined),
    heard: (fits) => until(() => control.find(fits) ?? null),
  };
}

/** Any octets as a frame of any type. */
export function rawFrame(type: keyof typeof frameTypes | number, body: Uint8Array): Uint8Array {
  const number = typeof type === 'number' ? type : frameTypes[type];
  const head =
    body.length < 64
      ? [body.length]
      : body.length < 16_384
        ? [0x40 | (body.length >> 8), body.length & 255]
        : [0x80, body.length >> 16, (body.length >> 8) & 255, body.length & 255];
  return Uint8Array.of(number, ...head, ...body);
}
