/** The carrier of one host against a carry socket of the test's own: ways opened, taken, lost, opened again and ended, and whom it refuses. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { FlowCarrier } from '../../../src/overlay/flow-carrier.ts';
import { CARRY_SERVICE, openCarry } from '../../../src/transport/carry/greeting.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { CarrySocket } from '../../fixtures/carry-socket.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { MemoryNet } from '../services/memory-mesh.ts';

const A = 'aaaaaaaaaaaa';
const B = 'bbbbbbbbbbbb';
const C = 'cccccccccccc';
const CARRIED = { wants: true, hears: false };
const DIRECT = { wants: false, hears: true };

const channel = (peer: string, suspect = false) => ({ peer, state: 'established', transport: 'quic', suspect });

async function setUp(t: Test, timers: VirtualTimers | typeof systemTimers = systemTimers) {
  const net = new MemoryNet();
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  const open = async (self: string) => {
    const socket = new CarrySocket(join(folder, self));
    await socket.listen();
    const log: string[] = [];
    let wake = () => {};
    const carrier = new FlowCarrier({
      self,
      mesh: net.mesh(self),
      socketPath: socket.path,
      timers,
      random: { bytes: (length) => new Uint8Array(length), unit: () => 0.5 },
      log: (message, facts) => {
        log.push(`${message} ${facts.code ?? ''}`.trim());
        wake();
      },
    });
    carrier.onChange(() => wake());
    const until = async (wanted: () => boolean) => {
      while (!wanted()) await new Promise<void>((resolve) => (wake = resolve));
    };
    t.teardown(() => {
      carrier.close();
      socket.close();
    });
    return { carrier, socket, log, until };
  };
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const a = await open(A);
  const b = await open(B);
  a.carrier.follow(new Set([B]));
  b.carrier.follow(new Set([A]));
  a.carrier.channelsAre([channel(B)]);
  b.carrier.channelsAre([channel(A)]);
  return { net, a, b };
}

const packet = (letter: string) => `\0\x40${letter.repeat(64)}`;

t.test(
  'a way that one end wants joins the tunnels of both; packets go both ways; words are heard; it ends when neither wants it',
  { timeout: 10_000 },
  async (t) => {
    const { net, a, b } = await setUp(t);
    t.equal(a.carrier.routeTo(B), 'channel');
    a.carrier.say(B, CARRIED);
    await b.until(() => b.carrier.stateOf(A)?.peer?.wants === true);
    t.match(b.carrier.stateOf(A), { route: 'channel', peer: CARRIED });
    await a.until(() => a.carrier.stateOf(B)?.peer !== null && a.carrier.stateOf(B) !== null);
    t.same([a.socket.streams[0]?.node, b.socket.streams[0]?.node], [B, A]);
    a.socket.streams[0]?.socket.write(packet('x') + packet('y').slice(0, 10));
    a.socket.streams[0]?.socket.write(packet('y').slice(10));
    await b.socket.until(() => b.socket.streams[0]?.text === packet('x') + packet('y'));
    b.socket.streams[0]?.socket.write(packet('z'));
    await a.socket.until(() => a.socket.streams[0]?.text === packet('z'));
    b.carrier.say(A, CARRIED);
    await a.until(() => a.carrier.stateOf(B)?.peer?.wants === true);
    a.carrier.say(B, DIRECT);
    await b.until(() => b.carrier.stateOf(A)?.peer?.hears === true);
    t.ok(b.carrier.stateOf(A), 'while one wants it, it stays');
    b.carrier.say(A, DIRECT);
    await a.until(() => a.carrier.stateOf(B) === null);
    await b.until(() => b.carrier.stateOf(A) === null);
    t.equal(net.flows.size, 0);
  },
);

t.test('both may open at once: one way is left, that of the smaller id', { timeout: 10_000 }, async (t) => {
  const { net, a, b } = await setUp(t);
  b.carrier.say(A, CARRIED);
  a.carrier.say(B, CARRIED);
  await a.until(() => a.carrier.stateOf(B)?.peer?.wants === true);
  await b.until(() => b.carrier.stateOf(A)?.peer?.wants === true);
  t.equal(net.flows.size, 2, 'one flow, two ends');
  t.notMatch(a.log.concat(b.log), [/lost/]);
});

t.test('a way that is lost is opened again, by whichever end wants it, and so is one whose tunnel died', { timeout: 10_000 }, async (t) => {
  const { net, a, b } = await setUp(t);
  a.carrier.say(B, CARRIED);
  await b.until(() => b.carrier.stateOf(A)?.peer !== null && b.carrier.stateOf(A) !== null);
  net.cut('flow_lost');
  await a.socket.until(() => a.socket.streams.length === 2);
  await b.until(() => b.carrier.stateOf(A) !== null);
  for (const { socket } of b.socket.streams) socket.destroy();
  await a.socket.until(() => a.socket.streams.length === 3);
  await a.until(() => a.carrier.stateOf(B) !== null);
});

t.test('strangers, who speaks for another, and what is not for this host are refused, and nothing of it reaches the tunnel', { timeout: 10_000 }, async (t) => {
  const { net, b } = await setUp(t);
  const refused = async (by: string, from: string, to: string) => (await openCarry(net.mesh(by), B, { from, to }).closed)?.code;
  t.equal(await refused(C, C, B), 'policy_denied');
  t.equal(await refused(C, A, B), 'wrong_node');
  t.equal(await refused(A, A, C), 'wrong_node');
  t.equal(await refused('tower', C, B), 'policy_denied', 'nor through the tower');
  t.equal(b.socket.streams.length, 0);
});

t.test('a peer that writes what is no packet, or says what is no word, loses its way', { timeout: 10_000 }, async (t) => {
  const { net, b } = await setUp(t);
  for (const bad of [Uint8Array.of(0, 5, 1, 2, 3, 4, 5), Uint8Array.of(0, 1, 255), Uint8Array.of(0, 0)]) {
    const flow = openCarry(net.mesh(A), B, { from: A, to: B });
    await b.until(() => b.carrier.stateOf(A) !== null);
    flow.write(bad);
    t.match(await flow.closed, { code: 'frame_invalid' });
    await b.until(() => b.carrier.stateOf(A) === null);
  }
  t.ok(b.socket.streams.every(({ text }) => text === ''));
});

t.test('a peer that is no partner any more loses its way at once, and cannot have another', { timeout: 10_000 }, async (t) => {
  const { net, a, b } = await setUp(t);
  a.carrier.say(B, CARRIED);
  await b.until(() => b.carrier.stateOf(A) !== null);
  b.carrier.follow(new Set());
  t.equal(b.carrier.stateOf(A), null);
  await a.until(() => a.log.some((line) => line === 'carried path lost policy_denied'));
  t.match(await openCarry(net.mesh(A), B, { from: A, to: B }).closed, { code: 'policy_denied' });
});

t.test('a way goes by the channel; while that is silent through the tower; and back', { timeout: 10_000 }, async (t) => {
  const net = new MemoryNet();
  const via: string[] = [];
  for (const name of ['tower', B]) net.mesh(name).handle(CARRY_SERVICE, ({ peer }) => via.push(`${peer} to ${name}`));
  const folder = mkdtempSync(join(tmpdir(), 'selvedge-'));
  const socket = new CarrySocket(join(folder, 'carry'));
  await socket.listen();
  const random = { bytes: () => new Uint8Array(), unit: () => 0 };
  const carrier = new FlowCarrier({ self: A, mesh: net.mesh(A), socketPath: socket.path, timers: systemTimers, random, log: () => undefined });
  t.teardown(() => {
    carrier.close();
    socket.close();
    rmSync(folder, { recursive: true, force: true });
  });
  carrier.follow(new Set([B]));
  t.equal(carrier.routeTo(B), null);
  carrier.say(B, CARRIED);
  const steps = [
    { channels: [channel('tower')], route: 'tower' },
    { channels: [channel('tower'), channel(B)], route: 'channel' },
    { channels: [channel('tower'), channel(B, true)], route: 'tower' },
    { channels: [channel('tower', true), channel(B, true)], route: 'channel' },
  ];
  for (const [index, { channels, route }] of steps.entries()) {
    carrier.channelsAre(channels);
    t.equal(carrier.routeTo(B), route);
    await socket.until(() => socket.streams.length === index + 1);
  }
  t.same(
    via,
    ['tower', B, 'tower', B].map((name) => `${A} to ${name}`),
  );
});

t.test(
  'a way that rules deny is told of, is no route for a while, and is asked for again: later each time, or when rules may have changed',
  { timeout: 10_000 },
  async (t) => {
    const timers = new VirtualTimers();
    const { net, a, b } = await setUp(t, timers);
    a.carrier.say(B, CARRIED);
    await a.until(() => a.carrier.stateOf(B)?.peer !== null && a.carrier.stateOf(B) !== null);
    let asked = 0;
    net.mesh(B).handle(CARRY_SERVICE, (flow) => {
      asked++;
      flow.reset('channel_class_denied', 'policy apart denies it');
    });
    for (const flow of net.flows) flow.reset('channel_class_denied', 'policy apart denies it');
    await a.until(() => a.carrier.denialOf(B) !== null);
    t.match(a.carrier.denialOf(B), { code: 'channel_class_denied', message: /policy apart/ });
    t.match(
      [a, b].flatMap(({ log }) => log.filter((line) => line.startsWith('carried path lost'))),
      ['carried path lost channel_class_denied', 'carried path lost channel_class_denied'],
    );
    t.equal(a.carrier.routeTo(B), null);
    a.carrier.channelsAre([channel(B)]);
    t.equal(asked, 0, 'nobody asks yet');
    for (let wait_ms = limits.carry_denied_ms_base / 2, times = 1; wait_ms < limits.carry_denied_ms_max / 2; wait_ms *= 2, times++) {
      await timers.advance(wait_ms - 1);
      t.equal(a.carrier.routeTo(B), null, `one tick before ${wait_ms} ms`);
      await timers.advance(1);
      t.equal(a.carrier.routeTo(B), 'channel');
      a.carrier.channelsAre([channel(B)]);
      t.equal(asked, times);
      await a.until(() => a.carrier.routeTo(B) === null);
    }
    a.carrier.follow(new Set([B]));
    t.equal(a.carrier.denialOf(B), null, 'with another snapshot it is not denied until somebody says so');
    t.equal(a.carrier.routeTo(B), 'channel');
  },
);

t.test('a tunnel that refuses, or talks nonsense, is tried again ever more slowly', { timeout: 10_000 }, async (t) => {
  const timers = new VirtualTimers();
  const { a } = await setUp(t, timers);
  a.socket.answer = '{"error":{"code":"not_found","message":"no such peer is in the applied state"}}\n';
  a.carrier.say(B, CARRIED);
  await a.until(() => a.log.length === 1);
  t.match(a.log, ['carried path lost not_found']);
  a.socket.answer = `${'x'.repeat(limits.carry_answer_bytes_max)}x`;
  await timers.advance(limits.carry_retry_ms_max);
  await a.until(() => a.log.length === 2);
  t.match(a.log[1], 'carried path lost tunnel_answer_invalid');
  a.carrier.close();
  // The other end's tunnel still answers what it was asked.
  while (timers.waiting > 0) await new Promise((resolve) => setImmediate(resolve));
  t.equal(a.log.length, 2, 'it is not tried again');
});
