/** Frames and greetings of a carried path: cut anywhere, dropped by whole packets, and what a hostile end may write. */
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { type CarryWord, encodeWord, FrameGate, PACKET_BYTES_MIN } from '../../../src/transport/carry/frames.ts';
import { CARRY_SERVICE, encodeGreeting, hearGreeting, parseGreeting } from '../../../src/transport/carry/greeting.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { MemoryNet } from '../services/memory-mesh.ts';

type Item = { readonly packet: Uint8Array; readonly isAdmitted: boolean } | CarryWord;

const item = fc.oneof(
  { weight: 4, arbitrary: fc.record({ packet: fc.uint8Array({ minLength: PACKET_BYTES_MIN, maxLength: 400 }), isAdmitted: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ wants: fc.boolean(), hears: fc.boolean() }) },
);
const frame = (packet: Uint8Array) => Buffer.concat([Uint8Array.of(packet.length >> 8, packet.length & 255), packet]);
const encode = (one: Item) => ('packet' in one ? frame(one.packet) : encodeWord(one));

/** The octets in pieces that end where `cuts` say. */
function pieces(bytes: Uint8Array, cuts: readonly number[]): Uint8Array[] {
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((left, right) => left - right);
  return [...ends, bytes.length].map((end, index) => bytes.subarray(index === 0 ? 0 : ends[index - 1], end));
}

t.test('wherever the pieces end, admitted packets go through whole and in order, the others leave no octet, and words are heard', async () => {
  fc.assert(
    fc.property(fc.array(item, { maxLength: 20 }), fc.array(fc.nat(10_000), { maxLength: 40 }), (items, cuts) => {
      const packets = items.filter((one) => 'packet' in one);
      const words: CarryWord[] = [];
      const passed: Uint8Array[] = [];
      let asked = 0;
      const gate = new FrameGate({
        admit: (bytes) => {
          const one = packets[asked++];
          return one !== undefined && bytes === one.packet.length + 2 && one.isAdmitted;
        },
        onWord: (word) => words.push(word),
      });
      let passedBytes = 0;
      let end = 0;
      const boundaries = new Set([end]);
      for (const { packet, isAdmitted } of packets) {
        if (isAdmitted) end += 2 + packet.length;
        boundaries.add(end);
      }
      for (const piece of pieces(Buffer.concat(items.map(encode)), cuts)) {
        gate.push(piece, (through) => {
          passed.push(through);
          passedBytes += through.length;
        });
        // Only between two frames is it said that something may be put there.
        if (!gate.isMidFrame && !boundaries.has(passedBytes)) return false;
      }
      const wanted = Buffer.concat(packets.filter(({ isAdmitted }) => isAdmitted).map(({ packet }) => frame(packet)));
      return Buffer.concat(passed).equals(wanted) && JSON.stringify(words) === JSON.stringify(items.filter((one) => !('packet' in one)));
    }),
    { numRuns: 500 },
  );
});

t.test('lengths that no packet has end the path', async (t) => {
  for (const size of [0, 2, PACKET_BYTES_MIN - 1]) {
    const gate = new FrameGate({ admit: () => true, onWord: () => undefined });
    t.throws(() => gate.push(Uint8Array.of(0, size, 0), () => undefined), { code: 'frame_invalid' }, `${size}`);
  }
  const withoutWords = new FrameGate({ admit: () => true, onWord: null });
  t.throws(() => withoutWords.push(encodeWord({ wants: true, hears: true }), () => undefined), { code: 'frame_invalid' });
  const gate = new FrameGate({ admit: () => true, onWord: () => undefined });
  t.throws(() => gate.push(Uint8Array.of(0, 1, 4), () => undefined), { code: 'frame_invalid' }, 'a word with unknown bits');
});

t.test('garbage is passed on as packets or ends the path; nothing is kept of it', async () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 20 }), (garbage) => {
      const gate = new FrameGate({ admit: () => true, onWord: () => undefined });
      let passed = 0;
      try {
        for (const piece of garbage) gate.push(piece, ({ length }) => (passed += length));
      } catch (error) {
        return (error as { code?: string }).code === 'frame_invalid';
      }
      return passed <= garbage.reduce((sum, { length }) => sum + length, 0);
    }),
    { numRuns: 500 },
  );
});

t.test('a greeting is read however it is cut, with what came behind it', async () => {
  const greeting = { from: 'aaaaaaaaaaaa', to: 'tower' };
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (rest, cut) => {
      const bytes = Buffer.concat([encodeGreeting(greeting), rest]);
      const whole = parseGreeting(bytes);
      const part = parseGreeting(bytes.subarray(0, cut));
      const isShort = cut < bytes.length - rest.length;
      return JSON.stringify(whole?.greeting) === JSON.stringify(greeting) && Buffer.from(whole?.rest ?? []).equals(rest) && (part === null) === isShort;
    }),
  );
});

t.test('what is no greeting is refused, and never more than a greeting is kept', async () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 2 + limits.carry_greeting_bytes_max, maxLength: 200 }), (garbage) => {
      try {
        return parseGreeting(garbage) !== null;
      } catch (error) {
        return ['frame_invalid', 'frame_too_large', 'version_unsupported', 'limit_reached'].includes((error as { code?: string }).code ?? '');
      }
    }),
    { numRuns: 500 },
  );
});

t.test('a flow of another class or kind, one that says nothing, and one that ends before it said who it is are refused', async (t) => {
  const timers = new VirtualTimers();
  const codes: string[] = [];
  const net = new MemoryNet();
  net.mesh('b').handle(CARRY_SERVICE, (flow) => {
    hearGreeting(flow, timers).catch((error: { code: string }) => codes.push(error.code));
  });
  const a = net.mesh('a');
  a.open('b', 'file_transfer', 'stream', CARRY_SERVICE);
  a.open('b', 'vpn_packet', 'datagrams', CARRY_SERVICE);
  a.open('b', 'vpn_packet', 'stream', CARRY_SERVICE).end();
  const silent = a.open('b', 'vpn_packet', 'stream', CARRY_SERVICE);
  silent.write(Uint8Array.of(0));
  await timers.advance(limits.handshake_ms_max);
  t.match(await silent.closed, { code: 'timeout' });
  t.same(codes.sort(), ['channel_class_denied', 'flow_refused', 'frame_invalid', 'frame_invalid']);
  t.equal(timers.waiting, 0);
});
