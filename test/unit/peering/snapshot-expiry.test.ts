/** A node whose snapshot is too old, with a clock that the test steps. */
import t from 'tap';
import { TOWER_ID, TOWER_SITE } from '../../../src/base/ids.ts';
import type { Snapshot } from '../../../src/enroll/wire.ts';
import { SnapshotExpiry } from '../../../src/peering/snapshot-expiry.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

const DAY_MS = 86_400_000;
const peer = { cluster: 'edge', site: 'north', node: 'bbbbbbbbbbbb' };
const tower = { cluster: 'edge', site: TOWER_SITE, node: TOWER_ID };

function node(left_ms: number) {
  const timers = new VirtualTimers();
  const state = { snapshotExpires_ms: timers.clock.wall() + left_ms, snapshot: { version: 7 } as Snapshot };
  const log: string[] = [];
  const told = { changes: 0 };
  const onChange = (): void => void told.changes++;
  const expiry = new SnapshotExpiry({ state, timers, onChange, log: (message, { version }) => void log.push(`${message} (${version})`) });
  expiry.follow();
  return { timers, state, log, expiry, told };
}

t.test('one tick before its time to live is over a snapshot holds, at that tick it has expired: said once, and no peer from then on', async (t) => {
  const { timers, log, expiry, state, told } = node(DAY_MS);
  await timers.advance(DAY_MS - 1);
  t.equal(expiry.objection(peer), null);
  t.same([log, told.changes], [[], 0]);
  t.match(expiry.facts, { snapshot_is_expired: false, snapshot_expires_ms: state.snapshotExpires_ms });
  await timers.advance(1);
  t.match(expiry.objection(peer), { code: 'policy_denied', message: /the snapshot of this node expired at 20.*the tower has to be reached/ });
  t.equal(expiry.objection(tower), null, 'the tower is what ends it');
  t.match(expiry.facts, { snapshot_is_expired: true });
  await timers.advance(DAY_MS);
  t.same(log, ['snapshot expired: no channel with a peer until the tower is reached (7)']);
  t.equal(told.changes, 1, 'channels are judged again');
  expiry.close();
  t.equal(timers.waiting, 0);
});

t.test('a fresh snapshot ends it', async (t) => {
  const { timers, state, log, expiry } = node(-1);
  t.equal(expiry.objection(peer)?.code, 'policy_denied', 'also where a node starts so');
  state.snapshotExpires_ms += DAY_MS;
  expiry.follow();
  t.equal(expiry.objection(peer), null);
  t.equal(log.length, 2);
  t.match(log[1], /fresh again/);
  expiry.close();
  t.equal(timers.waiting, 0);
});

t.test('a snapshot that is still taken while the daemon stops leaves no timer', (t) => {
  const { timers, state, expiry, told } = node(DAY_MS);
  expiry.close();
  state.snapshotExpires_ms += DAY_MS;
  expiry.follow();
  t.equal(timers.waiting, 0);
  t.equal(told.changes, 0);
  t.end();
});
