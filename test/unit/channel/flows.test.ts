/** Flows of the four kinds: what each promises, and the bounds that hold whatever the other end does. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import type { Flow } from '../../../src/channel/flow.ts';
import { Pair } from './pair.ts';

const KIB = 1024;

function opened(pair: Pair, ...args: Parameters<Pair['a']['open']>): { near: Flow; far: Flow } {
  const near = pair.a.open(...args);
  if (!pair.world.runWhen(() => pair.b.accepted.some((flow) => flow.id === near.id), 5_000)) throw new Error('not opened');
  return { near, far: pair.b.accepted.find((flow) => flow.id === near.id) as Flow };
}

function readAll(flow: Flow): number {
  let count = 0;
  for (let bytes = flow.read(); bytes !== null; bytes = flow.read()) count += bytes.length;
  return count;
}

t.test('a stream carries octets both ways and ends each way by itself', async (t) => {
  const pair = new Pair();
  pair.attach('new');
  const { near, far } = opened(pair, 'clipboard', 'stream', 'echo');
  pair.a.do(() => near.write(Uint8Array.of(1, 2)));
  pair.a.do(() => near.end());
  pair.world.run(100);
  t.same(
    pair.b.do(() => far.read()),
    Uint8Array.of(1, 2),
  );
  t.equal(far.isReadDone, true);
  t.throws(() => near.write(Uint8Array.of(3)), { code: 'handle_closed' });
  pair.b.do(() => far.write(Uint8Array.of(9)));
  pair.b.do(() => far.end());
  pair.world.run(100);
  t.same(
    pair.a.do(() => near.read()),
    Uint8Array.of(9),
  );
  pair.world.run(200);
  t.same([near.isEnded, near.error, far.isEnded, far.error], [true, null, true, null]);
  t.same(pair.leftovers(), []);
});

t.test('messages arrive whole, also the empty one and the largest', async (t) => {
  const pair = new Pair();
  pair.attach('new', { isSplit: true });
  const { near, far } = opened(pair, 'telemetry', 'messages', 'm');
  const sizes = [0, 1, 63, 64, 65_536, limits.message_bytes_max, 5];
  for (const size of sizes) pair.a.do(() => near.sendMessage(new Uint8Array(size).fill(size & 0xff)));
  t.throws(() => near.sendMessage(new Uint8Array(limits.message_bytes_max + 1)), { code: 'frame_too_large' });
  const got: Uint8Array[] = [];
  pair.b.onEvent = () => {
    for (let message = far.readMessage(); message !== null; message = far.readMessage()) got.push(message);
  };
  pair.world.runWhen(() => got.length === sizes.length, 5_000);
  t.same(
    got.map((message) => message.length),
    sizes,
  );
  t.ok(got.every((message) => message.every((octet) => octet === (message.length & 0xff))));
  t.same(pair.leftovers(), []);
});

t.test('the newest frame wins: a stale one that has not begun to leave is dropped and counted', async (t) => {
  const pair = new Pair();
  pair.attach('new', { rate: 10, unsent_bytes_max: 2_000 });
  const { near, far } = opened(pair, 'render', 'latest', 'screen');
  for (let frame = 1; frame <= 50; frame++) {
    pair.a.do(() => near.sendMessage(new Uint8Array(5_000).fill(frame)));
    pair.world.run(20);
  }
  pair.world.run(2_000);
  t.ok((near.latestOut?.dropped ?? 0) > 10, `${near.latestOut?.dropped} dropped`);
  const last = pair.b.do(() => far.readMessage());
  t.equal(last?.length, 5_000);
  t.ok(
    last?.every((octet) => octet === 50),
    'the last frame sent is the one that is shown',
  );
  t.equal(far.readMessage(), null);
  t.same(pair.leftovers(), []);
});

t.test('the newest frame arrives though the session is lost while it leaves', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new', { rate: 10, unsent_bytes_max: 2_000 });
  const { near, far } = opened(pair, 'render', 'latest', 'screen');
  pair.a.do(() => near.sendMessage(new Uint8Array(150_000).fill(7)));
  pair.world.run(50);
  wire.cut();
  pair.world.run(10);
  pair.attach('resume');
  pair.world.run(1_000);
  t.equal(pair.b.do(() => far.readMessage())?.length, 150_000);
  t.same(pair.leftovers(), []);
});

t.test('datagrams that find the queue full are dropped, the newest first, and counted', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  const { near, far } = opened(pair, 'vpn_packet', 'datagrams', 'v');
  wire.cut();
  pair.world.run(1);
  let taken = 0;
  pair.a.do(() => {
    for (let count = 0; count < 400; count++) if (near.sendMessage(new Uint8Array(KIB).fill(count & 0xff))) taken++;
  });
  t.ok(taken <= limits.flow_datagram_queue_bytes_max / KIB && taken > 200, `${taken} taken`);
  t.equal(near.datagramsOut?.dropped, 400 - taken);
  pair.attach('resume');
  pair.world.run(500);
  t.equal(far.readMessage()?.[0], 0, 'the oldest was kept');
  t.same(pair.leftovers(), []);
});

t.test('a slow reader of one flow stalls only that flow, and what waits stays within its window', async (t) => {
  const pair = new Pair();
  pair.attach('new', { rate: 15_000 });
  const slow = opened(pair, 'file_transfer', 'stream', 'slow');
  const quick = opened(pair, 'file_transfer', 'stream', 'quick');
  let read = 0;
  pair.b.onEvent = (event) => {
    if (event.type === 'readable' && event.flow === quick.far) read += readAll(quick.far);
  };
  let written = 0;
  const fill = (flow: Flow): void => {
    while (!flow.wantsDrain && !flow.isEnded) {
      flow.write(new Uint8Array(64 * KIB));
      if (flow === quick.near) written += 64 * KIB;
    }
  };
  pair.a.onEvent = (event) => {
    if (event.type === 'drained') fill(event.flow);
  };
  pair.a.do(() => fill(slow.near));
  pair.a.do(() => fill(quick.near));
  pair.world.run(2_000);
  t.ok(read > 20 * 1024 * KIB, `${read} octets of the quick flow`);
  t.equal(slow.far.receive?.buffered, limits.flow_window_bytes_initial, 'the slow one stands at its window');
  t.ok((slow.near.send?.waiting ?? 0) <= limits.flow_send_queue_bytes_max + 64 * KIB);
  t.equal(pair.a.count('suspect') + pair.b.count('suspect'), 0, 'and nobody suspects the path');
  pair.a.onEvent = () => {};
  pair.world.run(60_000);
  t.equal(pair.a.count('suspect') + pair.b.count('suspect'), 0, 'not even after a minute');
  t.ok(written > 0);
  t.same(pair.leftovers(), []);
});

t.test('the window grows to what the path can carry, and no further than its limit', async (t) => {
  const pair = new Pair();
  pair.attach('new', { delay_ms: 50, rate: 100_000, unsent_bytes_max: 64 * 1024 * KIB });
  const { near, far } = opened(pair, 'file_transfer', 'stream', 'big');
  pair.b.onEvent = (event) => {
    if (event.type === 'readable') readAll(far);
  };
  const piece = new Uint8Array(64 * KIB);
  const fill = (): void => {
    while (!near.wantsDrain) near.write(piece);
  };
  pair.a.onEvent = (event) => {
    if (event.type === 'drained') fill();
  };
  let most = 0;
  pair.a.onTransmit = () => {
    most = Math.max(most, near.send?.unacknowledged ?? 0);
  };
  pair.a.do(fill);
  pair.world.run(2_000);
  t.ok(most > 4 * 1024 * KIB, `${most} octets under way`);
  t.ok(most <= limits.flow_window_bytes_max);
  t.same(pair.leftovers(), []);
});

t.test('an idle path keeps the first window', async (t) => {
  const pair = new Pair();
  pair.attach('new', { delay_ms: 5 });
  const { near, far } = opened(pair, 'clipboard', 'stream', 'drip');
  pair.b.onEvent = (event) => {
    if (event.type === 'readable') readAll(far);
  };
  for (let count = 0; count < 2_000; count++) {
    pair.a.do(() => near.write(new Uint8Array(KIB)));
    pair.world.run(10);
  }
  t.ok((far.receive?.limit ?? 0) - (far.receive?.consumed ?? 0) <= limits.flow_window_bytes_initial);
  t.same(pair.leftovers(), []);
});

t.test('on a long path, credit for carried packets is wide once some were read, since their sender bounds what is under way', async (t) => {
  const pair = new Pair();
  pair.attach('new', { delay_ms: 40 });
  const carried = opened(pair, 'vpn_packet', 'stream', 'carry');
  const unread = opened(pair, 'vpn_packet', 'stream', 'carry');
  const other = opened(pair, 'file_transfer', 'stream', 'file');
  for (const { near } of [carried, unread, other]) pair.a.do(() => near.write(Uint8Array.of(1)));
  pair.world.run(300);
  for (const { far } of [carried, other]) pair.b.do(() => readAll(far));
  pair.world.run(300);
  t.equal(carried.near.send?.windowExtra, limits.carry_window_bytes_max - limits.flow_window_bytes_initial);
  t.equal(other.near.send?.windowExtra, 0);
  t.equal(unread.near.send?.windowExtra, 0, 'for nobody who reads, no memory');
  t.same(pair.leftovers(), []);
});

t.test('many flows of carried packets have no more credit together than a channel has for windows, and each has some of it', async (t) => {
  const pair = new Pair();
  pair.attach('new', { delay_ms: 40 });
  const flows = Array.from({ length: 40 }, () => opened(pair, 'vpn_packet', 'stream', 'carry'));
  for (const { near } of flows) pair.a.do(() => near.write(Uint8Array.of(1)));
  pair.world.run(300);
  for (const { far } of flows) pair.b.do(() => readAll(far));
  pair.world.run(300);
  const extras = flows.map(({ near }) => near.send?.windowExtra ?? 0);
  t.ok(extras.reduce((sum, extra) => sum + extra, 0) <= limits.channel_window_bytes_extra_max);
  t.ok(Math.min(...extras) > 0, `${Math.min(...extras)} octets at least`);
  t.same(pair.leftovers(), []);
});

t.test('on a short path, credit for carried packets begins as any', async (t) => {
  const pair = new Pair();
  pair.attach('new', { delay_ms: 0.2 });
  const { near, far } = opened(pair, 'vpn_packet', 'stream', 'carry');
  pair.a.do(() => near.write(Uint8Array.of(1)));
  pair.world.run(300);
  pair.b.do(() => readAll(far));
  pair.world.run(300);
  t.equal(near.send?.windowExtra, 0);
  t.same(pair.leftovers(), []);
});

t.test('a reset ends both ends with its code, and says why', async (t) => {
  const pair = new Pair();
  pair.attach('new');
  const { near, far } = opened(pair, 'clipboard', 'stream', 'x');
  pair.b.do(() => far.reset('flow_refused', 'no such service'));
  pair.world.run(100);
  t.match(near.error, { code: 'flow_refused' });
  t.match(near.error?.message, /no such service/);
  t.match(far.error, { code: 'flow_refused' });
  t.same(pair.leftovers(), []);
});

t.test('a flow that the other end does not authorize is refused with its code', async (t) => {
  const { SelvedgeError } = await import('../../../src/base/errors.ts');
  const pair = new Pair({ authorize: (cls) => (cls === 'vpn_packet' ? new SelvedgeError('channel_class_denied', { class: cls, why: 'test' }) : null) });
  pair.attach('new');
  t.throws(() => pair.a.channel.open('vpn_packet', 'datagrams', 'v'), { code: 'channel_class_denied' });
  t.throws(() => pair.a.channel.open('render', 'datagrams', 'v'), { code: 'flow_refused' });
  t.throws(() => pair.a.channel.open('input', 'stream', 'x'.repeat(limits.service_name_bytes_max + 1)), { code: 'argument_invalid' });
  t.same(pair.leftovers(), []);
});

t.test('no more flows than the limit, and closing one makes room', async (t) => {
  const pair = new Pair();
  pair.attach('new');
  const flows = Array.from({ length: limits.flows_per_channel_max }, () => pair.a.open('clipboard', 'stream', 'x'));
  t.throws(() => pair.a.channel.open('clipboard', 'stream', 'x'), { code: 'limit_reached' });
  pair.a.do(() => flows[0]?.reset('session_closed', 'enough'));
  pair.world.run(100);
  t.ok(pair.a.open('clipboard', 'stream', 'x'));
  t.same(pair.leftovers(), []);
});

t.test('flows come and go for ever: numbers, memory and the other end keep up', async (t) => {
  const pair = new Pair();
  pair.attach('new');
  pair.b.onEvent = (event) => {
    if (event.type === 'readable' || event.type === 'flow') {
      readAll(event.flow);
      if (event.flow.isReadDone) event.flow.end();
    }
  };
  for (let count = 0; count < 6_000; count++) {
    const flow = pair.a.open(count % 2 === 0 ? 'input' : 'file_transfer', 'stream', 'x');
    if (count % 3 === 0) pair.a.channel.open('clipboard', 'stream', 'never told').reset('session_closed', 'changed my mind');
    pair.a.do(() => flow.end());
    pair.world.run(40);
  }
  pair.world.run(1_000);
  t.equal([...pair.a.channel.flows].length + [...pair.b.channel.flows].length, 0);
  t.equal(pair.b.failure, null);
  t.same(pair.leftovers(), []);
});
