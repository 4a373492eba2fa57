import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { DialMemories } from '../../../src/transport/dial-memory.ts';
import { credentials, destination, refused, setUp } from './dialer-world.ts';

t.test('QUIC within its head start wins, and TCP is never dialed', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  quic.answer = () => ({ after_ms: limits.quic_head_start_ms - 1 });
  const result = dial();
  await timers.advance(limits.quic_head_start_ms);
  t.match(await result, { transport: 'quic', why: 'quic', peer: 'peer' });
  t.same(tcp.dialed, []);
});

t.test('QUIC after its head start competes with TCP, and may still win', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  quic.answer = () => ({ after_ms: limits.quic_head_start_ms + 10 });
  tcp.answer = () => ({ after_ms: 50 });
  const result = dial();
  await timers.advance(1_000);
  t.match(await result, { transport: 'quic' });
  t.same([tcp.dialed.length, tcp.aborted], [1, 1], 'TCP was started and aborted');
});

t.test('where UDP gives no answer, TCP wins and says so', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  tcp.answer = () => ({ after_ms: 40 });
  const result = dial();
  await timers.advance(limits.quic_head_start_ms - 1);
  t.same(tcp.dialed, [], 'not before the head start is over');
  await timers.advance(100);
  t.match(await result, { transport: 'tcp', why: 'udp: no answer within 340 ms' });
  t.equal(quic.aborted, 1);
});

t.test('where UDP is refused, TCP starts at once', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  quic.answer = () => ({ after_ms: 5, error: refused() });
  tcp.answer = () => ({ after_ms: 10 });
  const result = dial();
  await timers.advance(15);
  t.match(await result, { transport: 'tcp', why: 'udp: connection refused' });
});

t.test('where TCP is refused and UDP is silent, a dial ends after dial_quic_ms_max, so that the next can begin', async (t) => {
  const { timers, tcp, dialer, abort } = setUp();
  tcp.answer = () => ({ after_ms: 1, error: new SelvedgeError('network_unreachable', { peer: 'a', why: 'connection refused' }) });
  let ended: unknown = null;
  const result = dialer
    .dial(destination, credentials, () => 'peer', abort.signal)
    .catch((error: unknown) => {
      ended = error;
    });
  await timers.advance(limits.dial_quic_ms_max - 1);
  t.equal(ended, null);
  await timers.advance(1);
  await result;
  t.match(ended, { code: 'network_unreachable' });
  t.match(String(ended), /udp: no answer within 2500 ms; tcp: connection refused/);
  t.equal(timers.waiting, 0);
});

t.test('where QUIC is not offered, TCP is dialed at once', async (t) => {
  const { timers, tcp, quic, dial } = setUp();
  tcp.answer = () => ({ after_ms: 10 });
  const result = dial({ ...destination, endpoints: [{ host: '192.0.2.1', tcp: 443, udp: null }] });
  await timers.advance(10);
  t.match(await result, { transport: 'tcp', why: 'quic not offered' });
  t.same(quic.dialed, []);
});

t.test('once UDP has failed, the next dial does not wait for it, but tries it still', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  tcp.answer = () => ({ after_ms: 40 });
  const first = dial();
  await timers.advance(1_000);
  await first;
  const second = dial();
  await timers.advance(40);
  t.match(await second, { transport: 'tcp', why: 'udp: no answer within 340 ms' });
  t.equal(quic.dialed.length, 2);
  quic.answer = () => ({ after_ms: 20 });
  const third = dial();
  await timers.advance(20);
  t.match(await third, { transport: 'quic' });
  quic.answer = () => null;
  const fourth = dial();
  await timers.advance(limits.quic_head_start_ms - 1);
  t.equal(tcp.dialed.length, 3, 'UDP has its head start back');
  await timers.advance(1_000);
  await fourth;
});

t.test('after QUIC went silent, the next dial does not wait for UDP', async (t) => {
  const { timers, tcp, dial, dialer } = setUp();
  tcp.answer = () => ({ after_ms: 40 });
  dialer.noteSilent(destination, 'quic');
  const result = dial();
  await timers.advance(40);
  t.match(await result, { transport: 'tcp', why: 'udp: went silent' });
});

t.test('several endpoints are tried side by side, the one that worked first the next time', async (t) => {
  const { timers, quic, dial } = setUp();
  const many = { ...destination, endpoints: ['a', 'b', 'c'].map((host) => ({ host, tcp: null, udp: 1 })) };
  quic.answer = (host) => (host === 'b' ? { after_ms: 10 } : null);
  const first = dial(many);
  await timers.advance(limits.dial_endpoint_stagger_ms - 1);
  t.same(quic.dialed, ['a']);
  await timers.advance(20);
  t.match(await first, { transport: 'quic' });
  t.same(quic.dialed, ['a', 'b']);
  const second = dial(many);
  await timers.advance(10);
  await second;
  t.same(quic.dialed.slice(2), ['b']);
});

t.test('a peer that is refused hears the code, and the caller too, whatever else failed', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  quic.answer = () => ({ after_ms: 1 });
  tcp.answer = () => ({ after_ms: 1, error: refused() });
  const result = dial(destination, () => {
    throw new SelvedgeError('wrong_cluster', { found: 'x', expected: 'y' });
  });
  await timers.advance(500);
  t.equal((await result).error?.code, 'wrong_cluster');
  t.ok(quic.sessions.every((session) => session.isClosed));
});

t.test('a session that passes wins over one that was refused', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  quic.answer = () => ({ after_ms: 1 });
  tcp.answer = () => ({ after_ms: 1 });
  const result = dial(destination, (session) => {
    if (quic.sessions.some((one) => one === session)) throw new SelvedgeError('wrong_node', { found: 'x', expected: 'y' });
    return 'peer';
  });
  await timers.advance(500);
  t.match(await result, { transport: 'tcp', why: /^quic: peer is node x/ });
});

t.test('when nothing works, the error names what each transport met', async (t) => {
  const { timers, quic, tcp, dial } = setUp();
  quic.answer = () => ({ after_ms: 5, error: new SelvedgeError('handshake_timeout', { peer: 'x', ms: 5_000 }) });
  tcp.answer = () => ({ after_ms: 5, error: refused() });
  const result = dial();
  await timers.advance(50);
  const { error } = await result;
  t.equal(error?.code, 'network_unreachable');
  t.equal(error?.facts.why, 'udp: no answer within 5000 ms; tcp: connection refused');
  t.equal(timers.waiting, 0);
});

t.test('a dial ends after dial_ms_max, not before', async (t) => {
  const { timers, dial, quic, tcp } = setUp();
  let ended = false;
  const result = dial().then((outcome) => {
    ended = true;
    return outcome;
  });
  await timers.advance(limits.dial_ms_max - 1);
  t.notOk(ended);
  await timers.advance(1);
  t.equal((await result).error?.code, 'network_unreachable');
  t.same([quic.aborted, tcp.aborted], [1, 1]);
  t.equal(timers.waiting, 0);
});

t.test('a dial that is given up leaves no timer and no attempt', async (t) => {
  const { timers, dial, abort, quic } = setUp();
  const result = dial();
  await timers.advance(10);
  abort.abort();
  t.equal((await result).error?.facts.why, 'given up');
  t.equal(quic.aborted, 1);
  t.equal(timers.waiting, 0);
});

t.test('a destination without an address says so', async (t) => {
  const { dial } = setUp();
  t.equal((await dial({ ...destination, endpoints: [] })).error?.facts.why, 'it offers no address');
});

t.test('the probe tries QUIC again and again until it works, at most upgrade_probe_ms for each', async (t) => {
  const { timers, quic, tcp, dialer, abort } = setUp();
  const result = dialer.probe(destination, credentials, () => 'peer', abort.signal);
  await timers.advance(limits.upgrade_probe_ms - 1);
  t.equal(quic.dialed.length, 1);
  await timers.advance(1);
  t.equal(quic.dialed.length, 2, 'the next follows at once');
  quic.answer = () => ({ after_ms: 30 });
  await timers.advance(limits.upgrade_probe_ms + 30);
  t.equal((await result)?.why, 'quic');
  t.same(tcp.dialed, [], 'a probe never falls back');
});

t.test('a probe that is refused quickly does not spin', async (t) => {
  const { timers, quic, dialer, abort } = setUp();
  quic.answer = () => ({ after_ms: 1, error: refused() });
  const result = dialer.probe(destination, credentials, () => 'peer', abort.signal).catch((error: SelvedgeError) => error.code);
  await timers.advance(limits.upgrade_probe_ms * 4 - 1);
  t.equal(quic.dialed.length, 4);
  abort.abort();
  t.equal(await result, 'network_unreachable');
  t.equal(timers.waiting, 0);
});

t.test('long after the loss the probe slows down, to upgrade_probe_ms_max', async (t) => {
  const { timers, quic, dialer, abort } = setUp();
  dialer.noteSilent(destination, 'quic');
  const result = dialer.probe(destination, credentials, () => 'peer', abort.signal).catch(() => null);
  await timers.advance(limits.upgrade_probe_fast_window_ms);
  t.equal(quic.dialed.length, limits.upgrade_probe_fast_window_ms / limits.upgrade_probe_ms, 'fast within the window');
  await timers.advance(20 * limits.upgrade_probe_ms_max);
  const before = quic.dialed.length;
  await timers.advance(10 * limits.upgrade_probe_ms_max);
  t.equal(quic.dialed.length - before, 10);
  abort.abort();
  await result;
  t.equal(timers.waiting, 0);
});

t.test('there is no probe where QUIC is not offered', async (t) => {
  const { dialer, abort } = setUp();
  const none = { ...destination, endpoints: [{ host: 'a', tcp: 1, udp: null }] };
  t.equal(await dialer.probe(none, credentials, () => 'peer', abort.signal), null);
});

t.test('a probe that meets the wrong peer says so at once', async (t) => {
  const { timers, quic, dialer, abort } = setUp();
  quic.answer = () => ({ after_ms: 1 });
  const verify = (): string => {
    throw new SelvedgeError('certificate_revoked', { peer: 'x', why: 'test' });
  };
  const result = dialer.probe(destination, credentials, verify, abort.signal).catch((error: SelvedgeError) => error.code);
  await timers.advance(1);
  t.equal(await result, 'certificate_revoked');
  t.equal(timers.waiting, 0);
});

t.test('the memory of destinations is bounded, the least lately used goes', (t) => {
  const memories = new DialMemories(2);
  memories.of('a').udpWhy = 'x';
  memories.of('b');
  memories.of('a');
  memories.of('c');
  t.equal(memories.size, 2);
  t.equal(memories.of('a').udpWhy, 'x');
  t.end();
});
