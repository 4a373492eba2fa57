/** The paths of all peers, from the tunnel's statistics and the channel table: who is carried, by what, and that it ends. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import type { ChannelFacts, PacketCarrier } from '../../../src/overlay/carrier.ts';
import { PeerPaths } from '../../../src/overlay/peer-paths.ts';
import type { PeerStats } from '../../../src/overlay/tunnel-wire.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';
import { host } from './snapshots.ts';

const hosts = [host('bbbbbbbbbbbb'), host('cccccccccccc')];

function setUp() {
  const timers = new VirtualTimers();
  const carried = new Set<string>();
  const changes: string[] = [];
  const denials = new Map<string, SelvedgeError>();
  const carrier: PacketCarrier = {
    follow: (nodes) => {
      for (const node of carried) if (!nodes.has(node)) carried.delete(node);
    },
    routeTo: (node) => (node === 'cccccccccccc' ? 'channel' : null),
    say: (node, { wants }) => (wants ? carried.add(node) : carried.delete(node)),
    stateOf: () => null,
    denialOf: (node) => denials.get(node) ?? null,
    droppedTo: () => 0,
    onChange() {},
    channelsAre() {},
    close: () => carried.clear(),
  };
  const paths = new PeerPaths({ timers, carrier, onChange: (node, { path }) => changes.push(`${node} ${path}`) });
  paths.follow(hosts);
  let txBytes = 0;
  /** Seconds in which both peers are sent to; c's answers come as `heard` says. */
  const pass = async (seconds: number, heard: Partial<PeerStats>, channels: readonly ChannelFacts[] = []) => {
    for (let second = 0; second < seconds; second++) {
      await timers.advance(1_000);
      txBytes += 120;
      const stats = { path: 'direct', rxBytes: 0, txBytes, latestHandshake_ms: null } as const;
      paths.step(
        hosts,
        [
          { ...stats, node: 'bbbbbbbbbbbb' },
          { ...stats, node: 'cccccccccccc', ...heard },
        ],
        channels,
      );
    }
  };
  return { paths, carried, changes, denials, pass };
}

t.test('a peer that UDP does not reach is carried by what can, and taken back when it is heard', async (t) => {
  const { paths, carried, changes, pass } = setUp();
  await pass(10, {});
  t.equal(paths.pathOf('cccccccccccc'), 'carried');
  t.equal(paths.pathOf('bbbbbbbbbbbb'), 'direct', 'nothing could carry it');
  t.same([...carried], ['cccccccccccc']);
  await pass(10, { directHeard_ms: 100, carriedHeard_ms: 50 });
  t.same(changes, ['cccccccccccc carried', 'cccccccccccc direct']);
  t.same([...carried], [], 'the way is closed');
});

t.test('what carries ends with the peer, and with the daemon', async (t) => {
  const { paths, carried, pass } = setUp();
  await pass(10, {});
  paths.follow([host('bbbbbbbbbbbb')]);
  t.same([...carried], []);
  t.equal(paths.pathOf('cccccccccccc'), 'direct');
  t.equal(paths.verdictOf('cccccccccccc'), null);
  paths.follow(hosts);
  await pass(10, {});
  t.equal(carried.size, 1);
  paths.close();
  t.same([...carried], []);
});

t.test('a channel on TCP or a silent one says that UDP fails, and the change comes sooner', async (t) => {
  const slow = setUp();
  await slow.pass(4, {});
  t.same(slow.changes, []);
  for (const facts of [
    { transport: 'tcp', suspect: false },
    { transport: 'quic', suspect: true },
  ]) {
    const quick = setUp();
    await quick.pass(4, {}, [{ peer: 'cccccccccccc', state: 'established', ...facts }]);
    t.same(quick.changes, ['cccccccccccc carried']);
  }
});

t.test('where rules deny that packets are carried, the path says so', async (t) => {
  const { paths, denials, pass } = setUp();
  await pass(10, {});
  denials.set('cccccccccccc', new SelvedgeError('channel_class_denied', { class: 'vpn_packet', why: 'policy apart (priority 100) denies it' }));
  t.match(paths.verdictOf('cccccccccccc'), { path: 'carried', why: /no answer by UDP for .*; not carried: class vpn_packet .* policy apart/ });
});
