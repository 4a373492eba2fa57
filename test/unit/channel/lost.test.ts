/** One frame that is lost with its session, for each frame that matters: the flow ends as if nothing had happened. */
import t from 'tap';
import { frameTypes } from '../../../src/channel/frames.ts';
import type { Flow } from '../../../src/channel/flow.ts';
import { limits } from '../../../src/base/limits.ts';
import { type End, Pair } from './pair.ts';

/** Answers what it reads, and ends when the other has. */
function answer(end: End): void {
  end.onEvent = (event) => {
    if (event.type !== 'flow' && event.type !== 'readable') return;
    for (let bytes = event.flow.read(); bytes !== null; bytes = event.flow.read()) event.flow.write(bytes);
    if (event.flow.isReadDone && !event.flow.isEnded) event.flow.end();
  };
}

function collect(end: End): { text: string } {
  const got = { text: '' };
  end.onEvent = (event) => {
    if (event.type !== 'readable') return;
    for (let bytes = event.flow.read(); bytes !== null; bytes = event.flow.read()) got.text += new TextDecoder().decode(bytes);
  };
  return got;
}

const bytesOf = (text: string): Uint8Array => new TextEncoder().encode(text);

for (const [end, type, nth] of [
  ['a', 'open', 1],
  ['a', 'data', 1],
  ['a', 'data', 2],
  ['b', 'data', 1],
  ['b', 'data', 2],
  ['a', 'ack', 1],
  ['a', 'ack', 2],
  ['b', 'ack', 1],
  ['b', 'ack', 2],
] as const) {
  for (const mode of ['resume', 'migrate'] as const) {
    t.test(`a conversation ends well though ${end} loses its ${type} ${nth} with the session, then ${mode}`, async (t) => {
      const pair = new Pair();
      const wire = pair.attach('new');
      answer(pair.b);
      const got = collect(pair.a);
      pair.world.run(100);
      let seen = 0;
      let isCut = false;
      pair[end].onTransmit = (frame) => {
        if (isCut || frame.head[0] !== frameTypes[type] || ++seen < nth) return;
        isCut = true;
        if (mode === 'resume') wire.cut();
        else {
          // The one before dies while it drains, with what was on it.
          pair.world.at(pair.world.now, () => pair.attach('migrate'));
          pair.world.at(pair.world.now + 5, () => wire.cut());
        }
      };
      const flow = pair.a.open('clipboard', 'stream', 'echo');
      pair.a.do(() => flow.write(bytesOf('hello ')));
      pair.world.run(60);
      if (!flow.isEnded) pair.a.do(() => flow.write(bytesOf('world')));
      if (!flow.isEnded) pair.a.do(() => flow.end());
      pair.world.run(300);
      t.equal(isCut, true, 'the frame was sent and lost');
      if (mode === 'resume') pair.attach('resume');
      pair.world.run(1_000);
      t.equal(got.text, 'hello world');
      t.same([flow.isEnded, flow.error], [true, null]);
      t.same(
        pair.b.accepted.map((far) => [far.isEnded, far.error]),
        [[true, null]],
        'opened once there, and ended well',
      );
      t.same(pair.leftovers(), []);
    });
  }
}

t.test('a credit that was lost is given again', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  const flow = pair.a.open('file_transfer', 'stream', 'x');
  const size = limits.flow_window_bytes_initial + 1_000;
  pair.a.do(() => flow.write(new Uint8Array(size)));
  pair.world.run(100);
  t.equal(flow.send?.waiting, 1_000, 'the window is full');
  const far = pair.b.accepted[0] as Flow;
  // What is sent now never arrives: the acknowledgement that carries the credit is on it.
  wire.cut({ a: 50, b: 50 });
  pair.b.do(() => {
    while (far.read());
  });
  pair.world.run(100);
  pair.attach('resume');
  pair.world.run(500);
  t.equal(far.receive?.received, size);
  t.same(pair.leftovers(), []);
});

t.test('a reset that was lost ends the flow at the other end as soon as the channel resumes, with its code', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  const flow = pair.a.open('clipboard', 'stream', 'x');
  pair.world.run(100);
  wire.cut({ a: 50, b: 50 });
  pair.a.do(() => flow.reset('flow_refused', 'enough'));
  pair.world.run(100);
  t.equal(pair.b.accepted[0]?.isEnded, false);
  pair.attach('resume');
  pair.world.run(100);
  t.match(pair.b.accepted[0]?.error, { code: 'flow_lost' });
  t.same(pair.leftovers(), []);
});

t.test('a reset made while no session carries the channel arrives with its code', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  const flow = pair.a.open('clipboard', 'stream', 'x');
  pair.world.run(100);
  wire.cut();
  pair.world.run(1);
  pair.a.do(() => flow.reset('flow_refused', 'enough'));
  pair.attach('resume');
  pair.world.run(100);
  t.match(pair.b.accepted[0]?.error, { code: 'flow_refused' });
  t.same(pair.leftovers(), []);
});

t.test('a reset that had not left when the session was replaced leaves on the next', async (t) => {
  const pair = new Pair();
  pair.attach('new', { sources: 'lanes', rate: 1, unsent_bytes_max: 200 });
  const flow = pair.a.open('input', 'stream', 'x');
  pair.world.run(500);
  pair.a.do(() => flow.write(new Uint8Array(1_000)));
  pair.a.do(() => flow.reset('flow_refused', 'enough'));
  pair.attach('migrate');
  pair.world.run(50);
  t.match(pair.b.accepted[0]?.error, { code: 'flow_refused' });
  t.same(pair.leftovers(), []);
});

t.test('flows opened while no session carries the channel open with the next one', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  pair.world.run(100);
  wire.cut();
  pair.world.run(1);
  answer(pair.b);
  const got = collect(pair.a);
  const flow = pair.a.open('input', 'stream', 'x');
  pair.a.do(() => flow.write(bytesOf('typed blind')));
  const gone = pair.a.open('input', 'stream', 'never mind');
  pair.a.do(() => gone.reset('session_closed', 'changed my mind'));
  pair.attach('resume');
  pair.world.run(200);
  t.equal(got.text, 'typed blind');
  t.equal(pair.b.accepted.length, 1, 'what was taken back is never seen');
  t.same(pair.leftovers(), []);
});

t.test('opening and dropping flows while suspended has its bound, and the channel outlives it', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  pair.world.run(100);
  wire.cut();
  pair.world.run(1);
  const churn = (): void => {
    for (let count = 0; count < 10_000; count++) pair.a.channel.open('input', 'stream', 'x').reset('session_closed', 'no');
  };
  t.throws(churn, { code: 'limit_reached' });
  pair.attach('resume');
  pair.world.run(500);
  const flow = pair.a.open('input', 'stream', 'y');
  pair.world.run(100);
  t.equal(pair.b.accepted.at(-1)?.id, flow.id);
  t.equal(pair.b.failure, null);
  t.same(pair.leftovers(), []);
});

t.test('a session that dies while the next is greeted loses nothing: the next resumes though it was dialed to migrate', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  const flow = pair.a.open('file_transfer', 'stream', 'x');
  const got = { count: 0 };
  pair.b.onEvent = (event) => {
    if (event.type === 'readable') for (let bytes = event.flow.read(); bytes !== null; bytes = event.flow.read()) got.count += bytes.length;
  };
  pair.world.run(100);
  pair.a.do(() => flow.write(new Uint8Array(50_000)));
  wire.cut({ a: 0, b: 30 });
  pair.world.run(5);
  pair.attach('migrate', {}, 10);
  pair.world.run(500);
  t.equal(got.count, 50_000);
  t.same(pair.leftovers(), []);
});

t.test('a source that ends in the middle of a frame loses the session, not the channel', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  pair.world.run(100);
  pair.b.do((channel) => {
    channel.receive(pair.world.now, wire.key, 77, Uint8Array.of(frameTypes.ack, 5));
    channel.sourceEnded(pair.world.now, wire.key, 77);
  });
  t.equal(pair.b.channel.isSuspended, true);
  t.equal(pair.b.channel.state, 'established');
  t.not(pair.b.channel.pollTimeout(pair.world.now), null, 'its carrier time runs');
  pair.world.run(50);
  pair.attach('resume');
  pair.world.run(100);
  t.equal(pair.b.channel.isSuspended, false);
  t.same(pair.leftovers(), []);
});

t.test('moving from session to session delivers nothing twice, with both under way', async (t) => {
  const pair = new Pair({ seed: 3 });
  pair.attach('new', { delay_ms: 80, rate: 500, unsent_bytes_max: 4_000_000 });
  const flow = pair.a.open('file_transfer', 'stream', 'x');
  let count = 0;
  let isRight = true;
  pair.b.onEvent = (event) => {
    if (event.type !== 'readable') return;
    for (let bytes = event.flow.read(); bytes !== null; bytes = event.flow.read()) for (const octet of bytes) isRight &&= octet === (count++ * 7) % 251;
  };
  const size = 200_000;
  pair.world.run(300);
  pair.a.do(() => flow.write(Uint8Array.from({ length: size }, (_, index) => (index * 7) % 251)));
  for (let move = 0; move < 8; move++) {
    pair.world.run(20);
    pair.attach('migrate', { delay_ms: 80 - move * 10, rate: 500 });
  }
  pair.world.run(3_000);
  t.equal(count, size);
  t.equal(isRight, true);
  t.equal(pair.a.wires.size, 1, 'the old sessions have finished and are gone');
  t.same(pair.leftovers(), []);
});
