/** The first exchange on a session: exactly one frame each way is read, and nothing behind it or beside it is lost. */
import t from 'tap';
import { CONTROL_PRIORITY } from '../../../src/channel/classes.ts';
import { encodeControl, encodeFrame } from '../../../src/channel/frame-encoder.ts';
import { encodeHello } from '../../../src/channel/hello.ts';
import { helloOf } from '../../../src/lab/hello-of.ts';
import { greet, hearHello } from '../../../src/transport/greeting.ts';
import { memoryPair } from '../../../src/transport/memory.ts';
import type { SessionHandler } from '../../../src/transport/session.ts';
import { Hosts } from './hosts.ts';

const hello = helloOf({ cluster: 'c', node: 'aaaaaaaaaaaa' });

function setup() {
  const hosts = new Hosts();
  const pair = memoryPair({ sources: 'streams', timers: hosts.timers, schedule: (action) => void hosts.world.at(hosts.world.now + 1, action) });
  return { hosts, pair };
}

function recorder(): SessionHandler & { readonly seen: string[] } {
  const seen: string[] = [];
  return {
    seen,
    data: (source, bytes) => void seen.push(`${source}:${bytes.length}`),
    sourceEnd: (source) => void seen.push(`${source} ended`),
    ready() {},
    writable() {},
    datagram() {},
    finished() {},
    closed: (error) => void seen.push(error.code),
  };
}

t.test('a flow’s octets that overtake the accept wait for whoever carries the session on', async (t) => {
  const { hosts, pair } = setup();
  const greeted = greet(pair.dialer, hello, hosts.timers);
  const heard = hearHello(pair.acceptor, hosts.timers);
  await hosts.run(10);
  const { hello: got, accept } = await heard;
  t.equal(got.node, hello.node);
  const open = encodeControl({ type: 'open', flow: 2, class: 'input', kind: 'stream', service: 'x' });
  pair.acceptor.write(2, 'urgent', 90, open, null);
  pair.acceptor.endFlow(2);
  accept({ ...hello, node: 'bbbbbbbbbbbb' });
  const ack = encodeControl({ type: 'ack', flow: 1, consumed: 0, limit: 0 });
  pair.acceptor.write(0, 'urgent', CONTROL_PRIORITY, ack, null);
  await hosts.run(10);
  const { accept: answer, relay } = await greeted;
  t.equal(answer.node, 'bbbbbbbbbbbb');
  const { seen, ...handler } = recorder();
  relay.handTo({ ...handler });
  t.same(seen.sort(), [`0:${ack.length}`, `2:${open.length}`, '2 ended'].sort());
  pair.cut();
  t.same(await hosts.close(), []);
});

t.test('anything else where a hello or accept belongs is refused', async (t) => {
  for (const [side, bytes] of [
    ['acceptor', encodeFrame(6, new Uint8Array(3))],
    ['acceptor', encodeHello('accept', hello)],
    ['dialer', encodeHello('hello', hello)],
    ['dialer', Uint8Array.of(22, 3, 1)],
  ] as const) {
    const { hosts, pair } = setup();
    const waiting: Promise<unknown> = side === 'dialer' ? greet(pair.dialer, hello, hosts.timers) : hearHello(pair.acceptor, hosts.timers);
    const refused = t.rejects(waiting, { code: 'frame_invalid' });
    const other = side === 'dialer' ? pair.acceptor : pair.dialer;
    other.approve(recorder());
    other.write(0, 'urgent', CONTROL_PRIORITY, bytes, null);
    await hosts.run(10);
    await refused;
    t.equal(pair.dialer.isClosed && pair.acceptor.isClosed, true);
    t.same(await hosts.close(), []);
  }
});

t.test('a dialer keeps no more than its bound of what overtakes the accept', async (t) => {
  const { hosts, pair } = setup();
  const refused = t.rejects(greet(pair.dialer, hello, hosts.timers), { code: 'limit_reached' });
  pair.acceptor.approve(recorder());
  const chunk = new Uint8Array(64 * 1024);
  chunk[0] = 4;
  for (let count = 0; count < 20; count++) pair.acceptor.write(2, 'bulk', 10, chunk, null);
  await hosts.run(10);
  await refused;
  t.same(await hosts.close(), []);
});
