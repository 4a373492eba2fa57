/** Classes beside each other on one path (spec 5.5): nobody starves, carried packets are paced like any bulk, stale frames are counted to the last one. */
import t from 'tap';
import { type TrafficClass, trafficClassNames, trafficClasses } from '../../../src/channel/classes.ts';
import type { Flow } from '../../../src/channel/flow.ts';
import { type End, Pair, type WireOptions } from './pair.ts';

const mbit = (rate: number): number => rate * 125;

/** Reads whatever comes, as soon as it comes, and counts octets by class. */
function drainInto(end: End): Map<TrafficClass, number> {
  const counts = new Map<TrafficClass, number>(trafficClassNames.map((name) => [name, 0]));
  const add = (flow: Flow, bytes: number): void => void counts.set(flow.class, (counts.get(flow.class) ?? 0) + bytes);
  end.onEvent = (event) => {
    if (event.type !== 'readable') return;
    for (let bytes = event.flow.read(); bytes !== null; bytes = event.flow.read()) add(event.flow, bytes.length);
    for (let message = event.flow.readMessage(); message !== null; message = event.flow.readMessage()) add(event.flow, message.length);
  };
  return counts;
}

/** Keeps a stream of the class full for ever. */
function flood(pair: Pair, name: TrafficClass): void {
  const flow = pair.a.open(name, 'stream', name);
  const fill = (): void => {
    while (flow.write(new Uint8Array(4_000)));
  };
  const before = pair.a.onEvent;
  pair.a.onEvent = (event) => {
    before(event);
    if (event.type === 'drained' && event.flow === flow) fill();
  };
  pair.a.do(fill);
}

for (const sources of ['streams', 'lanes'] as const) {
  t.test(`${sources}: with every class in want of the line at once, each has some of it, by tier and weight`, async (t) => {
    const pair = new Pair({ isGoverned: true });
    pair.attach('new', { sources, rate: mbit(10), unsent_bytes_max: 16_000 });
    const counts = drainInto(pair.b);
    for (const name of trafficClassNames) flood(pair, name);
    pair.world.run(20_000);
    const total = [...counts.values()].reduce((left, right) => left + right);
    for (const name of trafficClassNames) t.ok((counts.get(name) ?? 0) > 0.0005 * total, `${name}: ${counts.get(name)} of ${total}`);
    for (const [more, less] of [
      ['input', 'health'],
      ['render', 'clipboard'],
      ['clipboard', 'telemetry'],
      ['file_transfer', 'update_fetch'],
    ] as const)
      t.ok((counts.get(more) ?? 0) >= (counts.get(less) ?? 0), `${more} has as much as ${less} or more`);
  });
}

/** Times in ms that 64 octets of `input` take one way, one every 20 ms, over some seconds. */
function inputDelays(pair: Pair, seconds: number): number[] {
  const input = pair.a.open('input', 'messages', 'keys');
  const sent: number[] = [];
  const delays: number[] = [];
  const before = pair.b.onEvent;
  pair.b.onEvent = (event) => {
    if (event.type !== 'readable' || event.flow.class !== 'input') return before(event);
    while (event.flow.readMessage() !== null) delays.push(pair.world.now - (sent[delays.length] as number));
  };
  const until = pair.world.now + seconds * 1_000;
  const key = (): void => {
    sent.push(pair.world.now);
    pair.a.do(() => input.sendMessage(new Uint8Array(64)));
    if (pair.world.now < until) pair.world.at(pair.world.now + 20, key);
  };
  key();
  pair.world.run(seconds * 1_000 + 5_000);
  return delays.toSorted((left, right) => left - right);
}

const slow: WireOptions = { rate: mbit(10), delay_ms: 20, unsent_bytes_max: 500_000 };

t.test('vpn_packet is paced while somebody waits: the queue of the path stays short, and has the line again when nobody does', async (t) => {
  const worst = (isGoverned: boolean): { p50: number; carried: number; alone: number } => {
    const pair = new Pair({ isGoverned });
    pair.attach('new', slow);
    const counts = drainInto(pair.b);
    flood(pair, 'vpn_packet');
    const delays = inputDelays(pair, 10);
    const carried = counts.get('vpn_packet') ?? 0;
    for (const flow of [...pair.a.channel.flows]) if (flow.class === 'input') pair.a.do(() => flow.end());
    pair.world.run(7_000);
    const from = counts.get('vpn_packet') ?? 0;
    pair.world.run(2_000);
    return { p50: delays[Math.floor(delays.length / 2)] ?? Number.NaN, carried, alone: ((counts.get('vpn_packet') ?? 0) - from) / (2_000 * mbit(10)) };
  };
  const [governed, left] = [worst(true), worst(false)];
  t.ok(left.p50 > 200, `without the pace a key takes ${left.p50.toFixed(0)} ms`);
  t.ok(governed.p50 < 30, `with it ${governed.p50.toFixed(1)} ms, of which 20 are the path`);
  t.ok(governed.carried > 0.6 * left.carried, `and ${governed.carried} octets pass, of ${left.carried}`);
  t.ok(governed.alone > 0.9, `${(governed.alone * 100).toFixed(0)} % of the line once nobody waits`);
});

t.test('each frame of a latest flow is either shown or counted as dropped, and one that has begun to leave is finished', async (t) => {
  const pair = new Pair();
  pair.attach('new', { rate: 10, unsent_bytes_max: 2_000 });
  const screen = pair.a.open('render', 'latest', 'screen');
  const shown: number[] = [];
  pair.b.onEvent = (event) => {
    if (event.type === 'readable') for (let frame = event.flow.readMessage(); frame !== null; frame = event.flow.readMessage()) shown.push(frame[0] as number);
  };
  const sent = 200;
  for (let frame = 1; frame <= sent; frame++) {
    pair.a.do(() => screen.sendMessage(new Uint8Array(3_000 + 10 * frame).fill(frame)));
    pair.world.run(40);
  }
  pair.world.run(5_000);
  t.equal(shown.at(-1), sent, 'the newest is shown');
  t.same(
    shown,
    shown.toSorted((left, right) => left - right),
    'none after a newer one',
  );
  t.equal(shown.length + pair.a.channel.staleDropped + pair.b.channel.staleDropped, sent, `${shown.length} shown, ${pair.a.channel.staleDropped} dropped`);
  t.ok(shown.length > 10 && pair.a.channel.staleDropped > 100);
});

t.test('what draining lets begin, what a keystroke waits for and what is paced are told by one table', async (t) => {
  const having = (test: (row: (typeof trafficClasses)[TrafficClass]) => boolean): string[] => trafficClassNames.filter((name) => test(trafficClasses[name]));
  t.equal(trafficClassNames.length, 11);
  t.same(
    having((row) => row.bulk),
    ['vpn_packet', 'file_transfer', 'storage_fetch', 'update_fetch'],
  );
  t.same(
    having((row) => row.interactive),
    ['input', 'render'],
  );
  t.same(
    having((row) => row.tier < 2),
    ['fabric_control', 'input', 'route_control', 'health'],
  );
  t.same(new Set(trafficClassNames.map((name) => trafficClasses[name].wire)).size, 11);
});
