/** Spec 15: a revoked certificate closes an active channel. Between two nodes; and among fifty with live channels to a real tower: what is closed, what is refused, and how soon. */
import t, { type Test } from 'tap';
import { TOWER_ID, TOWER_SITE } from '../../src/base/ids.ts';
import { Host } from '../../src/peering/host.ts';
import type { ChannelStatus } from '../../src/peering/mesh.ts';
import { serveSnapshots } from '../../src/tower/fabric.ts';
import type { Tower } from '../../src/tower/tower.ts';
import type { Credentials } from '../../src/transport/session.ts';
import { systemTimers } from '../../src/transport/system.ts';
import { enrolledNode } from '../unit/tower/api-world.ts';
import { makeTower } from '../unit/tower/support.ts';
import { alpha, answered, beta, dial, isEstablished, lastError, overEach, startHost } from './hosts.ts';

t.setTimeout(120_000);

overEach(
  t,
  'a node that is revoked while its channel is in use loses it at once, with that reason, and its next handshake is refused',
  async (t, transport, authority) => {
    const gamma = { ...alpha, node: '0c0000000003' };
    const revoked = new Set<string>();
    const b = await startHost(t, { self: beta, authority, transport, recorded: ({ node }) => (revoked.has(node) ? 'revoked' : 'any') });
    const [a, c] = [await startHost(t, { self: alpha, authority, transport }), await startHost(t, { self: gamma, authority, transport })];
    for (const node of [a, c]) dial(node, b, beta);
    await Promise.all([a, c].map((node) => node.until(isEstablished)));
    const [flow, other] = [a, c].map(({ host }) => host.mesh.open(beta.node, 'input', 'messages', 'echo'));
    if (flow === undefined || other === undefined) throw new Error('no flow');
    t.ok((await answered(flow)) && (await answered(other)));
    revoked.add(alpha.node);
    b.host.mesh.revalidate();
    t.match(await flow.closed, { code: 'flow_lost', message: /certificate_revoked/ });
    await a.until((status) => lastError(status) === 'certificate_revoked');
    await b.until(() => b.logs.some(({ message, facts }) => message === 'session refused' && facts.code === 'certificate_revoked'));
    t.ok(await answered(other), 'another node goes on with the same flow');
    t.same(
      b.host.mesh.status().map(({ peer }) => peer),
      [gamma.node],
    );
  },
);

const NODES = 50;
/** 200 ms are promised on a machine that does nothing else: `cut_ms` of the lab's step `revoke`. Here others run beside. */
const CUT_MS_MAX = 2_000;

/** The tower's place in the mesh, as its daemon makes it. */
async function fabricOf(t: Test, tower: Tower): Promise<Host> {
  const host = await Host.start({
    self: { cluster: tower.cluster, site: TOWER_SITE, node: TOWER_ID },
    credentials: () => tower.credentials,
    roots: () => tower.roots,
    recordedFingerprint: tower.recordedFingerprint,
    versions: () => ({ directory: 0, trust: 1 }),
    nameOf: (node) => node,
    listen: { host: '127.0.0.1', tcpPort: 0, udpPort: 0 },
    onHttp: null,
    isGoverned: true,
    log: () => undefined,
    onChange: () => undefined,
  });
  t.teardown(() => host.close());
  t.teardown(tower.onRevoked((node) => host.mesh.revalidate((peer) => peer.node === node)));
  const snapshots = serveSnapshots(host.mesh, tower, systemTimers);
  t.teardown(() => snapshots.close());
  return host;
}

/** A node with a channel to the tower, over QUIC or TCP. */
async function nodeOf(t: Test, tower: Tower, fabric: Host, { id, ...credentials }: Credentials & { readonly id: string }, transport: 'quic' | 'tcp') {
  const waiting = new Set<() => void>();
  const host = await Host.start({
    self: { cluster: tower.cluster, site: 'north', node: id },
    credentials: () => credentials,
    roots: () => tower.roots,
    recordedFingerprint: () => 'any',
    versions: () => ({ directory: 0, trust: 1 }),
    nameOf: (node) => node,
    listen: null,
    onHttp: null,
    isGoverned: true,
    log: () => {
      for (const look of [...waiting]) look();
    },
    onChange: () => {
      for (const look of [...waiting]) look();
    },
  });
  t.teardown(() => host.close());
  const { tcp, udp } = fabric.listener ?? {};
  const endpoint = { host: '127.0.0.1', tcp: transport === 'tcp' ? (tcp?.port ?? 0) : null, udp: transport === 'quic' ? (udp?.port ?? 0) : null };
  const identity = { cluster: tower.cluster, site: TOWER_SITE, node: TOWER_ID };
  const connect = () => host.mesh.setCandidates([{ identity, name: 'tower', endpoints: [endpoint], isDialed: true }]);
  const until = (wanted: (status: ChannelStatus | undefined) => boolean): Promise<void> =>
    new Promise((resolve) => {
      const look = (): void => {
        if (!wanted(host.mesh.status()[0])) return;
        waiting.delete(look);
        resolve();
      };
      waiting.add(look);
      look();
    });
  connect();
  await until((status) => status?.state === 'established');
  const redial = (): void => {
    host.mesh.setCandidates([]);
    connect();
  };
  return { id, host, until, redial };
}

t.test('a revoked node of fifty is cut off at once, over either transport, and the others notice nothing', async (t) => {
  const tower = await makeTower(t);
  const fabric = await fabricOf(t, tower);
  const enrolled: Awaited<ReturnType<typeof enrolledNode>>[] = [];
  for (let index = 0; index < NODES; index++) enrolled.push(await enrolledNode(tower, `node-${index}`));
  const nodes = await Promise.all(enrolled.map((one, index) => nodeOf(t, tower, fabric, one, index % 2 === 0 ? 'quic' : 'tcp')));
  t.equal(fabric.mesh.status().length, NODES);
  for (const victim of nodes.slice(0, 2)) {
    const transport = victim.host.mesh.status()[0]?.transport;
    const before = performance.now();
    await tower.revokeNode(victim.id);
    t.notOk(
      fabric.mesh.status().some(({ peer }) => peer === victim.id),
      'the tower has no channel with it',
    );
    await victim.until((status) => status?.last_error?.code === 'certificate_revoked');
    victim.redial();
    await victim.until((status) => status?.last_error?.code === 'certificate_revoked' && status.transport === null);
    const cut_ms = performance.now() - before;
    t.comment(`${transport}: removal, channel closed, next handshake refused: ${Math.round(cut_ms)} ms`);
    t.ok(cut_ms < CUT_MS_MAX);
  }
  const rest = nodes.slice(2);
  t.equal(fabric.mesh.status().filter(({ state }) => state === 'established').length, rest.length);
  t.ok(rest.every(({ host }) => host.mesh.status()[0]?.state === 'established' && host.mesh.status()[0]?.reconnects === 0));
});

t.test('who is disabled is cut off as well, and may come back', async (t) => {
  const tower = await makeTower(t);
  const fabric = await fabricOf(t, tower);
  const node = await nodeOf(t, tower, fabric, await enrolledNode(tower, 'one'), 'quic');
  await tower.setDisabled(node.id, true);
  await node.until((status) => status?.last_error?.code === 'peer_disabled');
  node.redial();
  await node.until((status) => status?.last_error?.code === 'peer_disabled' && status.transport === null);
  await tower.setDisabled(node.id, false);
  node.redial();
  await node.until((status) => status?.state === 'established');
});
