/** How often one peer's octets are looked at while others want their turn, on a clock of the test's own. */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { Readers } from '../../../src/transport/read-pace.ts';

const { read_looks_burst: BURST, read_looks_per_s: PER_S, read_gather_ms: GATHER_MS } = limits;
const SECOND_MS = 1_000;

/** Something comes on a source each `every_ms`, for a second; what is gathered is waited out. How often it was looked at, and after how long at most. */
function looks({ every_ms, beside_ms, sources = 1, bytes = 100 }: { every_ms: number; beside_ms: number | null; sources?: number; bytes?: number }) {
  const readers = new Readers();
  const [one, other] = [readers.add(), readers.add()];
  const counts = { looks: 0, late_ms: 0, others_late_ms: 0 };
  const free = new Map<number, number>();
  let nextBeside = 0;
  for (let now = 10_000, index = 0; now < 10_000 + SECOND_MS; now += every_ms, index++) {
    for (; beside_ms !== null && nextBeside <= now; nextBeside = Math.max(now, nextBeside) + beside_ms)
      counts.others_late_ms = Math.max(counts.others_late_ms, other.wait_ms(0, now));
    const source = index % sources;
    // Until a gathered source has been looked at, nothing more is told of it.
    if (now < (free.get(source) ?? 0)) continue;
    const wait_ms = one.wait_ms(source, now);
    free.set(source, now + wait_ms);
    one.found(bytes);
    counts.looks++;
    counts.late_ms = Math.max(counts.late_ms, wait_ms);
  }
  return counts;
}

t.test('who is alone is looked at at once, however much it says', async (t) => {
  t.match(looks({ every_ms: 0.1, beside_ms: null }), { looks: 10_000, late_ms: 0 });
  t.match(looks({ every_ms: 0.1, beside_ms: limits.read_shared_ms + 50 }), { late_ms: GATHER_MS }, 'and not while another was looked at a moment ago');
});

t.test('beside another, small pieces without end are gathered for a moment; the other waits for nothing', async (t) => {
  const found = looks({ every_ms: 0.1, beside_ms: 10 });
  t.ok(found.looks <= PER_S + 2 * BURST, `${found.looks} looks`);
  t.match(found, { late_ms: GATHER_MS, others_late_ms: 0 });
  t.match(looks({ every_ms: 0.1, beside_ms: 10, sources: 1_000 }), { late_ms: GATHER_MS }, 'nor are many sources that say little each a way around it');
});

t.test('whoever says little, or much at a time, is looked at at once beside others too', async (t) => {
  t.match(looks({ every_ms: 10, beside_ms: 1 }), { looks: 100, late_ms: 0 });
  t.match(looks({ every_ms: 1_000 / PER_S, beside_ms: 10 }), { late_ms: 0 });
  t.match(looks({ every_ms: 0.5, beside_ms: 10, bytes: limits.read_worth_bytes }), { looks: 2_000, late_ms: 0 });
});

t.test('a source that says little is not held up by one beside it on the same session that says much', async (t) => {
  const readers = new Readers();
  const [one, other] = [readers.add(), readers.add()];
  let late_ms = 0;
  for (let now = 0; now < SECOND_MS; now += GATHER_MS / 2) {
    other.wait_ms(0, now);
    one.wait_ms(1, now);
    if (now % 20 === 0) late_ms = Math.max(late_ms, one.wait_ms(2, now));
  }
  t.equal(late_ms, 0);
});

t.test('what was too much is made up for by a pause', async (t) => {
  const readers = new Readers();
  const [one, other] = [readers.add(), readers.add()];
  other.wait_ms(0, 0);
  for (let count = 0; count < 10 * BURST; count++) one.wait_ms(0, 0);
  t.equal(one.wait_ms(0, 1), GATHER_MS);
  other.wait_ms(0, 2 * SECOND_MS);
  t.equal(one.wait_ms(0, 2 * SECOND_MS), 0);
});
