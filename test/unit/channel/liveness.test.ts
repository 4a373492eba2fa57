/** When a path is suspected, when it is dead, and when a channel gives up: each on the tick, and not one before. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { frameTypes } from '../../../src/channel/frames.ts';
import { Liveness } from '../../../src/channel/liveness.ts';
import { Pair } from './pair.ts';

/** Its jitter is always the middle. */
const even = { bytes: () => new Uint8Array(0), unit: () => 0.5 };

function asked(now: number): Liveness {
  const liveness = new Liveness(even, now);
  if (liveness.handleTimeout(now) !== 'send_heartbeat' || liveness.heartbeatSent(now) !== 1) throw new Error('the first heartbeat leaves at once');
  return liveness;
}

t.test('one tick before its time a silent path is trusted, then it is suspected', async (t) => {
  const liveness = asked(0);
  t.equal(liveness.pollTimeout(), liveness.suspicion_ms);
  t.equal(liveness.handleTimeout(liveness.suspicion_ms - 1), null);
  t.equal(liveness.handleTimeout(liveness.suspicion_ms), 'suspect');
  t.equal(liveness.isSuspect, true);
  t.equal(liveness.heard(liveness.suspicion_ms + 1), true, 'and anything heard ends it');
  t.equal(liveness.isSuspect, false);
});

t.test('an answered heartbeat leaves nothing to suspect until the next one', async (t) => {
  const liveness = asked(0);
  liveness.heard(20);
  liveness.echo(1, 20);
  t.equal(liveness.rtt_ms, 20);
  t.equal(liveness.pollTimeout(), limits.heartbeat_ms_active);
  t.equal(liveness.handleTimeout(limits.heartbeat_ms_active - 1), null);
  t.equal(liveness.handleTimeout(limits.heartbeat_ms_active), 'send_heartbeat');
});

t.test('a path is dead after its retries, not one tick before', async (t) => {
  const liveness = asked(0);
  const at: number[] = [];
  for (let now = 1; now <= 10_000; now++) {
    const action = liveness.handleTimeout(now);
    if (action === 'send_heartbeat') {
      liveness.heartbeatSent(now);
      at.push(now);
    }
    if (action !== 'dead') continue;
    t.equal(now, limits.heartbeat_retry_ms * (limits.heartbeat_retries_max + 1));
    t.same(at, [1_000, 2_000, 3_000]);
    return;
  }
  t.fail('never dead');
});

t.test('heartbeats keep to their cadence and its jitter', async (t) => {
  for (const unit of [0, 0.25, 0.999]) {
    const liveness = new Liveness({ ...even, unit: () => unit }, 0);
    liveness.handleTimeout(0);
    liveness.heartbeatSent(0);
    liveness.heard(1);
    liveness.echo(1, 1);
    const next = liveness.pollTimeout();
    t.ok(next >= 0.8 * limits.heartbeat_ms_active && next <= 1.2 * limits.heartbeat_ms_active, `${next} ms`);
    t.ok(next >= 5_000 && next <= 15_000, 'within spec 7.2');
  }
});

t.test('octets that nobody acknowledges raise the question early, but a slow reader costs few heartbeats', async (t) => {
  const liveness = asked(0);
  liveness.heard(10);
  liveness.echo(1, 10);
  liveness.outstanding(100, true);
  let count = 0;
  for (let now = 101; now < 60_000; now++) {
    if (liveness.handleTimeout(now) !== 'send_heartbeat') continue;
    if (count === 0) t.ok(now < 100 + limits.path_silent_ms_min * 2, `asked at ${now}`);
    const sequence = liveness.heartbeatSent(now);
    count++;
    liveness.heard(now + 0.5);
    liveness.echo(sequence, 10);
    t.equal(liveness.isSuspect, false);
  }
  t.ok(count < 20, `${count} heartbeats in a minute`);
});

/** Over a transport that acknowledges by itself, with a round trip that is known, and octets under way since 1,000 ms. */
function inFlow(rtt_ms: number): Liveness {
  const liveness = new Liveness(even, 0, true);
  liveness.handleTimeout(0);
  liveness.echo(liveness.heartbeatSent(0), rtt_ms);
  for (let count = 0; count < 100; count++) liveness.measured(rtt_ms);
  liveness.heard(1_000);
  liveness.outstanding(1_000, true, true);
  return liveness;
}

/** When it is asked, and when suspected; `heard`: what the transport tells at a millisecond. */
function askedAndSuspected(liveness: Liveness, until: number, heard: (now: number) => boolean = () => false) {
  const asked: number[] = [];
  const suspected: number[] = [];
  for (let now = 1_001; now <= until; now++) {
    if (heard(now)) liveness.heard(now);
    for (let action = liveness.handleTimeout(now); action !== null; action = liveness.handleTimeout(now)) {
      if (action === 'send_heartbeat') {
        asked.push(now);
        liveness.heartbeatSent(now);
      } else if (action === 'suspect') suspected.push(now);
      if (action === 'dead') return { asked, suspected };
    }
  }
  return { asked, suspected };
}

t.test('in a flow over a transport that acknowledges by itself, silence is counted from what was heard last, and half of it is for the answer', async (t) => {
  for (const [rtt_ms, silence_ms] of [
    [1, limits.path_silent_in_flow_ms_min],
    [40, limits.path_silent_in_flow_ms_min],
    [100, 250],
    [1_000, 2_050],
  ] as const) {
    const { asked, suspected } = askedAndSuspected(inFlow(rtt_ms), 4_000);
    const [asked_ms = 0] = asked;
    t.ok(Math.abs(asked_ms - 1_000 - silence_ms / 2) <= 1, `${rtt_ms} ms: asked at ${asked_ms}`);
    const [suspected_ms = 0] = suspected;
    t.ok(suspected_ms >= 1_000 + silence_ms && suspected_ms <= 1_002 + silence_ms, `${rtt_ms} ms: suspected at ${suspected_ms}`);
  }
});

t.test('a path that answers is not suspected: not one that lost the last packets, nor one whose reader is slow', async (t) => {
  // RFC 9002: the probe leaves after one timeout (65 ms), the second after two more; here the first two packets are lost with their probes.
  t.same(askedAndSuspected(inFlow(40), 1_500, (now) => now >= 1_190 && now % 20 === 0).suspected, []);
  const liveness = inFlow(40);
  const { asked, suspected } = askedAndSuspected(liveness, 60_000, (now) => now % 140 === 0);
  t.same(suspected, []);
  t.ok(asked.length < 60, `${asked.length} heartbeats`);
});

t.test('whoever slept is asked before it is suspected: what it could not hear is no silence', async (t) => {
  const liveness = inFlow(40);
  // Nothing runs here for a second, and what came meanwhile is not read yet.
  const woke = 2_000;
  t.equal(liveness.handleTimeout(woke), 'send_heartbeat');
  liveness.heartbeatSent(woke);
  t.equal(liveness.handleTimeout(woke + limits.path_silent_in_flow_ms_min / 2 - 1), null);
  t.equal(liveness.heard(woke + 50), false, 'it was not suspected');
});

t.test('a reader of bulk asks as soon after the thousandth pause as after the first', async (t) => {
  const liveness = new Liveness(even, 0, true);
  liveness.handleTimeout(0);
  liveness.echo(liveness.heartbeatSent(0), 40);
  for (let now = 1_000; now < 100_000; now += 1_000) {
    liveness.heard(now);
    liveness.expect(true);
    const at = now + Math.ceil(liveness.pollTimeout() - now);
    t.ok(at - now < limits.path_silent_ms_min, `asked after ${at - now} ms`);
    if (liveness.handleTimeout(at) !== 'send_heartbeat') return t.fail('not asked');
    liveness.heard(at + 40);
    liveness.echo(liveness.heartbeatSent(at), 40);
  }
});

t.test('a lying echo moves nothing', async (t) => {
  const liveness = asked(0);
  liveness.echo(7, 1);
  liveness.echo(1, -5);
  liveness.echo(1, 5);
  t.equal(liveness.rtt_ms, null, 'neither the unknown, nor the negative, nor the repeated one');
});

t.test('a session that goes silent is suspected at both ends, then dropped, and the channel waits for another', async (t) => {
  const pair = new Pair();
  const wire = pair.attach('new');
  const flow = pair.a.open('clipboard', 'stream', 'x');
  pair.world.run(1_000);
  wire.isSilent = true;
  pair.a.do(() => flow.write(new Uint8Array(100)));
  t.ok(
    pair.world.runWhen(() => pair.a.count('suspect') === 1, 1_000),
    'suspected within a second',
  );
  t.equal(pair.a.channel.isSuspended, false, 'and not given up');
  t.ok(
    pair.world.runWhen(() => pair.a.channel.isSuspended, 8_000),
    'given up after its retries',
  );
  t.equal(pair.a.channel.state, 'established', 'which is no state of its own');
  pair.attach('resume');
  pair.world.run(1_000);
  t.equal(pair.b.accepted[0]?.receive?.received, 100);
  t.same(pair.leftovers(), []);
});

for (const [code, how] of [
  ['network_unreachable', 'cut'],
  ['heartbeat_timeout', 'silent'],
] as const) {
  t.test(`without another session the channel fails with ${code} when its carrier time is over, not one tick before`, async (t) => {
    const pair = new Pair();
    const wire = pair.attach('new');
    const flow = pair.a.open('clipboard', 'stream', 'x');
    pair.world.run(1_000);
    if (how === 'cut') wire.cut();
    else wire.isSilent = true;
    pair.world.runWhen(() => pair.a.channel.isSuspended, 30_000);
    const lostAt = pair.world.now;
    pair.world.runUntil(lostAt + limits.carrier_ms_max - 1);
    t.equal(pair.a.channel.state, 'established');
    pair.world.runUntil(lostAt + limits.carrier_ms_max + 1);
    t.equal(pair.a.channel.state, 'failed');
    t.match(pair.a.failure, { code });
    t.match(flow.error, { code: 'flow_lost' });
    t.same(pair.leftovers(), []);
  });
}

t.test('heartbeats leave at ticks that all channels share, and the other end sends its own along with the echo where it is due anyhow', async (t) => {
  const pair = new Pair();
  pair.attach('new');
  pair.world.run(20_000);
  const sent: { readonly end: string; readonly type: number; readonly at: number }[] = [];
  for (const end of pair.ends) end.onTransmit = (frame) => void sent.push({ end: end.name, type: frame.head[0] ?? -1, at: pair.world.now });
  const minutes = 10;
  pair.world.run(minutes * 60_000);
  const beats = sent.filter(({ type }) => type === frameTypes.heartbeat);
  const own = beats.filter(({ at }) => at % limits.heartbeat_tick_ms === 0);
  for (const { end, at } of beats.filter((beat) => !own.includes(beat)))
    t.ok(
      sent.some((other) => other.type === frameTypes.echo && other.end === end && other.at === at),
      'else with an echo',
    );
  t.equal(sent.filter(({ type }) => type === frameTypes.echo).length, beats.length, 'each is answered');
  /** Frames of one end that leave at one time leave in one packet. */
  const packets = new Set(sent.map(({ end, at }) => `${end} ${at}`)).size;
  t.ok(packets < 1.7 * beats.length, `${packets} packets for ${beats.length} heartbeats, which would be twice as many`);
});

t.test('heartbeats come as often as the most pressing live flow wants, from the moment it is opened, and say all that spec 7.1 asks', async (t) => {
  const pair = new Pair();
  pair.attach('new');
  /** Milliseconds between heartbeats of one end over a while. */
  const pauses = (ms: number): number[] => {
    const at: number[] = [];
    pair.a.onTransmit = (frame) => void (frame.head[0] === frameTypes.heartbeat && at.push(pair.world.now));
    pair.world.run(ms);
    return at.slice(1).map((time, index) => time - (at[index] ?? 0));
  };
  const within = (name: string, between: readonly number[], cadence_ms: number): void => {
    t.ok(between.length >= 3, name);
    for (const ms of between) t.ok(ms >= 0.8 * cadence_ms - 1 && ms <= 1.2 * cadence_ms + 1, `${name}: ${ms} ms`);
  };
  within('none', pauses(60_000), limits.heartbeat_ms_active);
  const storage = pair.a.open('storage_fetch', 'stream', 'x');
  pair.world.run(30_000);
  within('storage', pauses(120_000), limits.heartbeat_ms_storage);
  const control = pair.a.open('fabric_control', 'messages', 'x');
  const opened = pair.world.now;
  pair.a.onTransmit = (frame) => {
    if (frame.head[0] === frameTypes.heartbeat) t.ok(pair.world.now - opened <= 1.2 * limits.heartbeat_ms_active + 1, 'the shorter cadence counts at once');
    pair.a.onTransmit = () => {};
  };
  pair.world.run(10_000);
  within('control', pauses(60_000), limits.heartbeat_ms_active);
  const input = pair.a.open('input', 'stream', 'x');
  pair.world.run(10_000);
  within('input', pauses(60_000), limits.heartbeat_ms_realtime);
  pair.a.do(() => {
    input.reset('session_closed', 'done');
    control.reset('session_closed', 'done');
    storage.reset('session_closed', 'done');
  });
  pair.world.run(10_000);
  within('none again', pauses(60_000), limits.heartbeat_ms_active);
  const view = pair.b.channel.peerView;
  t.match(view, { loss_part: 0, health: 'well', configVersion: 0, routeEpoch: 0 });
  t.ok(view !== null && view.latency_ms >= 20 && view.latency_ms < 25, `measured by its echo: ${view?.latency_ms} ms`);
});
