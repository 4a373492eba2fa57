/** Who breaks the protocol and comes back: for how long it is held off, what is forgotten, and how much is remembered, on a clock of the test's own. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { PenaltyBox } from '../../../src/peering/penalty-box.ts';

const FREE = limits.penalty_free_times;
const BASE_MS = limits.penalty_ms_base;
const MAX_MS = limits.penalty_ms_max;
const FORGOTTEN_MS = limits.penalty_forgotten_ms;

t.test('the first times are let pass; from then on each hold is twice as long, up to the longest', async (t) => {
  const box = new PenaltyBox('tower');
  for (let count = 0; count < FREE; count++) t.equal(box.blame(['a'], count), 0);
  t.equal(box.objection('a', FREE), null);
  const holds = Array.from({ length: 9 }, () => box.blame(['a'], 100));
  t.strictSame(holds.slice(0, 4), [BASE_MS, 2 * BASE_MS, 4 * BASE_MS, 8 * BASE_MS]);
  t.equal(holds.at(-1), MAX_MS);
});

t.test('whoever is held off is told when to come back; one tick before it is refused, then let in', async (t) => {
  const box = new PenaltyBox('tower');
  for (let count = 0; count <= FREE; count++) box.blame(['a', 'its leaf'], 1_000);
  for (const name of ['a', 'its leaf']) {
    t.match(box.objection(name, 1_000), { code: 'peer_busy', facts: { peer: 'tower', ms: BASE_MS } });
    t.match(box.objection(name, 1_000 + BASE_MS - 1), { facts: { ms: 1 } });
    t.equal(box.objection(name, 1_000 + BASE_MS), null);
  }
  t.equal(box.objection('b', 1_000), null, 'nobody else is');
});

t.test('another leaf does not begin anew, and after good behaviour all is forgotten', async (t) => {
  const box = new PenaltyBox('tower');
  for (let count = 0; count <= FREE; count++) box.blame(['a', 'first leaf'], 0);
  t.equal(box.blame(['a', 'second leaf'], 0), 2 * BASE_MS);
  const over = 2 * BASE_MS + FORGOTTEN_MS;
  t.equal(box.blame(['a'], over), 4 * BASE_MS, 'not a tick too early');
  t.equal(box.blame(['second leaf'], over + 1), 0);
});

t.test('as many names are remembered as there is room for', async (t) => {
  const box = new PenaltyBox('tower');
  for (let index = 0; index < limits.penalty_names_max + 10; index++) box.blame([`node ${index}`], 0);
  t.equal(box.size, limits.penalty_names_max);
});
