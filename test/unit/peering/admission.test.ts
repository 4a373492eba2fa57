/** Who wants a channel beyond the rate is told when to come back: evenly, exactly, and never for good. */
import t from 'tap';
import { SelvedgeError } from '../../../src/base/errors.ts';
import { limits } from '../../../src/base/limits.ts';
import { seeded } from '../../../src/lab/sim/agenda.ts';
import { Admission } from '../../../src/peering/admission.ts';
import { Hosts } from './hosts.ts';

const RATE = { channels_per_s: 10, burst: 5 };

/** Milliseconds until its turn; null: admitted. */
function ask(admission: Admission, node: string, now: number): number | null {
  try {
    admission.admit(node, now);
    return null;
  } catch (error) {
    if (!(error instanceof SelvedgeError) || error.code !== 'peer_busy') throw error;
    return Number(error.facts.ms);
  }
}

t.test('a burst is admitted at once, then each has a turn of its own, one behind the other at the rate', async (t) => {
  const admission = new Admission('parent', seeded(1), RATE);
  const waits = Array.from({ length: 105 }, (_, index) => ask(admission, `n${index}`, 1_000));
  t.same(waits.slice(0, 5), [null, null, null, null, null]);
  const turns = waits.slice(5).map((ms) => ms ?? 0);
  for (const [index, ms] of turns.entries()) t.ok(ms >= 100 * (index + 1) && ms <= 100 * (index + 2) + 1, `the ${index + 1}. after ${ms} ms`);
  t.equal(admission.waiting, 100);
});

t.test('who comes back at its turn is admitted whoever else is there; who comes early hears the same turn again', async (t) => {
  const admission = new Admission('parent', seeded(2), RATE);
  for (let index = 0; index < 50; index++) ask(admission, `n${index}`, 0);
  const ms = ask(admission, 'late', 0) ?? 0;
  t.ok(ms > 4_000);
  t.equal(ask(admission, 'late', 1_000), ms - 1_000);
  t.equal(ask(admission, 'late', ms - limits.admission_early_ms_max - 2), limits.admission_early_ms_max + 2, 'one tick before');
  for (let index = 0; index < 50; index++) ask(admission, `other${index}`, ms - 1);
  t.equal(ask(admission, 'late', ms), null);
});

t.test('what resumes is not held up, and whoever comes new waits for as much longer', async (t) => {
  const admission = new Admission('parent', seeded(3), RATE);
  for (let index = 0; index < 20; index++) admission.resumed(0);
  const ms = ask(admission, 'new', 0) ?? 0;
  t.ok(ms >= 1_600 && ms <= 1_700, `${ms} ms`);
});

t.test('turns that nobody comes for are forgotten, one tick after they are over', async (t) => {
  const admission = new Admission('parent', seeded(4), RATE);
  for (let index = 0; index < 6; index++) ask(admission, `n${index}`, 0);
  t.equal(admission.waiting, 1);
  const over = 200 + limits.admission_late_ms_max;
  ask(admission, 'x', over - 101);
  t.equal(admission.waiting, 1);
  ask(admission, 'y', over + 1);
  t.equal(admission.waiting, 0);
});

t.test('no turn is promised beyond the longest wait: who asks then comes again within it, and is admitted in the end', async (t) => {
  const admission = new Admission('parent', seeded(5), { channels_per_s: 1, burst: 1 });
  const due = new Map(Array.from({ length: 200 }, (_, index) => [`n${index}`, 0]));
  let asked = 0;
  for (let now = 0; due.size > 0 && now < 300_000; now++) {
    for (const [node, at] of due) {
      if (at > now) continue;
      asked++;
      const ms = ask(admission, node, now);
      if (ms === null) due.delete(node);
      else {
        t.ok(ms <= limits.admission_wait_ms_max);
        due.set(node, now + ms);
      }
    }
  }
  t.equal(due.size, 0);
  t.ok(asked < 200 * 8, `${asked} times asked`);
});

t.test('a link comes back exactly when it was told, and not by its backoff', async (t) => {
  const hosts = new Hosts(6, { admission: { channels_per_s: 0.2, burst: 1 } });
  const twins = [hosts.twin({ node: '000000000001' }), hosts.twin({ node: '000000000002' })];
  const [first, second] = twins;
  t.ok(await hosts.until(() => twins.some((twin) => twin.status()[0]?.state === 'established'), 1_000));
  const [waits, has] = first?.status()[0]?.state === 'established' ? [second, first] : [first, second];
  await hosts.run(100);
  t.match(waits?.status()[0], { state: 'failed', last_error: { code: 'peer_busy' }, why: /next attempt in \d+ s/ });
  const ms = Number(/in (\d+) ms/.exec(waits?.status()[0]?.last_error?.message ?? '')?.[1]);
  t.ok(ms >= 4_900 && ms <= 10_000, `${ms} ms`);
  const dials = hosts.dials;
  await hosts.run(ms - 200);
  t.equal(hosts.dials, dials, 'nobody knocks before');
  t.ok(await hosts.until(() => waits?.status()[0]?.state === 'established', 400));
  t.equal(hosts.dials, dials + 1);
  for (const twin of [has, waits]) void twin?.close();
  t.same(await hosts.close(), []);
});

t.test('a run of failures is reported with its cause, and tried on at the cap', async (t) => {
  const hosts = new Hosts(7);
  hosts.dialAs = new SelvedgeError('network_unreachable', { peer: 'beta', why: 'test' });
  hosts.connect();
  await hosts.run(10 * 60_000);
  t.match(hosts.a.status()[0], { state: 'failed', last_error: { code: 'backoff_exhausted', message: /beta was not reached in \d+ attempts: .*test/ } });
  t.equal(hosts.log.filter((line) => line.includes('backoff exhausted')).length, 1);
  const { dials } = hosts;
  await hosts.run(10 * 60_000);
  t.ok(hosts.dials - dials > 20 && hosts.dials - dials < 80, `${hosts.dials - dials} dials in ten minutes`);
  hosts.dialAs = 'quic';
  t.ok(await hosts.until(() => hosts.state === 'established', limits.backoff_ms_max + 1_000));
  t.equal(hosts.a.status()[0]?.last_error, null);
  t.same(await hosts.close(), []);
});
