/** How large a snapshot can get: everything at its limit at once, and the many networks that a host is meant to be in. */
import { randomBytes } from 'node:crypto';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import type { AppEndpoint } from '../../../src/enroll/app-wire.ts';
import { cutIntoPieces, Pieces } from '../../../src/enroll/pieces.ts';
import { packSnapshot } from '../../../src/enroll/snapshot.ts';
import { checkSnapshot, type Snapshot } from '../../../src/enroll/wire.ts';
import { appPart } from '../../../src/tower/app/snapshot.ts';
import type { AppHostRow, AppNetworkRow, AppView } from '../../../src/tower/store/app-store.ts';
import { buildSnapshot } from '../../../src/tower/snapshot.ts';

const name = 'n'.repeat(63);
const big = Number.MAX_SAFE_INTEGER;
const idOf = (index: number) => index.toString(16).padStart(12, '0');
const endpointOf = (chars: number) => ({ host: 'h'.repeat(chars), tcp: 65_535, udp: 65_535 });
const room = limits.node_endpoints_bytes_max - JSON.stringify([endpointOf(0), endpointOf(0)]).length;
const endpoints = [endpointOf(Math.ceil(room / 2)), endpointOf(Math.floor(room / 2))];
const hex = 'f'.repeat(64);
const node = {
  id: idOf(0),
  name,
  site: name,
  fingerprint: hex,
  leaf: 'AAAA',
  csrHash: hex,
  spkiHash: hex,
  endpoints,
  disabled: false,
  leaving_ms: big,
  created_ms: 0,
  seen_ms: null,
  renewal: {
    next: { fingerprint: hex, leaf: 'AAAA', csrHash: hex, spkiHash: hex },
    old: Array.from({ length: limits.leaf_old_max }, () => ({ fingerprint: hex, until_ms: big })),
  },
  tenant: name,
  roles: Array.from({ length: limits.node_roles_max }, () => name),
  revision: 1,
};
const trust = { version: big, roots: ['A'.repeat(1_200), 'A'.repeat(1_200)] };

function snapshotWith(sitePeers: number, view: AppView | null): Snapshot {
  const siteNodes = Array.from({ length: sitePeers }, (_, index) => ({ ...node, id: idOf(index) }));
  const boots = new Map(siteNodes.map(({ id }) => [id, [hex, hex]]));
  const tower = { fingerprint: hex, endpoints: Array.from({ length: limits.node_endpoints_max }, () => endpointOf(limits.endpoint_host_chars_max)) };
  return buildSnapshot({
    version: big,
    issued_ms: big,
    cluster: name,
    node,
    tower,
    nodes: siteNodes,
    boots,
    trust,
    app: view === null ? null : appPart(node.id, view),
  });
}

const longest6 = 'fd11:1111:1111:1111:1111:1111:1111:1111';

function view(given: { networks: number; hosts: number; endpoints: number; attachment: string; keys: number }): AppView {
  const networks = Array.from(
    { length: given.networks },
    (_, index): AppNetworkRow => ({
      name: `n${index}`.padEnd(32, 'n'),
      vni: 2 ** 24 - 1 - index,
      subnet4: '100.100.100.100/30',
      subnet6: `${longest6}/120`,
      mtu: limits.app_mtu_bytes_max,
      learning: false,
      created_ms: 0,
    }),
  );
  const hosts = Array.from(
    { length: given.hosts + 1 },
    (_, index): AppHostRow => ({
      node: idOf(index),
      name,
      site: name,
      isLive: true,
      vtep: '100.100.100.100',
      keys: Array.from({ length: given.keys }, () => randomBytes(32).toString('base64')),
      listen: { host: longest6, port: 65_535 },
      underlay: { mtu: limits.app_mtu_bytes_max, ipv4_only: false },
      endpoints: [],
    }),
  );
  const endpointNumber = (index: number): AppEndpoint => ({
    node: idOf(Math.floor(index / given.networks) % (given.hosts + 1)),
    attachment: given.attachment,
    mac: `02:${randomBytes(5)
      .toString('hex')
      .replace(/(..)(?!$)/g, '$1:')}`,
    address4: '100.100.100.100',
    address6: longest6,
  });
  const byNetwork = Map.groupBy(Array(given.endpoints).keys(), (index) => index % given.networks);
  return { networks: networks.map((network, index) => ({ ...network, endpoints: (byNetwork.get(index) ?? []).map(endpointNumber) })), hosts };
}

/** Octets of JSON, and what a node gets of it. */
async function sizes(snapshot: Snapshot) {
  checkSnapshot(snapshot);
  const packed = await packSnapshot(snapshot);
  const envelope = { payload: Buffer.from(packed).toString('base64'), signature: 'A'.repeat(96), chain: ['A'.repeat(1_200)] };
  const bytes = new TextEncoder().encode(JSON.stringify(envelope));
  return { json: JSON.stringify(snapshot).length, packed: packed.length, pieces: [...cutIntoPieces(bytes)].length };
}

t.test('a snapshot with everything at its limit, and as long as allowed, is within its own', async (t) => {
  const attachment = 'a'.repeat(limits.app_attachment_name_chars_max);
  const { app_networks_per_node_max: networks, app_hosts_per_node_max: hosts, app_endpoints_per_node_max } = limits;
  const full = view({ networks, hosts, endpoints: app_endpoints_per_node_max, attachment, keys: limits.wireguard_keys_max });
  const { json } = await sizes(snapshotWith(limits.site_nodes_max, full));
  // Rules are told as they are stored, or shorter.
  const whole = json + limits.rules_bytes_max;
  t.ok(whole <= limits.snapshot_bytes_max, `${whole} of ${limits.snapshot_bytes_max} octets`);
  const uncompressed = Math.ceil(limits.snapshot_bytes_max / 3) * 4 + 2_000;
  t.ok(uncompressed <= limits.snapshot_envelope_bytes_max, 'its envelope too, should it not compress at all');
  t.ok(limits.snapshot_envelope_bytes_max / (limits.message_bytes_max - 1) <= limits.snapshot_pieces_max);
  t.ok(limits.enroll_answer_bytes_max >= limits.snapshot_envelope_bytes_max + 64 * 1_024);
});

t.test('a host in 200 networks of 50 hosts each is told of them', async (t) => {
  const many = view({ networks: 200, hosts: 49, endpoints: 200 * 50, attachment: '', keys: 1 });
  const found = await sizes(snapshotWith(50, many));
  t.ok(found.packed < found.json / 4, JSON.stringify(found));
  t.comment(JSON.stringify(found));
});

t.test('what is larger than a snapshot may be is not packed', async (t) => {
  const snapshot = { ...snapshotWith(1, null), cluster: 'c'.repeat(limits.snapshot_bytes_max) };
  await t.rejects(packSnapshot(snapshot), { code: 'limit_reached' });
});

t.test('pieces put together give the envelope, whatever its size; what is none, or never ends, is refused', (t) => {
  const size = limits.message_bytes_max - 1;
  for (const length of [0, 1, size - 1, size, size + 1, 3 * size, limits.snapshot_envelope_bytes_max]) {
    const bytes = new Uint8Array(length).fill(7);
    const pieces = new Pieces();
    // Twice, since the next envelope comes on the same flow.
    for (let round = 0; round < 2; round++) {
      const wholes = [...cutIntoPieces(bytes)].map((piece) => pieces.add(piece));
      t.ok(wholes.slice(0, -1).every((whole) => whole === null));
      t.ok(Buffer.from(wholes.at(-1) ?? []).equals(bytes), `${length} octets`);
    }
  }
  t.throws(() => new Pieces().add(new Uint8Array()), { code: 'request_invalid' });
  t.throws(() => new Pieces().add(new Uint8Array([2, 1])), { code: 'request_invalid' });
  const endless = (piece: Uint8Array) => {
    const pieces = new Pieces();
    for (let count = 0; count < 10_000; count++) pieces.add(piece);
  };
  t.throws(() => endless(new Uint8Array(limits.message_bytes_max).fill(1)), { code: 'body_too_large' });
  t.throws(() => endless(new Uint8Array([1])), { code: 'body_too_large' });
  t.end();
});
