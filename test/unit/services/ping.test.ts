/** Echo and ping over a mesh in memory. */
import t from 'tap';
import { serveEcho } from '../../../src/services/echo.ts';
import { percentile } from '../../../src/services/percentile.ts';
import { type PingSample, ping } from '../../../src/services/ping.ts';
import { systemTimers } from '../../../src/transport/system.ts';
import { MemoryNet } from './memory-mesh.ts';

const A = 'aaaaaaaaaaaa';
const B = 'bbbbbbbbbbbb';

function setUp() {
  const net = new MemoryNet();
  serveEcho(net.mesh(B));
  return { net, mesh: net.mesh(A) };
}

t.test('ping counts, times and summarizes its answers, and leaves no flow', async (t) => {
  const { mesh, net } = setUp();
  const samples: PingSample[] = [];
  const summary = await ping(mesh, systemTimers, {
    node: B,
    class: 'input',
    count: 5,
    interval_ms: 1,
    size_bytes: 64,
    onSample: (sample) => samples.push(sample),
  });
  t.match(summary, { sent: 5, received: 5 });
  t.equal(summary.samples_ms.length, 5);
  t.same(
    samples.map(({ sequence }) => sequence),
    [0, 1, 2, 3, 4],
  );
  t.ok((summary.p50_ms ?? -1) <= (summary.p99_ms ?? -2));
  t.equal(net.flows.size, 0);
});

t.test('an endless ping goes on until it is told to stop, and keeps no samples', async (t) => {
  const { mesh } = setUp();
  const stop = new AbortController();
  const options = { node: B, class: 'input' as const, count: null, interval_ms: 1, size_bytes: 64, signal: stop.signal };
  const summary = await ping(mesh, systemTimers, { ...options, onSample: ({ sequence }) => sequence === 7 && stop.abort() });
  t.equal(summary.received, 8);
  t.equal(summary.samples_ms.length, 0);
});

t.test('a ping whose flow is lost ends with the reason', async (t) => {
  const { mesh, net } = setUp();
  const lost = ping(mesh, systemTimers, {
    node: B,
    class: 'health',
    count: null,
    interval_ms: 1,
    size_bytes: 12,
    onSample: () => net.cut('heartbeat_timeout'),
  });
  await t.rejects(lost, { code: 'heartbeat_timeout' });
});

t.test('a ping that nobody answers says so after its wait', async (t) => {
  const net = new MemoryNet();
  net.mesh(B).handle('echo', () => {});
  const silent = ping(net.mesh(A), systemTimers, { node: B, class: 'input', count: 1, interval_ms: 1, size_bytes: 64, wait_ms: 20 });
  await t.rejects(silent, { code: 'timeout' });
});

t.test('echo gives a stream back whole, in order, and ends with it', async (t) => {
  const { mesh, net } = setUp();
  const flow = mesh.open(B, 'clipboard', 'stream', 'echo');
  flow.write(Buffer.from('one '));
  flow.write(Buffer.from('two'));
  flow.end();
  let text = '';
  while (await flow.readable()) text += Buffer.from(flow.read() ?? new Uint8Array(0)).toString();
  t.equal(text, 'one two');
  t.equal(await flow.closed, null);
  t.equal(net.flows.size, 0);
});

t.test('a percentile is one of the samples', async (t) => {
  t.equal(percentile([], 0.5), null);
  t.equal(percentile([3, 1, 2], 0.5), 2);
  t.equal(percentile([3, 1, 2], 0.99), 3);
  t.equal(percentile([3, 1, 2], 0), 1);
});
