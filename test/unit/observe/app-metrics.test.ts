/** What metrics tell of app networks: by network and by peer, and never of more than so many of each. */
import { readFileSync } from 'node:fs';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { Metrics } from '../../../src/observe/metrics.ts';
import { Observatory } from '../../../src/observe/observatory.ts';
import { makeCounters } from '../../../src/overlay/counters.ts';
import { refusalReasons, type StatsAnswer } from '../../../src/overlay/tunnel-wire.ts';
import { host, network, snapshot } from '../overlay/snapshots.ts';

const A = 'aaaaaaaaaaaa';
const B = 'bbbbbbbbbbbb';
const C = 'cccccccccccc';

const app = snapshot({
  networks: [network({ name: 'shop', vni: 1001, places: [`${A}/`, `${B}/`] }), network({ name: 'bank', vni: 1002, places: [`${A}/`, `${C}/`] })],
  hosts: [host(B), host(C)],
});
const stats: StatsAnswer = {
  networks: [
    { name: 'shop', rxBytes: 100, txBytes: 200, refused: { forged_source: 3, too_big: 0, of_a_newer_tunnel: 2 } },
    { name: 'bank', rxBytes: 7, txBytes: 8 },
  ],
  peers: [
    { node: B, path: 'direct', rxBytes: 1_000, txBytes: 2_000, dropped: 4, latestHandshake_ms: 61_500 },
    { node: C, path: 'carried', rxBytes: 10, txBytes: 20, latestHandshake_ms: null },
  ],
};

function metricsOf(input: Partial<Parameters<typeof makeCounters>[0]>): Metrics {
  const counters = () =>
    makeCounters({ app, stats, pathOf: (node) => (node === C ? 'carried' : 'direct'), droppedTo: (node) => (node === C ? 9 : 0), ...input });
  return new Metrics(new Observatory({ wall: () => 0 }), {
    channels: () => [],
    drain: () => ({ state: 'none', flows: 0, forced: 0, left_ms: null }),
    versions: () => ({ directory: 1, trust: 1 }),
    wall: () => 0,
    certificateEnds_ms: () => 0,
    apps: counters,
  });
}

/** Lines of the text that tell of app networks, without comments. */
async function lines(metrics: Metrics): Promise<string[]> {
  return (await metrics.text()).split('\n').filter((line) => /^selvedge_(app|tunnel)_/.test(line));
}

t.test('octets, refusals by reason, drops, path and the age of the handshake are told by network and by peer', async (t) => {
  t.strictSame(
    (await lines(metricsOf({}))).sort(),
    [
      'selvedge_tunnel_up 1',
      'selvedge_app_networks 2',
      'selvedge_app_peers{path="direct"} 1',
      'selvedge_app_peers{path="carried"} 1',
      'selvedge_app_network_bytes_total{network="shop",direction="sent"} 200',
      'selvedge_app_network_bytes_total{network="shop",direction="received"} 100',
      'selvedge_app_network_bytes_total{network="bank",direction="sent"} 8',
      'selvedge_app_network_bytes_total{network="bank",direction="received"} 7',
      'selvedge_app_network_refused_total{network="shop",reason="forged_source"} 3',
      'selvedge_app_network_refused_total{network="shop",reason="too_big"} 0',
      'selvedge_app_network_refused_total{network="shop",reason="other"} 2',
      `selvedge_app_peer_bytes_total{node="${B}",name="b",direction="sent"} 2000`,
      `selvedge_app_peer_bytes_total{node="${B}",name="b",direction="received"} 1000`,
      `selvedge_app_peer_bytes_total{node="${C}",name="c",direction="sent"} 20`,
      `selvedge_app_peer_bytes_total{node="${C}",name="c",direction="received"} 10`,
      `selvedge_app_peer_dropped_total{node="${B}",name="b",reason="queue"} 4`,
      `selvedge_app_peer_dropped_total{node="${B}",name="b",reason="carry"} 0`,
      `selvedge_app_peer_dropped_total{node="${C}",name="c",reason="queue"} 0`,
      `selvedge_app_peer_dropped_total{node="${C}",name="c",reason="carry"} 9`,
      `selvedge_app_peer_path{node="${B}",name="b",path="direct"} 1`,
      `selvedge_app_peer_path{node="${C}",name="c",path="carried"} 1`,
      `selvedge_app_peer_handshake_age_seconds{node="${B}",name="b"} 61.5`,
    ].sort(),
  );
});

t.test('a node in no network tells that, and one whose tunnel is away tells that', async (t) => {
  const none = await lines(metricsOf({ app: null, stats: null }));
  t.same(none, ['selvedge_tunnel_up 0', 'selvedge_app_networks 0', 'selvedge_app_peers{path="direct"} 0', 'selvedge_app_peers{path="carried"} 0']);
  const away = await lines(metricsOf({ stats: null }));
  t.ok(away.includes('selvedge_tunnel_up 0') && away.includes('selvedge_app_networks 2'));
});

t.test('however many networks and peers there are, and whatever they are called, the rows are bounded, and nothing is missing in their sum', async (t) => {
  const many = limits.app_hosts_per_node_max;
  const idOf = (index: number): string => index.toString(16).padStart(12, '0');
  const hosts = Array.from({ length: many }, (_, index) => ({ ...host(B), node: idOf(index), name: `name "${index}"\n}` }));
  const networks = Array.from({ length: limits.app_networks_per_node_max }, (_, index) =>
    network({ name: `n${index}`, vni: 1_000 + index, places: [`${A}/`] }),
  );
  const counters = {
    app: snapshot({ networks, hosts }),
    stats: {
      peers: hosts.map(({ node }) => ({ node, path: 'direct' as const, rxBytes: 1, txBytes: 1 })),
      networks: networks.map(({ name }) => ({ name, rxBytes: 1, txBytes: 1, refused: Object.fromEntries(refusalReasons.map((reason) => [reason, 1])) })),
    },
    pathOf: () => 'direct' as const,
    droppedTo: () => 1,
  };
  const found = await metricsOf(counters).json();
  const of = (name: string) => found.find((metric) => metric.name === name)?.values ?? [];
  const sumOf = (name: string): number => of(name).reduce((sum, { value }) => sum + value, 0);
  t.equal(of('selvedge_app_peer_bytes_total').length, 2 * (limits.metric_peers_max + 1));
  t.equal(sumOf('selvedge_app_peer_bytes_total'), 2 * many);
  t.equal(sumOf('selvedge_app_peer_dropped_total'), many);
  t.equal(of('selvedge_app_peer_path').length, limits.metric_peers_max);
  t.equal(sumOf('selvedge_app_peers'), many);
  t.equal(of('selvedge_app_network_refused_total').length, refusalReasons.length * (limits.metric_networks_max + 1));
  t.equal(sumOf('selvedge_app_network_bytes_total'), 2 * networks.length);
  t.ok(of('selvedge_app_peer_bytes_total').some(({ labels }) => labels.node === '_other'));
  t.ok(
    (await lines(metricsOf(counters))).every((line) => /^\S+(\{.*\})? \d+(\.\d+)?$/.test(line)),
    'no name breaks a line',
  );
});

t.test('the reasons are those that the tunnel has', async (t) => {
  const source = readFileSync(new URL('../../../native/tunnel/state/actual.go', import.meta.url), 'utf8');
  const [, body = ''] = /type Refused struct \{([^}]*)\}/.exec(source) ?? [];
  t.same([...[...body.matchAll(/json:"(\w+)"/g)].map(([, name]) => name), 'other'], [...refusalReasons]);
});
