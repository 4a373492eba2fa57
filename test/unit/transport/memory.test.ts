import t from 'tap';
import { boundReason, decodeClose, encodeClose } from '../../../src/transport/reason.ts';
import { memoryPair } from '../../../src/transport/memory.ts';
import type { SessionHandler } from '../../../src/transport/session.ts';
import { systemRandom } from '../../../src/transport/system.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

const silent: SessionHandler = { data() {}, sourceEnd() {}, ready() {}, writable() {}, datagram() {}, finished() {}, closed() {} };

t.test('what is held back arrives when it is let go, and only then', (t) => {
  const timers = new VirtualTimers();
  const turns: (() => void)[] = [];
  const run = (): void => {
    for (let turn = turns.shift(); turn !== undefined; turn = turns.shift()) turn();
  };
  const { dialer, acceptor, hold } = memoryPair({ timers, schedule: (action) => turns.push(action) });
  const heard: string[] = [];
  dialer.approve(silent);
  acceptor.approve({ ...silent, data: (_source, bytes) => heard.push(`data ${bytes.length}`), closed: (error) => heard.push(error.code) });
  hold(true);
  dialer.write(1, 'bulk', 1, Uint8Array.of(1, 2, 3), null);
  run();
  t.same(heard, []);
  t.equal(dialer.facts().unsent_bytes, 3);
  hold(false);
  t.same(heard, [], 'not inside the call');
  run();
  t.same(heard, ['data 3']);
  t.equal(dialer.facts().unsent_bytes, 0);
  dialer.close('replaced', 'test');
  run();
  t.same(heard, ['data 3', 'replaced']);
  t.equal(timers.waiting, 0);
  t.end();
});

t.test('a pending session in virtual time closes itself on the millisecond', async (t) => {
  const timers = new VirtualTimers();
  const { dialer } = memoryPair({ timers, handshake_ms: 100 });
  await timers.advance(99);
  t.notOk(dialer.isClosed);
  await timers.advance(1);
  t.ok(dialer.isClosed);
});

t.test('last words survive the wire, whatever they are', (t) => {
  t.match(decodeClose(encodeClose('wrong_cluster', 'who are you'), 'p'), { code: 'wrong_cluster', facts: { why: 'who are you', peer: 'p' } });
  t.equal(boundReason('€'.repeat(1_000)).length % 3, 0, 'cut at the edge of a character');
  for (const bytes of [[], [0], [0xff, 0xff], [0, 3, 0xff, 0xfe]]) t.ok(decodeClose(Uint8Array.from(bytes), 'p').code.length > 0);
  t.end();
});

t.test('the random unit is in [0, 1)', (t) => {
  for (let round = 0; round < 1_000; round++) {
    const unit = systemRandom.unit();
    if (unit < 0 || unit >= 1) t.fail(`${unit}`);
  }
  t.equal(systemRandom.bytes(16).length, 16);
  t.end();
});
