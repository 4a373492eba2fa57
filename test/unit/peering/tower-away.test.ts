/** When degraded mode begins and ends, with a clock that the test steps. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { TOWER_ID, TOWER_SITE } from '../../../src/base/ids.ts';
import { TowerAway } from '../../../src/peering/tower-away.ts';
import { VirtualTimers } from '../../fixtures/virtual-timers.ts';

const AFTER_MS = limits.tower_away_ms;

function node() {
  const timers = new VirtualTimers();
  const told = { isReached: true, changes: 0, asked: 0 };
  const away = new TowerAway({
    site: 'north',
    after_ms: AFTER_MS,
    timers,
    isReached: () => told.isReached,
    ask: () => void told.asked++,
    onChange: () => void told.changes++,
    log: () => undefined,
  });
  const reach = (isReached: boolean): void => {
    told.isReached = isReached;
    away.channelsChanged();
  };
  return { timers, told, away, reach };
}

t.test('one tick before the tower has been away for its time a node goes on as ever, at that tick it is degraded', async (t) => {
  const { timers, told, away, reach } = node();
  reach(false);
  await timers.advance(AFTER_MS - 1);
  away.channelsChanged();
  t.same([away.isDegraded, told.changes], [false, 0]);
  await timers.advance(1);
  t.same([away.isDegraded, told.changes, away.facts.degraded], [true, 1, true]);
  away.close();
  t.equal(timers.waiting, 0);
});

t.test('a tower that is back in time changes nothing, and the next absence has the whole time again', async (t) => {
  const { timers, told, away, reach } = node();
  reach(false);
  await timers.advance(AFTER_MS - 1);
  reach(true);
  await timers.advance(AFTER_MS);
  reach(false);
  await timers.advance(AFTER_MS - 1);
  t.same([away.isDegraded, told.changes, told.asked], [false, 0, 0]);
  away.close();
  t.equal(timers.waiting, 0);
});

t.test('a tower that is back is asked once for a snapshot as of now, and only that ends degraded mode', async (t) => {
  const { timers, told, away, reach } = node();
  reach(false);
  await timers.advance(AFTER_MS);
  reach(true);
  away.channelsChanged();
  t.same([away.isDegraded, told.asked], [true, 1]);
  reach(false);
  reach(true);
  t.equal(told.asked, 2, 'again where it was lost before it answered');
  away.snapshotTaken();
  t.same([away.isDegraded, told.changes], [false, 2]);
  t.equal(timers.waiting, 0);
});

t.test('in degraded mode no new channel with a node of another site begins; with the tower and nodes of the own site it may', async (t) => {
  const { timers, away, reach } = node();
  const [far, near, tower] = [
    { cluster: 'edge', site: 'south', node: 'bbbbbbbbbbbb' },
    { cluster: 'edge', site: 'north', node: 'cccccccccccc' },
    { cluster: 'edge', site: TOWER_SITE, node: TOWER_ID },
  ];
  t.equal(away.objection(far), null);
  reach(false);
  await timers.advance(AFTER_MS);
  t.match(away.objection(far), { code: 'policy_denied', message: /degraded.*another site, south/ });
  t.same([away.objection(near), away.objection(tower)], [null, null]);
  away.close();
});

t.test('channels that end while the daemon stops begin nothing: no timer keeps the process', async (t) => {
  const { timers, away, reach } = node();
  away.close();
  reach(false);
  t.equal(timers.waiting, 0);
});
