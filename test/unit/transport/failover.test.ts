/** What a dialer does after a failure (spec 8.2, 8.3): it goes to other endpoints of the peer that the directory tells now, warm ones first, and leaves a UDP that comes and goes alone. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { credentials, destination, setUp } from './dialer-world.ts';

const at = (...hosts: string[]) => ({ ...destination, endpoints: hosts.map((host) => ({ host, tcp: null, udp: 1 })) });

t.test('an endpoint that went silent is tried after the others, and kept to again once it is what works', async (t) => {
  const { timers, quic, dial, dialer } = setUp();
  quic.answer = () => ({ after_ms: 10 });
  const dialed = async (...hosts: string[]): Promise<string[]> => {
    const before = quic.dialed.length;
    const result = dial(at(...hosts));
    await timers.advance(limits.dial_endpoint_stagger_ms);
    await result;
    return quic.dialed.slice(before);
  };
  t.same(await dialed('a', 'b'), ['a']);
  t.same(await dialed('b', 'a'), ['a'], 'it sticks to what worked, whatever the directory names first');
  dialer.noteSilent(at('a', 'b'), 'quic');
  t.same(await dialed('a', 'b'), ['b']);
  t.same(await dialed('a', 'b'), ['b'], 'and to this one from now on');
  dialer.noteSilent(at('a', 'b'), 'quic');
  t.same(await dialed('a', 'c'), ['c'], 'one that the directory has no more is not dialed');
});

t.test('an endpoint where somebody else answers is tried last from then on', async (t) => {
  const { timers, quic, dial } = setUp();
  quic.answer = () => ({ after_ms: 10 });
  let verdicts = 0;
  const first = dial(at('stranger', 'peer'), () => {
    if (verdicts++ === 0) throw new SelvedgeError('wrong_node', { found: 'x', expected: 'y' });
    return 'peer';
  });
  await timers.advance(50);
  t.match(await first, { transport: 'quic' });
  quic.answer = (host) => (host === 'stranger' ? { after_ms: 10 } : null);
  const second = dial(at('stranger', 'peer'));
  await timers.advance(1);
  t.same(quic.dialed.slice(2), ['peer']);
  await timers.advance(limits.dial_endpoint_stagger_ms + 10);
  t.match(await second, { transport: 'quic' }, 'last, but tried');
});

t.test('while UDP is held, TCP has the head start, the way back waits, and both say so', async (t) => {
  const { timers, quic, tcp, dial, dialer, abort } = setUp();
  tcp.answer = () => ({ after_ms: 40 });
  const lose = async () => {
    quic.answer = () => null;
    dialer.noteSilent(destination, 'quic');
    const result = dial();
    await timers.advance(1_000);
    return result;
  };
  const probe = () => dialer.probe(destination, credentials, () => 'peer', abort.signal);
  t.match(await lose(), { transport: 'tcp', why: 'udp: went silent' });
  quic.answer = () => ({ after_ms: 20 });
  const back = probe();
  await timers.advance(20);
  t.equal((await back)?.why, 'quic', 'the first time the way back begins at once');

  t.match(await lose(), { transport: 'tcp', why: 'udp: went silent; it comes and goes: tried again in 5 s' });
  quic.answer = () => ({ after_ms: 20 });
  const dialed = quic.dialed.length;
  const redial = dial();
  await timers.advance(40);
  t.match(await redial, { transport: 'tcp' });
  t.equal(quic.dialed.length, dialed, 'QUIC would have been faster');
  const later = probe();
  await timers.advance(limits.udp_hold_ms_base - 1_041);
  t.equal(quic.dialed.length, dialed, 'one tick before its time');
  await timers.advance(limits.upgrade_probe_jitter_ms_max + 21);
  t.equal((await later)?.why, 'quic');
});
