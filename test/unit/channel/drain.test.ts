/** Draining on one channel: what either end refuses, what goes on, and that no loss of a session hides it. */
import t from 'tap';
import { classRow, trafficClassNames } from '../../../src/channel/classes.ts';
import { Pair } from './pair.ts';

function connected(): Pair {
  const pair = new Pair();
  pair.attach('new');
  pair.world.run(100);
  return pair;
}

t.test('both ends are draining once one says so, and both are back when it takes that back', async (t) => {
  const pair = connected();
  pair.a.do((channel) => channel.drain(pair.world.now + 60_000));
  pair.world.run(20);
  t.same([pair.a.channel.state, pair.b.channel.state], ['draining', 'draining']);
  pair.a.do((channel) => channel.undrain());
  pair.world.run(20);
  t.same([pair.a.channel.state, pair.b.channel.state], ['established', 'established']);
  t.same(pair.leftovers(), []);
});

t.test('while one end drains, neither opens a flow but of an essential class, and the reason names who drains', async (t) => {
  const pair = connected();
  pair.a.do((channel) => channel.drain(pair.world.now + 60_000));
  pair.world.run(20);
  for (const name of trafficClassNames) {
    for (const end of [pair.a, pair.b]) {
      if (classRow(name).essential === true) t.doesNotThrow(() => end.open(name, 'messages', 'x'), name);
      else t.throws(() => end.open(name, classRow(name).kinds[0] ?? 'stream', 'x'), { code: 'peer_draining', facts: { peer: pair.a.channel.self } }, name);
    }
  }
});

t.test('a flow that was opened before the word came is refused by the end that drains', async (t) => {
  const pair = connected();
  pair.a.do((channel) => channel.drain(pair.world.now + 60_000));
  const early = pair.b.open('clipboard', 'stream', 'x');
  pair.world.run(100);
  t.match(early.error, { code: 'peer_draining' });
});

t.test('flows that are there go on to their end, and control messages are all taken', async (t) => {
  const pair = connected();
  const bulk = pair.b.open('file_transfer', 'stream', 'bulk');
  const control = pair.b.open('fabric_control', 'messages', 'control');
  pair.b.do(() => bulk.write(new Uint8Array(50_000)));
  pair.world.run(100);
  pair.a.do((channel) => channel.drain(pair.world.now + 1_000));
  for (let number = 0; number < 50; number++) {
    pair.b.do(() => control.sendMessage(Uint8Array.of(number)));
    pair.b.do(() => bulk.write(new Uint8Array(1_000).fill(number)));
    pair.world.run(7);
  }
  pair.b.do(() => bulk.end());
  pair.world.run(100);
  const [bulkIn, controlIn] = pair.a.accepted;
  t.equal(bulkIn?.receive?.received, 100_000);
  const numbers: number[] = [];
  for (let message = controlIn?.readMessage() ?? null; message !== null; message = controlIn?.readMessage() ?? null) numbers.push(message[0] ?? -1);
  t.same(
    numbers,
    Array.from({ length: 50 }, (_, number) => number),
  );
});

t.test('the word is said again on the session that takes over, should it have been lost with the one before', async (t) => {
  for (const mode of ['resume', 'migrate'] as const) {
    const pair = connected();
    const wire = pair.attach('migrate');
    pair.world.run(50);
    wire.isSilent = true;
    pair.a.do((channel) => channel.drain(pair.world.now + 60_000));
    pair.world.run(5);
    t.equal(pair.b.channel.state, 'established', 'it has not heard');
    pair.attach(mode);
    pair.world.run(100);
    t.equal(pair.b.channel.state, 'draining', mode);
  }
});

t.test('a heartbeat alone tells it, as an end of an earlier version would', async (t) => {
  const pair = connected();
  pair.a.channel.draining.begin(pair.world.now + 60_000);
  pair.a.channel.draining.takeWord(pair.world.now);
  pair.world.run(15_000);
  t.equal(pair.b.channel.state, 'draining');
});

t.test('a channel that comes to be established while an end drains is draining from its first moment', async (t) => {
  const { a } = new Pair({ isIdle: true });
  a.channel.drain(1_000);
  t.equal(a.channel.state, 'idle');
  for (const cause of ['dial', 'connected', 'handshaken', 'authenticated', 'authorized'] as const) a.channel.move(cause);
  t.equal(a.channel.state, 'draining');
});
