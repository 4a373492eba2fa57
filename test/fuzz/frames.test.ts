/** The codec of the wire's frames under any octets at all: what was encoded comes back, in any pieces, and nonsense is only ever refused. */
import fc from 'fast-check';
import t from 'tap';
import { type ErrorCode, errorTable, SelvedgeError } from '../../src/base/errors.ts';
import { limits } from '../../src/base/limits.ts';
import { classAllowsKind, type FlowKind, trafficClassNames } from '../../src/channel/classes.ts';
import { FrameDecoder } from '../../src/channel/frame-decoder.ts';
import { encodeControl, encodeDatagramHead, encodeDataHead, encodeFrame, encodeLatestHead } from '../../src/channel/frame-encoder.ts';
import { type ControlFrame, type DataHead, frameTypes, type LatestHead } from '../../src/channel/frames.ts';
import { decodeHello, encodeHello, type Hello, splitHello } from '../../src/channel/hello.ts';

/** What a decoder delivered, with the pieces of a payload joined. */
type Seen =
  | { type: 'data'; head: DataHead; bytes: number[] }
  | { type: 'latest'; head: LatestHead; bytes: number[] }
  | { type: 'datagram'; flow: number; bytes: number[] }
  | { type: 'hello' | 'accept'; bytes: number[] }
  | { type: 'control'; frame: ControlFrame };

function decode(pieces: readonly Uint8Array[]): { seen: Seen[]; error: SelvedgeError | null; isMidFrame: boolean } {
  const seen: Seen[] = [];
  let open: (Seen & { type: 'data' }) | null = null;
  const decoder = new FrameDecoder({
    data(head, offset, piece, last) {
      open ??= { type: 'data', head, bytes: [] };
      if (offset !== open.head.offset + open.bytes.length) throw new Error('a piece out of place');
      open.bytes.push(...piece);
      if (!last) return;
      seen.push(open);
      open = null;
    },
    latest(head, piece) {
      const before = seen.at(-1);
      if (
        before?.type === 'latest' &&
        before.head.flow === head.flow &&
        before.head.sequence === head.sequence &&
        before.head.offset + before.bytes.length === head.offset
      )
        before.bytes.push(...piece);
      else seen.push({ type: 'latest', head, bytes: [...piece] });
    },
    datagram: (flow, bytes) => void seen.push({ type: 'datagram', flow, bytes: [...bytes] }),
    hello: (type, body) => void seen.push({ type, bytes: [...body] }),
    control: (frame) => void seen.push({ type: 'control', frame }),
  });
  try {
    for (const piece of pieces) decoder.push(piece);
  } catch (error) {
    if (!(error instanceof SelvedgeError)) throw error;
    return { seen, error, isMidFrame: decoder.isMidFrame };
  }
  return { seen, error: null, isMidFrame: decoder.isMidFrame };
}

const joined = (...parts: Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

function cut(bytes: Uint8Array, sizes: readonly number[]): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn++) {
    const size = sizes[turn % sizes.length] ?? 1;
    pieces.push(bytes.slice(at, at + size));
    at += size;
  }
  return pieces;
}

const varint = fc.oneof(fc.integer({ min: 0, max: 70 }), fc.integer({ min: 0, max: 20_000 }), fc.maxSafeNat());
const flow = fc.oneof(fc.integer({ min: 1, max: 70 }), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }));
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const payload = fc.uint8Array({ maxLength: 300 });
const name = fc.string({ unit: 'grapheme', maxLength: 20 });
const code = fc.constantFrom(...(Object.keys(errorTable) as ErrorCode[]));
const classAndKind = fc.constantFrom(
  ...trafficClassNames.flatMap((cls) =>
    (['stream', 'messages', 'latest', 'datagrams'] as FlowKind[]).filter((kind) => classAllowsKind(cls, kind)).map((kind) => ({ cls, kind })),
  ),
);

const control: fc.Arbitrary<ControlFrame> = fc.oneof(
  fc.tuple(flow, classAndKind, name).map(([id, { cls, kind }, service]): ControlFrame => ({ type: 'open', flow: id, class: cls, kind, service })),
  fc
    .tuple(flow, varint, varint)
    .map(([id, left, right]): ControlFrame => ({ type: 'ack', flow: id, consumed: Math.min(left, right), limit: Math.max(left, right) })),
  fc.tuple(flow, code, name).map(([id, why, reason]): ControlFrame => ({ type: 'reset', flow: id, code: why, reason })),
  fc
    .tuple(
      fc.boolean(),
      fc.array(fc.record({ flow, status: fc.constantFrom('live' as const, 'done' as const, 'reset' as const), received: varint }), { maxLength: 20 }),
    )
    .map(([more, entries]): ControlFrame => ({ type: 'resume', more, entries })),
  fc
    .record({
      channel: fc.uint8Array({ minLength: 16, maxLength: 16 }),
      from: name,
      to: name,
      sequence: varint,
      stamp_us: u32,
      latency_us: varint,
      jitter_us: varint,
      loss_ppm: fc.integer({ min: 0, max: 1_000_000 }),
      health: fc.integer({ min: 0, max: 2 }),
      draining: fc.boolean(),
      configVersion: varint,
      routeEpoch: varint,
    })
    .map((frame): ControlFrame => ({ type: 'heartbeat', ...frame })),
  fc.record({ sequence: varint, stamp_us: u32, held_us: u32 }).map((frame): ControlFrame => ({ type: 'echo', ...frame })),
  fc.record({ draining: fc.boolean(), left_ms: varint }).map((frame): ControlFrame => ({ type: 'drain', ...frame })),
  fc.record({ bytes: varint, clock_us: u32, owd_min_us: u32, stamp_us: u32, held_us: u32 }).map((frame): ControlFrame => ({ type: 'report', ...frame })),
);

/** A frame's octets, and what a decoder shall make of them; null where it shall skip them. */
const wire: fc.Arbitrary<{ bytes: Uint8Array; seen: Seen | null }> = fc.oneof(
  control.map((frame) => ({ bytes: encodeControl(frame), seen: { type: 'control' as const, frame } })),
  fc.tuple(flow, varint, fc.boolean(), fc.option(u32), payload).map(([id, where, fin, stamp_us, bytes]) => {
    const head = { flow: id, offset: Math.min(where, Number.MAX_SAFE_INTEGER - bytes.length), fin, stamp_us };
    return { bytes: joined(encodeDataHead(id, head.offset, bytes.length, fin, stamp_us), bytes), seen: { type: 'data' as const, head, bytes: [...bytes] } };
  }),
  fc.tuple(flow, varint, fc.integer({ min: 0, max: limits.latest_frame_bytes_max }), fc.nat(), payload).map(([id, sequence, total, where, bytes]) => {
    const head = { flow: id, sequence, total, offset: where % (total + 1) };
    return { bytes: joined(encodeLatestHead(head, bytes.length), bytes), seen: { type: 'latest' as const, head, bytes: [...bytes] } };
  }),
  fc
    .tuple(flow, payload)
    .map(([id, bytes]) => ({ bytes: joined(encodeDatagramHead(id, bytes.length), bytes), seen: { type: 'datagram' as const, flow: id, bytes: [...bytes] } })),
  fc.tuple(fc.integer({ min: 65, max: 255 }), payload).map(([type, body]) => ({ bytes: encodeFrame(type, body), seen: null })),
);

/** Two latest frames that continue each other would be joined by the test's own eyes. */
const isPlain = (frames: readonly { seen: Seen | null }[]): boolean => frames.filter(({ seen }) => seen?.type === 'latest').length < 2;

t.test('any frames come back as they were, whole and in any pieces', async (t) => {
  fc.assert(
    fc.property(
      fc.array(wire, { maxLength: 12 }).filter(isPlain),
      fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 6 }),
      (frames, sizes) => {
        const bytes = joined(...frames.map((frame) => frame.bytes));
        const expected = frames.flatMap((frame) => (frame.seen ? [frame.seen] : []));
        for (const pieces of [[bytes], cut(bytes, sizes), cut(bytes, [1])]) {
          const { seen, error, isMidFrame } = decode(pieces);
          if (error || isMidFrame) return false;
          if (JSON.stringify(seen) !== JSON.stringify(expected)) return false;
        }
        return true;
      },
    ),
    { numRuns: 400 },
  );
  t.pass();
});

t.test('the largest payload passes, one octet more is refused', async (t) => {
  const bytes = new Uint8Array(limits.frame_payload_bytes_max);
  const last = Number.MAX_SAFE_INTEGER - bytes.length;
  const whole = decode(cut(joined(encodeDataHead(Number.MAX_SAFE_INTEGER, last, bytes.length, true, 1), bytes), [9_000]));
  t.equal(whole.error, null);
  t.equal(whole.seen.length, 1);
  const slack = 64;
  t.match(decode([encodeDataHead(1, 0, bytes.length + slack, false, null)]).error, { code: 'frame_too_large' });
  t.match(decode([encodeDatagramHead(1, limits.datagram_bytes_max)]).error, { code: 'frame_too_large' });
  t.match(decode([Uint8Array.of(5, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)]).error?.code ?? '', /frame_/);
});

t.test('a payload that would end beyond the last exact offset is refused, one that ends there passes', async (t) => {
  const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7);
  for (const beyond of [0, 1, 4, 7]) {
    const frame = joined(encodeDataHead(1, Number.MAX_SAFE_INTEGER - bytes.length + beyond, bytes.length, false, null), bytes);
    for (const sizes of [[frame.length], [1]]) {
      const { seen, error } = decode(cut(frame, sizes));
      if (beyond === 0) t.match(seen, [{ type: 'data', bytes: [...bytes] }]);
      else t.match(error, { code: 'frame_invalid' });
    }
  }
});

const allowed: ReadonlySet<string> = new Set<ErrorCode>(['frame_invalid', 'frame_too_large', 'flow_violation']);

t.test('random octets are decoded or refused with a code, the same whole as in pieces', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }), (bytes, sizes) => {
      const whole = decode([bytes]);
      const pieces = decode(cut(bytes, sizes));
      if (whole.error && !allowed.has(whole.error.code)) return false;
      return whole.error?.code === pieces.error?.code;
    }),
    { numRuns: 3_000 },
  );
  t.pass();
});

t.test('frames with octets changed, taken out or put in are decoded or refused with a code', async (t) => {
  const change = fc.record({ at: fc.nat(), octet: fc.integer({ min: 0, max: 255 }), how: fc.constantFrom('set', 'remove', 'insert') });
  fc.assert(
    fc.property(fc.array(wire, { minLength: 1, maxLength: 6 }), fc.array(change, { minLength: 1, maxLength: 4 }), (frames, changes) => {
      const bytes = [...joined(...frames.map((frame) => frame.bytes))];
      for (const { at, octet, how } of changes) {
        const index = at % (bytes.length + 1);
        if (how === 'set') bytes[index] = octet;
        else if (how === 'remove') bytes.splice(index, 1);
        else bytes.splice(index, 0, octet);
      }
      const { error } = decode(cut(Uint8Array.from(bytes), [7]));
      return error === null || allowed.has(error.code);
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});

t.test('a head that straddles two pieces is read right wherever the cut is', async (t) => {
  const frame = joined(encodeDataHead(70_000, 2 ** 40, 5, true, 0xdead_beef), Uint8Array.of(1, 2, 3, 4, 5));
  const expected = JSON.stringify(decode([frame]).seen);
  for (let at = 1; at < frame.length; at++) {
    for (let second = at + 1; second < frame.length; second++) {
      const { seen, error } = decode([frame.slice(0, at), frame.slice(at, second), frame.slice(second)]);
      if (error || JSON.stringify(seen) !== expected) t.fail(`cut at ${at} and ${second}`);
    }
  }
  t.pass();
});

const hello: fc.Arbitrary<Hello> = fc.record({
  version: fc.constant(1),
  mode: fc.constantFrom('new' as const, 'resume' as const, 'migrate' as const),
  channel: fc.uint8Array({ minLength: 16, maxLength: 16 }),
  secret: fc.uint8Array({ minLength: 32, maxLength: 32 }),
  cluster: name,
  node: name,
  classes: fc.constant(trafficClassNames),
  transports: fc.constantFrom(['quic'] as const, ['quic', 'tcp'] as const),
  configVersion: varint,
  directoryVersion: varint,
  trustVersion: varint,
  routeEpoch: varint,
  draining: fc.boolean(),
  return_ms: varint,
});

t.test('a hello comes back as it was, what a newer version adds is ignored, and what follows it is kept', async (t) => {
  fc.assert(
    fc.property(hello, fc.constantFrom('hello' as const, 'accept' as const), payload, (value, type, behind) => {
      const bytes = encodeHello(type, value);
      for (let at = 0; at < bytes.length; at++) if (splitHello(bytes.slice(0, at)) !== null) return false;
      const split = splitHello(joined(bytes, behind));
      if (split?.type !== type || !Buffer.from(split.rest).equals(behind)) return false;
      const again = decodeHello(joined(split.body, Uint8Array.of(1, 2, 3)));
      return JSON.stringify(again) === JSON.stringify(value);
    }),
    { numRuns: 200 },
  );
  t.pass();
});

t.test('what a newer end adds behind a drain frame is ignored', async (t) => {
  const got: ControlFrame[] = [];
  const decoder = new FrameDecoder({ data() {}, latest() {}, datagram() {}, hello() {}, control: (frame) => void got.push(frame) });
  decoder.push(encodeFrame(frameTypes.drain, Uint8Array.of(1, 5, 9, 9, 9)));
  t.same(got, [{ type: 'drain', draining: true, left_ms: 5 }]);
});

t.test('a hello of an earlier minor, without what was added since, is understood', async (t) => {
  fc.assert(
    fc.property(hello, (value) => {
      const body = splitHello(encodeHello('hello', { ...value, return_ms: 0 }))?.body ?? new Uint8Array();
      const earlier = decodeHello(body.subarray(0, body.length - 1));
      return JSON.stringify(earlier) === JSON.stringify({ ...value, return_ms: 0 });
    }),
    { numRuns: 100 },
  );
  t.pass();
});

t.test('random octets where a hello belongs are refused with a code, or more are waited for', async (t) => {
  fc.assert(
    fc.property(fc.tuple(fc.constantFrom(0, 1, 2, 22), fc.uint8Array({ maxLength: 200 })), ([first, rest]) => {
      try {
        const split = splitHello(joined(Uint8Array.of(first), rest));
        if (split) decodeHello(split.body);
        return true;
      } catch (error) {
        return error instanceof SelvedgeError && (allowed.has(error.code) || error.code === 'version_unsupported');
      }
    }),
    { numRuns: 2_000 },
  );
  t.pass();
});
