/** Who may send next (spec 5.5), and backoff (spec 8.1). */
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { Backoff } from '../../../src/channel/backoff.ts';
import { type TrafficClass, trafficClasses } from '../../../src/channel/classes.ts';
import { Scheduler, type Standing } from '../../../src/channel/scheduler.ts';
import { Pair } from './pair.ts';
import { seeded } from '../../../src/lab/sim/agenda.ts';

interface Job {
  readonly class: TrafficClass;
  ready: boolean;
  bytes: number;
}

const standing = (job: Job): Standing => (job.ready ? 'may' : 'idle');

function serve(classes: readonly TrafficClass[], total: number, chunk: (job: Job) => number): Map<TrafficClass, number> {
  const scheduler = new Scheduler<Job>();
  const jobs = classes.map((name) => ({ class: name, ready: true, bytes: 0 }));
  for (const job of jobs) scheduler.add(job);
  for (let sent = 0; sent < total; ) {
    const job = scheduler.next(standing)?.flow;
    if (!job) break;
    const bytes = chunk(job);
    scheduler.sent(job, bytes);
    job.bytes += bytes;
    sent += bytes;
  }
  const shares = new Map<TrafficClass, number>();
  for (const job of jobs) shares.set(job.class, (shares.get(job.class) ?? 0) + job.bytes / total);
  return shares;
}

t.test('classes of the lowest tier share by weight, within a few percent, whatever their chunks', async (t) => {
  const classes = ['render', 'clipboard', 'telemetry', 'file_transfer', 'storage_fetch', 'update_fetch'] as const;
  const random = seeded(5);
  const shares = serve(classes, 200_000_000, (job) => (job.class === 'file_transfer' ? 64_000 : 100 + random.below(8_000)));
  const weights = classes.reduce((sum, name) => sum + trafficClasses[name].weight, 0);
  for (const name of classes) {
    const expected = trafficClasses[name].weight / weights;
    const share = shares.get(name) ?? 0;
    t.ok(Math.abs(share - expected) < 0.02, `${name}: ${share.toFixed(3)} of ${expected.toFixed(3)}`);
  }
});

t.test('flows of one class take turns', async (t) => {
  const scheduler = new Scheduler<Job>();
  const jobs = Array.from({ length: 5 }, () => ({ class: 'file_transfer' as const, ready: true, bytes: 0 }));
  for (const job of jobs) scheduler.add(job);
  for (let count = 0; count < 1_000; count++) {
    const job = scheduler.next(standing)?.flow as Job;
    scheduler.sent(job, 1_000);
    job.bytes++;
  }
  t.same(
    jobs.map((job) => job.bytes),
    [200, 200, 200, 200, 200],
  );
});

t.test('a higher tier leaves first, and yet nobody starves: a waiting tier has one turn in sixteen chunks', async (t) => {
  const shares = serve(['input', 'health', 'file_transfer'], 400_000_000, () => limits.chunk_bytes_max);
  t.ok((shares.get('input') ?? 0) > 0.85);
  for (const name of ['health', 'file_transfer'] as const) {
    const share = shares.get(name) ?? 0;
    t.ok(share > 0.05 && share < 0.07, `${name}: ${share.toFixed(3)}`);
  }
});

t.test('what waits for a lane that another keeps full is not forgotten: its turn comes as soon as the lane takes something', async (t) => {
  const scheduler = new Scheduler<Job>();
  const [input, health, screen, file] = (['input', 'health', 'render', 'file_transfer'] as const).map((name) => ({ class: name, ready: true, bytes: 0 }));
  const jobs = [input, health, screen, file] as [Job, Job, Job, Job];
  for (const job of jobs) scheduler.add(job);
  // The urgent lane takes one chunk in two; the bulk lane always takes one.
  for (let count = 0; count < 4_000; count++) {
    const isUrgentFull = count % 2 === 1;
    const job = scheduler.next((candidate) => (candidate.class === 'file_transfer' || !isUrgentFull ? 'may' : 'waits'))?.flow as Job;
    scheduler.sent(job, limits.chunk_bytes_max);
    job.bytes += limits.chunk_bytes_max;
  }
  for (const job of jobs) t.ok(job.bytes >= 100 * limits.chunk_bytes_max, `${job.class} ${job.bytes / limits.chunk_bytes_max} chunks of 4,000`);
});

t.test('a class that was idle has saved nothing', async (t) => {
  for (const [busy, idle] of [
    ['file_transfer', 'storage_fetch'],
    ['fabric_control', 'input'],
  ] as const) {
    const scheduler = new Scheduler<Job>();
    const early: Job = { class: busy, ready: true, bytes: 0 };
    const late: Job = { class: idle, ready: false, bytes: 0 };
    scheduler.add(early);
    scheduler.add(late);
    for (let count = 0; count < 1_000; count++) scheduler.sent(scheduler.next(standing)?.flow as Job, 10_000);
    late.ready = true;
    for (let count = 0; count < 100; count++) {
      const job = scheduler.next(standing)?.flow as Job;
      scheduler.sent(job, 10_000);
      job.bytes++;
    }
    t.ok(Math.abs(early.bytes - late.bytes) <= 2, `${busy} ${early.bytes}, ${idle} ${late.bytes}`);
  }
});

t.test('one short flow after another earns a class no more than its weight', async (t) => {
  const scheduler = new Scheduler<Job>();
  const steady: Job = { class: 'file_transfer', ready: true, bytes: 0 };
  scheduler.add(steady);
  let short: Job = { class: 'update_fetch', ready: true, bytes: 0 };
  scheduler.add(short);
  let churned = 0;
  for (let count = 0; count < 3_000; count++) {
    const job = scheduler.next(standing)?.flow as Job;
    scheduler.sent(job, 10_000);
    if (job === steady) continue;
    churned++;
    scheduler.remove(short);
    short = { class: 'update_fetch', ready: true, bytes: 0 };
    scheduler.add(short);
  }
  t.ok(Math.abs(churned - 1_000) < 30, `${churned} of 3,000 for a weight of 2 against 4`);
});

t.test('input leaves before bulk that was queued earlier', async (t) => {
  const pair = new Pair();
  pair.attach('new', { sources: 'lanes', rate: 50, unsent_bytes_max: 16_000 });
  const bulk = pair.a.open('file_transfer', 'stream', 'bulk');
  const input = pair.a.open('input', 'stream', 'keys');
  pair.a.do(() => bulk.write(new Uint8Array(200_000)));
  const order: number[] = [];
  pair.a.onTransmit = (frame) => void order.push(frame.flow);
  pair.world.run(20);
  pair.a.do(() => input.write(Uint8Array.of(1)));
  t.equal(
    order.findLast((flow) => flow !== 0),
    input.id,
    'at once, though bulk waits',
  );
  pair.b.onEvent = (event) => {
    if (event.type === 'readable') while (event.flow.read());
  };
  pair.world.run(5_000);
  t.same(pair.leftovers(), []);
});

t.test('backoff is uniform between nothing and a doubling ceiling with a cap, and starts over after success', async (t) => {
  const random = seeded(9);
  const sums: number[] = [];
  for (let round = 0; round < 2_000; round++) {
    const backoff = new Backoff(random);
    for (let attempt = 0; attempt < 10; attempt++) {
      const ceiling = Math.min(limits.backoff_ms_max, limits.backoff_ms_base * 2 ** attempt);
      const wait = backoff.next();
      if (!(wait >= 0 && wait < ceiling)) t.fail(`attempt ${attempt} waits ${wait} of ${ceiling}`);
      sums[attempt] = (sums[attempt] ?? 0) + wait / ceiling / 2_000;
    }
    backoff.reset();
    if (backoff.next() >= limits.backoff_ms_base) t.fail('did not start over');
  }
  t.ok(
    sums.every((mean) => Math.abs(mean - 0.5) < 0.03),
    `means of ${sums.map((mean) => mean.toFixed(2))} of the ceiling`,
  );
});
