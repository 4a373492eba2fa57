import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import t from 'tap';
import { bytesAt, longestGap, percentile, rateBetween } from '../../../src/lab/measure.ts';
import { bottleneckOf, gatewaysOf } from '../../../src/lab/paths.ts';
import { blockUdpCommand, planTopology } from '../../../src/lab/plan.ts';
import { renderReport } from '../../../src/lab/report/page.ts';
import { listLabs, loadTopology, stepSchemas } from '../../../src/lab/index.ts';
import { outcomeTable } from '../../../src/lab/table.ts';
import { Trace } from '../../../src/lab/trace.ts';

const edgeSite = async () => loadTopology(fileURLToPath(new URL('../../../configs/lab/edge-site.yaml', import.meta.url)), stepSchemas);

t.test('a percentile is a value that was measured, by nearest rank', async (t) => {
  t.equal(percentile([3, 1, 2], 0.5), 2);
  t.equal(
    percentile(
      Array.from({ length: 100 }, (_, index) => index + 1),
      0.99,
    ),
    99,
  );
  t.equal(percentile([7], 0.99), 7);
  fc.assert(
    fc.property(fc.array(fc.double({ noNaN: true }), { minLength: 1 }), fc.double({ min: 0.01, max: 1, noNaN: true }), (values, part) =>
      values.includes(percentile(values, part)),
    ),
  );
});

t.test('the longest gap counts from the start and to the end, and only what lies between', async (t) => {
  const progress = [100, 110, 400, 410, 5000].map((at_ms, index) => ({ at_ms, bytes: index }));
  t.equal(longestGap(progress, 105, 420), 290);
  t.equal(longestGap(progress, 0, 120), 100);
  t.equal(longestGap(progress, 405, 900), 490);
  t.equal(longestGap([], 0, 50), 50);
});

t.test('a rate is what arrived between two times', async (t) => {
  const progress = [0, 1000, 2000].map((at_ms) => ({ at_ms, bytes: at_ms * 6250 }));
  t.equal(rateBetween(progress, 0, 2000), 50);
  t.equal(bytesAt(progress, 1500), 6_250_000);
});

t.test('edge-site is what the documentation says: two uplinks of 50 Mbit/s, and a gateway that drops UDP', async (t) => {
  const topology = await edgeSite();
  for (const node of ['a', 'b', 'c']) {
    const { mbit, link } = bottleneckOf(topology, node);
    t.equal(mbit, 50);
    t.match(link.forward, { delay_us: 20_000, queue: { ms: 200 } });
    t.same(link.forward, link.backward);
  }
  t.equal(bottleneckOf(topology, 'a').link, bottleneckOf(topology, 'b').link, 'a and b share their uplink');
  t.not(bottleneckOf(topology, 'a').link, bottleneckOf(topology, 'c').link);
  t.same(
    gatewaysOf(topology, 'c').map((host) => [host.name, host.udpBlocked]),
    [['depot-gw', true]],
  );
  const names = topology.steps.map((step) => step.name);
  const before = [
    'enroll',
    'connect',
    'peers',
    'qos_quic',
    'qos_tcp',
    'fallback',
    'restart_tower',
    'degraded',
    'drain',
    'refuse',
    'app_network',
    'restart_daemon',
    'membership',
  ];
  t.same(names, [...before, 'policy', 'rotate', 'rotate_root', 'unseal', 'revoke']);
  t.ok((await listLabs()).some((lab) => lab.name === 'edge-site' && lab.about !== ''));
});

t.test('every name that a plan makes bears its run, and every interface name fits the kernel', async (t) => {
  const topology = await edgeSite();
  const plan = planTopology(topology, 'abcdef');
  t.ok(plan.namespaces.every((name) => name.startsWith('selvedge-abcdef-')));
  t.ok(plan.links.every(({ ends }) => ends.every((end) => end.interface.length <= 15 && plan.namespaces.includes(end.namespace))));
  for (const { args } of [...plan.switches, ...plan.hosts])
    t.ok(
      plan.namespaces.some((name) => args.includes(name)),
      args.join(' '),
    );
  const host = topology.hosts.get('c');
  t.match(host && blockUdpCommand(host, 'ns', true).input, /hook ingress .* udp drop; \}\nchain egress .* hook egress .* udp drop/);
});

t.test('the table says what held, and the page shows it without loading anything or trusting a text', async (t) => {
  const topology = { ...(await edgeSite()), about: '<script>alert(1)</script>' };
  const outcomes = [
    { name: 'enroll', ok: true, figures: { nodes: 3, refused_code: 'token_exhausted' }, failures: [], seconds: 1.5 },
    { name: 'connect', ok: false, figures: { transports: { a: 'quic', c: 'tcp' } }, failures: ['c is on <b>'], seconds: 2 },
  ];
  const table = outcomeTable(outcomes, false);
  t.match(table, /enroll +yes +1.5 s +nodes 3 · refused_code token_exhausted/);
  t.match(table, /connect +NO +2 s +transports \(a quic, c tcp\)/);
  t.match(table, /1 of 2 steps held/);
  const trace = new Trace();
  const input = Array.from({ length: 100 }, (_, index) => ({ at_ms: 1000 + index * 20, rtt_ms: 40 + (index % 3) }));
  const progress = Array.from({ length: 200 }, (_, index) => ({ at_ms: 1000 + index * 10, bytes: index * 60_000 }));
  trace.add('qos_quic', {
    node: 'a',
    title: 'a <i>',
    line_mbit: 50,
    input,
    progress,
    marks: [{ at_ms: 1500, label: 'file & more' }],
    start_ms: 1000,
    end_ms: 3000,
  });
  const page = renderReport({ topology, outcomes, trace, run: 'abcdef', at: new Date(0) });
  t.notMatch(page, /<script|<i>'|src=|https?:|@import|url\(/);
  t.match(page, /&lt;script&gt;alert\(1\)&lt;\/script&gt;/);
  t.match(page, /file &amp; more/);
  t.notMatch(page, /NaN|undefined|Infinity/);
});
