/** Passing carried packets on: both ways and unread, bounded, fair, and only for whom it is allowed. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { CarryRelay } from '../../../src/relay/carry-relay.ts';
import { CARRY_SERVICE, type CarryGreeting, encodeGreeting, hearGreeting, openCarry } from '../../../src/transport/carry/greeting.ts';
import type { FlowHandle } from '../../../src/transport/flow-handle.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { MemoryNet } from '../services/memory-mesh.ts';

const A = 'aaaaaaaaaaaa';
const B = 'bbbbbbbbbbbb';
const C = 'cccccccccccc';

function setUp() {
  const net = new MemoryNet();
  const timers = new VirtualTimers();
  const strangers = new Set<string>([C]);
  const logs: string[] = [];
  const judge = async ({ from, to }: CarryGreeting) => {
    if (strangers.has(from) || strangers.has(to)) throw new SelvedgeError('policy_denied', { why: 'no common app network' });
  };
  const relay = new CarryRelay({ mesh: net.mesh('tower'), timers, judge, judgeAgain: judge, log: (message, facts) => logs.push(`${message} ${facts.code}`) });
  const arrived: FlowHandle[] = [];
  net.mesh(B).handle(CARRY_SERVICE, (flow) => arrived.push(flow));
  net.mesh(C).handle(CARRY_SERVICE, (flow) => arrived.push(flow));
  return { net, timers, relay, strangers, logs, arrived, open: (from: string, to: string) => openCarry(net.mesh(from), 'tower', { from, to }) };
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
async function turns(count: number): Promise<void> {
  for (let each = 0; each < count; each++) await turn();
}

async function readAll(flow: FlowHandle, bytes: number): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  while (length < bytes && (await flow.readable())) {
    for (let piece = flow.read(); piece !== null; piece = flow.read()) {
      pieces.push(piece);
      length += piece.length;
    }
  }
  return Buffer.concat(pieces);
}

t.test('octets go both ways as they are, behind the greeting, and the end of either end reaches the other', async (t) => {
  const { open, arrived, timers, relay } = setUp();
  const near = open(A, B);
  near.write(Buffer.from('sealed'));
  await turns(3);
  const [far] = arrived;
  if (!far) throw new Error('nothing arrived');
  t.equal(far.peer, 'tower');
  const { greeting, rest } = await hearGreeting(far, timers);
  t.same(greeting, { from: A, to: B });
  t.equal((rest.length > 0 ? Buffer.from(rest) : await readAll(far, 6)).toString(), 'sealed');
  far.write(Buffer.from('answer'));
  t.equal((await readAll(near, 6)).toString(), 'answer');
  t.match(relay.pairs, [{ from: A, to: B, bytes: [6, 6] }]);
  far.reset('policy_denied', 'not any more');
  t.match(await near.closed, { code: 'policy_denied' });
  t.same(relay.pairs, []);
});

t.test('an end that was finished well is passed on, too', async (t) => {
  const { open, arrived, timers, relay } = setUp();
  const near = open(A, B);
  await turns(3);
  const far = arrived[0] as FlowHandle;
  await hearGreeting(far, timers);
  near.end();
  t.equal(await far.readable(), false);
  far.end();
  t.equal(await near.closed, null);
  t.equal(await far.closed, null);
  t.same(relay.pairs, []);
});

t.test('who may not, who lies about itself, and who names nobody are refused with a code', async (t) => {
  const { open, net, logs } = setUp();
  t.match(await open(A, C).closed, { code: 'policy_denied' });
  t.match(await open(C, B).closed, { code: 'policy_denied' });
  t.match(await openCarry(net.mesh(C), 'tower', { from: A, to: B }).closed, { code: 'wrong_node' });
  t.match(await open(A, A).closed, { code: 'flow_refused' });
  t.match(await open(A, 'dddddddddddd').closed, { code: 'flow_refused' }, 'who is not connected');
  t.equal(logs.length, 5);
});

t.test('a membership that ends, ends what was passed on by it, and nothing else', async (t) => {
  const { open, relay, strangers, arrived, timers } = setUp();
  const near = open(A, B);
  await turns(3);
  await hearGreeting(arrived[0] as FlowHandle, timers);
  await relay.recheck(new Set([A]));
  t.equal(relay.pairs.length, 1);
  strangers.add(B);
  await relay.recheck(new Set([C]));
  t.equal(relay.pairs.length, 1, 'not concerned');
  await relay.recheck(new Set([B]));
  t.match(await near.closed, { code: 'policy_denied' });
  t.match(await arrived[0]?.closed, { code: 'policy_denied' });
});

t.test('a target that takes nothing makes the relay hold no more than its window, and the source stops being read', async (t) => {
  const { open, arrived, timers, relay } = setUp();
  const near = open(A, B);
  let written = 0;
  for (let each = 0; each < 200; each++) {
    near.write(new Uint8Array(64 * 1024));
    written += 64 * 1024;
    await turn();
    await timers.advance(limits.carry_look_ms);
  }
  const [passed = 0] = relay.pairs[0]?.bytes ?? [];
  t.ok(passed <= limits.carry_window_bytes_initial + 64 * 1024, `${passed} octets wait for the target`);
  // One piece more was read and waits for room.
  t.ok(near.acknowledged <= passed + 2 * 64 * 1024 + 64, `${near.acknowledged} octets were taken from the source`);
  const far = arrived[0] as FlowHandle;
  await hearGreeting(far, timers);
  let got = 0;
  while (got < written - 64 * 1024) {
    await timers.advance(limits.carry_look_ms);
    await turn();
    for (let piece = far.read(); piece !== null; piece = far.read()) got += piece.length;
  }
  t.ok(got > 0, 'once it reads, everything comes');
});

t.test('pairs take turns: one that floods does not hold up another', async (t) => {
  const { net, open, arrived, timers } = setUp();
  const flood = open(A, B);
  net.mesh(A).handle(CARRY_SERVICE, (flow) => arrived.push(flow));
  const quiet = open(B, A);
  await turns(3);
  for (const flow of arrived) await hearGreeting(flow, timers);
  for (let each = 0; each < 64; each++) flood.write(new Uint8Array(1024 * 1024));
  quiet.write(Buffer.from('soon'));
  const target = arrived.find(({ peer }) => peer === 'tower' && arrived.indexOf(arrived[1] as FlowHandle) === 1) && arrived[1];
  await turns(2);
  t.equal(Buffer.from(target?.read() ?? []).toString(), 'soon');
});

t.test('a flood of flows is bounded: those without a greeting, and those of one node', async (t) => {
  const { net, timers, relay } = setUp();
  const silent = Array.from({ length: limits.carry_greetings_per_peer_max + 1 }, () => net.mesh(A).open('tower', 'vpn_packet', 'stream', CARRY_SERVICE));
  t.match(await silent.at(-1)?.closed, { code: 'limit_reached' });
  await timers.advance(limits.handshake_ms_max);
  t.match(await silent[0]?.closed, { code: 'timeout' });
  const first = net.mesh(A).open('tower', 'vpn_packet', 'stream', CARRY_SERVICE);
  first.write(encodeGreeting({ from: A, to: B }));
  await turns(2);
  const second = net.mesh(A).open('tower', 'vpn_packet', 'stream', CARRY_SERVICE);
  second.write(encodeGreeting({ from: A, to: B }));
  t.match(await first.closed, { code: 'replaced' }, 'one pair has one flow from either end');
  await turns(2);
  t.equal(relay.pairs.length, 1);
  relay.close();
  t.match(await second.closed, { code: 'shutting_down' });
  t.equal(timers.waiting, 0);
});
