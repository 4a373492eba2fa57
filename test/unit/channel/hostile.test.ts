/** A peer that breaks the rules ends its own channel, with the code that says how, and never with more memory than the limits name. */
import t from 'tap';
import { ByteWriter } from '../../../src/base/bytes.ts';
import type { ErrorCode } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { encodeControl, encodeDatagramHead, encodeDataHead, encodeFrame, encodeLatestHead } from '../../../src/channel/frame-encoder.ts';
import { frameTypes, type HeartbeatFrame } from '../../../src/channel/frames.ts';
import { Pair } from './pair.ts';

const joined = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));
const data = (flow: number, offset: number, bytes: Uint8Array, fin = false): Uint8Array => joined(encodeDataHead(flow, offset, bytes.length, fin, null), bytes);
const open = (flow: number, kind: 'stream' | 'messages' | 'latest' | 'datagrams' = 'stream'): Uint8Array =>
  encodeControl({ type: 'open', flow, class: kind === 'latest' ? 'render' : kind === 'datagrams' ? 'vpn_packet' : 'clipboard', kind, service: 'x' });

const heartbeat: HeartbeatFrame = {
  channel: new Uint8Array(16),
  from: 'aaaaaaaaaaaa',
  to: 'bbbbbbbbbbbb',
  sequence: 1,
  stamp_us: 0,
  latency_us: 0,
  jitter_us: 0,
  loss_ppm: 0,
  health: 0,
  draining: false,
  configVersion: 0,
  routeEpoch: 0,
};

/** The acceptor with a session whose dialer is this test: it sends what it likes. */
class Victim {
  readonly pair = new Pair();
  readonly key = 1;
  /** Frames that the victim sent. */
  readonly heard: Uint8Array[] = [];

  constructor() {
    this.pair.b.onTransmit = (frame) => void this.heard.push(frame.head);
    this.pair.b.do((channel) => channel.attach(this.pair.world.now, this.key, { transport: 'memory', chunkBytesMax: 16_384 }, 'new'));
  }

  say(...frames: Uint8Array[]): this {
    this.pair.b.do((channel) => {
      for (const frame of frames) channel.receive(this.pair.world.now, this.key, 0, frame);
    });
    return this;
  }

  get code(): ErrorCode | null {
    return this.pair.b.failure?.code ?? null;
  }

  get flow() {
    const flow = this.pair.b.accepted[0];
    if (!flow) throw new Error('no flow');
    return flow;
  }
}

const refusals: [string, ErrorCode, (victim: Victim) => void][] = [
  ['a second hello', 'frame_invalid', (victim) => victim.say(encodeFrame(frameTypes.hello, new Uint8Array(60)))],
  ['an accept where none belongs', 'frame_invalid', (victim) => victim.say(encodeFrame(frameTypes.accept, new Uint8Array(60)))],
  ['a frame type below 64 that nobody knows', 'frame_invalid', (victim) => victim.say(encodeFrame(13, new Uint8Array(3)))],
  [
    'a frame that claims more than any may',
    'frame_too_large',
    (victim) =>
      victim.say(
        new ByteWriter()
          .u8(frameTypes.ack)
          .varint(limits.control_frame_bytes_max + 1)
          .finish(),
      ),
  ],
  [
    'a data frame that claims more than any may',
    'frame_too_large',
    (victim) =>
      victim.say(
        new ByteWriter()
          .u8(frameTypes.data)
          .varint(2 ** 40)
          .finish(),
      ),
  ],
  ['an opening with the other side’s number', 'flow_violation', (victim) => victim.say(open(2))],
  ['an opening far ahead of all others', 'flow_violation', (victim) => victim.say(open(1_000_001))],
  [
    'an opening with number 0',
    'frame_invalid',
    (victim) => victim.say(encodeFrame(frameTypes.open, new ByteWriter().varint(0).u8(6).u8(0).text('x').finish())),
  ],
  ['octets for a flow that was never opened', 'flow_violation', (victim) => victim.say(data(7, 0, new Uint8Array(1)))],
  ['octets for a flow of ours that was never opened', 'flow_violation', (victim) => victim.say(data(8, 0, new Uint8Array(1)))],
  ['octets beyond the credit', 'flow_violation', (victim) => victim.say(open(1), data(1, limits.flow_window_bytes_initial, new Uint8Array(1)))],
  ['octets after the end', 'flow_violation', (victim) => victim.say(open(1), data(1, 0, new Uint8Array(3), true), data(1, 3, new Uint8Array(1)))],
  ['an end before octets that came', 'flow_violation', (victim) => victim.say(open(1), data(1, 10, new Uint8Array(3)), data(1, 0, new Uint8Array(3), true))],
  ['an end that moves', 'flow_violation', (victim) => victim.say(open(1), data(1, 3, new Uint8Array(3), true), data(1, 0, new Uint8Array(3), true))],
  ['octets of a stream on a flow of frames', 'flow_violation', (victim) => victim.say(open(1, 'latest'), data(1, 0, new Uint8Array(3)))],
  [
    'a frame of a picture on a stream',
    'flow_violation',
    (victim) => victim.say(open(1), joined(encodeLatestHead({ flow: 1, sequence: 1, total: 3, offset: 0 }, 3), new Uint8Array(3))),
  ],
  ['a datagram on a stream', 'flow_violation', (victim) => victim.say(open(1), joined(encodeDatagramHead(1, 3), new Uint8Array(3)))],
  [
    'an acknowledgement of octets that were never sent',
    'flow_violation',
    (victim) => victim.say(open(1), encodeControl({ type: 'ack', flow: 1, consumed: 5, limit: 100 })),
  ],
  [
    'an acknowledgement for a flow that was never opened',
    'flow_violation',
    (victim) => victim.say(encodeControl({ type: 'ack', flow: 1, consumed: 0, limit: 100 })),
  ],
  [
    'a credit below what was consumed',
    'frame_invalid',
    (victim) => victim.say(open(1), encodeFrame(frameTypes.ack, new ByteWriter().varint(1).varint(9).varint(3).finish())),
  ],
  [
    'a reset of a flow of ours that was never opened',
    'flow_violation',
    (victim) => victim.say(encodeControl({ type: 'reset', flow: 8, code: 'flow_reset', reason: '' })),
  ],
  [
    'a resume at octets that were never sent',
    'flow_violation',
    (victim) => victim.say(open(1), encodeControl({ type: 'resume', more: false, entries: [{ flow: 1, status: 'live', received: 99 }] })),
  ],
  [
    'a resume that calls a living flow done',
    'flow_violation',
    (victim) => victim.say(open(1), encodeControl({ type: 'resume', more: false, entries: [{ flow: 1, status: 'done', received: 0 }] })),
  ],
  [
    'a resume of a flow of ours that was never opened',
    'flow_violation',
    (victim) => victim.say(encodeControl({ type: 'resume', more: false, entries: [{ flow: 8, status: 'live', received: 0 }] })),
  ],
  [
    'a heartbeat of another channel',
    'frame_invalid',
    (victim) => victim.say(encodeControl({ type: 'heartbeat', ...heartbeat, channel: new Uint8Array(16).fill(1) })),
  ],
  ['a heartbeat from another node', 'frame_invalid', (victim) => victim.say(encodeControl({ type: 'heartbeat', ...heartbeat, from: 'cccccccccccc' }))],
  ['a heartbeat for another node', 'frame_invalid', (victim) => victim.say(encodeControl({ type: 'heartbeat', ...heartbeat, to: 'cccccccccccc' }))],
  [
    'a datagram that is not one whole frame',
    'frame_invalid',
    (victim) => victim.pair.b.do((channel) => channel.receiveDatagram(victim.pair.world.now, victim.key, Uint8Array.of(frameTypes.datagram, 9, 1))),
  ],
];

for (const [what, code, act] of refusals) {
  t.test(`${what} fails the channel with ${code}`, async (t) => {
    const victim = new Victim();
    act(victim);
    t.equal(victim.code, code);
    t.equal(victim.pair.b.channel.state, 'failed');
    t.match(
      victim.pair.b.events.find((event) => event.type === 'drop'),
      { key: victim.key, error: { code } },
      'and the session is closed with the same',
    );
    t.equal([...victim.pair.b.channel.flows].length, 0);
    t.equal(victim.pair.b.channel.pollTimeout(victim.pair.world.now), null);
  });
}

t.test('frames of a newer version are skipped', async (t) => {
  const victim = new Victim().say(encodeFrame(65, new Uint8Array(100)), encodeFrame(255, new Uint8Array(0)), open(1), data(1, 0, Uint8Array.of(5)));
  t.equal(victim.code, null);
  t.same(victim.flow.read(), Uint8Array.of(5));
});

t.test('what comes late for a flow that has ended is ignored', async (t) => {
  const victim = new Victim().say(open(1));
  victim.pair.b.do(() => victim.flow.reset('flow_refused', 'no'));
  victim.say(
    data(1, 0, new Uint8Array(9)),
    encodeControl({ type: 'ack', flow: 1, consumed: 0, limit: 9 }),
    encodeControl({ type: 'reset', flow: 1, code: 'flow_reset', reason: '' }),
    open(1),
  );
  t.equal(victim.code, null);
  t.equal(victim.pair.b.accepted.length, 1, 'and a number opens one flow only');
});

t.test('a reset that overtakes its opening keeps the flow from opening', async (t) => {
  const victim = new Victim().say(encodeControl({ type: 'reset', flow: 1, code: 'flow_reset', reason: 'never mind' }), open(1), open(3));
  t.equal(victim.code, null);
  t.same(
    victim.pair.b.accepted.map((flow) => flow.id),
    [3],
  );
});

t.test('openings beyond the limit are refused one by one, and the channel lives', async (t) => {
  const victim = new Victim();
  for (let count = 0; count < limits.flows_per_channel_max + 100; count++) victim.say(open(1 + 2 * count));
  t.equal(victim.code, null);
  t.equal([...victim.pair.b.channel.flows].length, limits.flows_per_channel_max);
  t.equal(victim.heard.filter((head) => head[0] === frameTypes.reset).length, 100);
});

t.test('openings without end from a peer that takes no answer end the channel before they fill the memory', async (t) => {
  const victim = new Victim();
  victim.pair.b.channel.setReady(victim.key, 'urgent', false);
  let count = 0;
  while (victim.code === null && count < 100_000) victim.say(open(1 + 2 * count++));
  t.equal(victim.code, 'limit_reached');
  t.ok(count < 5 * limits.flows_per_channel_max, `after ${count}`);
});

t.test('flows of pictures have a bound of their own, since each may hold two of them', async (t) => {
  const victim = new Victim();
  for (let count = 0; count < limits.latest_flows_per_channel_max + 5; count++) victim.say(open(1 + 2 * count, 'latest'));
  t.equal([...victim.pair.b.channel.flows].length, limits.latest_flows_per_channel_max);
});

t.test('sources without end are refused', async (t) => {
  const victim = new Victim();
  victim.pair.b.do((channel) => {
    for (let source = 0; source < 10_000 && !channel.hasEnded; source++)
      channel.receive(victim.pair.world.now, victim.key, source, Uint8Array.of(frameTypes.ack));
  });
  t.equal(victim.code, 'limit_reached');
});

t.test('single octets cost what they are, however they come: in order, ahead, with holes, again', async (t) => {
  const victim = new Victim().say(open(1));
  const large = (flow: number, offset: number): Uint8Array => {
    // One octet of data in a buffer of 64 KiB: what is kept of it must not keep the buffer.
    const buffer = new Uint8Array(65_536);
    const frame = data(flow, offset, Uint8Array.of(offset & 0xff));
    buffer.set(frame);
    return buffer.subarray(0, frame.length);
  };
  globalThis.gc?.();
  const before = process.memoryUsage().arrayBuffers;
  for (let offset = 0; offset < 20_000; offset++) victim.say(large(1, offset));
  for (let offset = 30_000; offset < 36_000; offset += 2) victim.say(large(1, offset), large(1, offset));
  for (let offset = 30_001; offset < 36_000; offset += 2) victim.say(large(1, offset));
  globalThis.gc?.();
  t.equal(victim.code, null);
  t.equal(victim.flow.receive?.received, 20_000);
  if (globalThis.gc) t.ok(process.memoryUsage().arrayBuffers - before < 8_000_000);
  for (let offset = 20_000; offset < 30_000; offset++) victim.say(large(1, offset));
  t.equal(victim.flow.receive?.received, 36_000);
  let at = 0;
  let isRight = true;
  for (let bytes = victim.flow.read(); bytes !== null; bytes = victim.flow.read()) for (const octet of bytes) isRight &&= octet === (at++ & 0xff);
  t.equal(at, 36_000);
  t.equal(isRight, true);
});

t.test('holes without end are refused', async (t) => {
  const victim = new Victim().say(open(1));
  for (let offset = 1; offset < limits.flow_window_bytes_initial && victim.code === null; offset += 2) victim.say(data(1, offset, Uint8Array.of(1)));
  t.equal(victim.code, 'limit_reached');
});

t.test('a message longer than any may be, or cut off by the end, resets its flow and no other', async (t) => {
  for (const bytes of [
    new ByteWriter().varint(limits.message_bytes_max + 1).finish(),
    Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(9, 1, 2),
  ]) {
    const victim = new Victim().say(open(1, 'messages'), open(3), data(1, 0, bytes, true));
    t.equal(
      victim.pair.b.do(() => victim.flow.readMessage()),
      null,
    );
    t.match(victim.flow.error, { code: 'flow_violation' });
    t.equal(victim.code, null);
    t.equal([...victim.pair.b.channel.flows].length, 1);
  }
});

t.test('heartbeats in a storm are answered one at a time', async (t) => {
  const victim = new Victim();
  const ping = encodeControl({ type: 'heartbeat', ...heartbeat });
  victim.pair.b.channel.setReady(victim.key, 'urgent', false);
  for (let count = 0; count < 10_000; count++) victim.say(ping);
  victim.heard.length = 0;
  victim.pair.b.do((channel) => channel.setReady(victim.key, 'urgent', true));
  t.equal(victim.heard.filter((head) => head[0] === frameTypes.echo).length, 1);
});

t.test('resumes in a storm are taken as often as they come, and leave nothing behind', async (t) => {
  const victim = new Victim().say(open(1));
  const entries = Array.from({ length: 500 }, (_, index) => ({ flow: 1 + 2 * index, status: 'live' as const, received: 0 }));
  for (let count = 0; count < 200; count++) victim.say(encodeControl({ type: 'resume', more: false, entries }));
  t.equal(victim.code, null);
  for (let count = 0; count < 20; count++)
    victim.say(encodeControl({ type: 'resume', more: true, entries: entries.map((entry) => ({ ...entry, flow: entry.flow + 1_000 * count })) }));
  t.equal(victim.code, 'frame_invalid', 'but a list without end is refused');
});
