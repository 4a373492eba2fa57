/** The governor on simulated bottlenecks: what it promises about the network's queue and bulk's share of the line. */
import t from 'tap';
import { CubicFlow, GovernedFlow, Link, type LinkOptions, Simulation, mbit, measureOne, receivedBetween, watchQueue } from './link.ts';
import { flowOf, grid, type Kind, measureGrid, row } from './table.ts';

const line: LinkOptions = { rates: [{ from: 0, rate: mbit(50) }], delay_ms: 20, queue_ms: 200 };
const kinds: readonly Kind[] = ['led', 'quic', 'tcp'];

/** Under 5 Mbit/s the packet itself is the queue. */
function bounds(rate_mbit: number): { p50_ms: number; p99_ms: number; share: number } {
  if (rate_mbit < 5) return { p50_ms: 13, p99_ms: 45, share: 0.92 };
  if (rate_mbit < 20) return { p50_ms: 3.5, p99_ms: 12, share: 0.88 };
  return { p50_ms: 2.5, p99_ms: 7, share: 0.87 };
}

for (const kind of kinds) {
  const how = flowOf(kind);
  t.test(`${kind}: the queue stays short and the line stays full, from 2 to 200 Mbit/s and 1 to 100 ms`, async (t) => {
    for (const at of grid) {
      const measured = measureGrid(kind, at);
      const { p50_ms, p99_ms, share } = bounds(at.rate_mbit);
      const name = row(`${at.rate_mbit} Mbit/s ${at.delay_ms} ms`, measured);
      t.ok(measured.p50_ms <= p50_ms && measured.p99_ms <= p99_ms && measured.share >= share, name);
    }
  });

  t.test(`${kind}: at 50 Mbit/s and 20 ms bulk adds 1.5 ms at the median, 5 at the 99th percentile`, async (t) => {
    const measured = measureGrid(kind, { rate_mbit: 50, delay_ms: 20 });
    t.ok(measured.p50_ms <= 1.5 && measured.p99_ms <= 5 && measured.share >= 0.91, row('50 Mbit/s 20 ms', measured));
  });

  t.test(`${kind}: delay that is always there and no queue does not keep bulk below the line`, async (t) => {
    const measured = measureGrid(kind, { rate_mbit: 50, delay_ms: 20 }, { noise: (now) => (now < 300 ? 0 : 0.75) });
    t.ok(measured.p99_ms <= 5 && measured.share >= 0.91, row('0.75 ms of noise', measured));
  });

  t.test(`${kind}: a line that falls to a fifth and recovers is followed within a second or two`, async (t) => {
    const link = {
      ...line,
      rates: [
        { from: 0, rate: mbit(50) },
        { from: 10_000, rate: mbit(10) },
        { from: 20_000, rate: mbit(50) },
      ],
    };
    const { flow, waits } = measureOne({ link, flow: how, from: 8_000, to: 28_000 });
    const worst = (from: number, to: number): number => Math.max(...waits.filter(({ time }) => time >= from && time < to).map(({ wait }) => wait));
    const share = (from: number, to: number, rate: number): number => receivedBetween(flow, from, to) / ((to - from) * mbit(rate));
    t.ok(worst(10_000, 11_200) < 400, `the transient is bounded: ${Math.round(worst(10_000, 11_200))} ms`);
    t.ok(worst(11_200, 20_000) < 40, 'and gone after a second');
    t.ok(share(12_000, 20_000, 10) > 0.9, 'the slow line is full');
    t.ok(share(22_000, 28_000, 50) > 0.89, 'and so is the fast one again');
  });

  for (const count of [2, 4]) {
    t.test(`${kind}: ${count} governed senders share a line fairly, and its queue stays at 2 ms`, async (t) => {
      const sim = new Simulation(3);
      const link = new Link(sim, line);
      const flows = Array.from({ length: count }, (_, index) => new GovernedFlow(sim, link, { ...how, start: index * 1_000 }));
      const queue = watchQueue(sim, link, 30_000, 50_000);
      sim.run(50_000);
      const shares = flows.map((flow) => receivedBetween(flow, 30_000, 50_000));
      const sum = shares.reduce((left, right) => left + right);
      const measured = queue.result(sum);
      const jain = sum ** 2 / (count * shares.reduce((left, right) => left + right ** 2, 0));
      t.ok(jain > 0.85, `fairness ${jain.toFixed(2)}: ${shares.map((share) => (share / 20_000 / 125).toFixed(1)).join(', ')} Mbit/s`);
      t.ok(measured.p50_ms <= 2.5 && measured.p99_ms <= 10 && measured.share > 0.9, row('together', measured));
    });
  }

  t.test(`${kind}: beside a flow that fills the queue bulk keeps a share, and has the line when that is gone`, async (t) => {
    const sim = new Simulation(3);
    const link = new Link(sim, line);
    const flow = new GovernedFlow(sim, link, how);
    new CubicFlow(sim, link, { start: 5_000, stop: 25_000 });
    sim.run(35_000);
    const share = (from: number, to: number): number => receivedBetween(flow, from, to) / ((to - from) * mbit(50));
    t.ok(share(6_000, 25_000) > 0.05, `${(share(6_000, 25_000) * 100).toFixed(1)} % beside it`);
    t.ok(share(6_000, 25_000) < 0.15, 'and no more than a little');
    t.ok(share(29_000, 35_000) > 0.88, `${(share(29_000, 35_000) * 100).toFixed(1)} % after it`);
  });

  t.test(`${kind}: a queue on the way back does not slow bulk, nor lengthen the queue on the way out`, async (t) => {
    const measured = measureGrid(kind, { rate_mbit: 50, delay_ms: 20 }, { backQueue: (now) => Math.abs(((now / 20) % 100) - 50) * 2 });
    t.ok(measured.p99_ms <= 12 && measured.share > 0.85, row('back queue', measured));
  });

  t.test(`${kind}: clocks that drift apart by 100 ppm, and stamps that wrap, change nothing`, async (t) => {
    for (const skew of [1e-4, -1e-4]) {
      const measured = measureOne({ link: line, flow: { ...how, clock: { offset_ms: 0x1_0000_0000 / 1_000 - 8_000, skew } }, from: 5_000, to: 25_000 });
      t.ok(measured.p50_ms <= 2.5 && measured.p99_ms <= 6 && measured.share > 0.88, row(`skew ${skew}`, measured));
    }
  });

  t.test(`${kind}: a sender that has little to send, or nothing for a while, keeps its knowledge of the line`, async (t) => {
    const slow = measureOne({ link: line, flow: { ...how, app_rate: mbit(20) }, from: 5_000, to: 15_000 });
    t.ok(slow.share > 0.39 && slow.p99_ms < 3, row('20 Mbit/s of data', slow));
    const bursts = measureOne({ link: line, flow: { ...how, hasData: (now) => now % 3_000 < 1_000 }, from: 6_000, to: 18_000 });
    t.ok(bursts.share > 0.29 && bursts.p99_ms < 6, row('1 s of 3 with data', bursts));
    t.ok((bursts.flow.governor?.capacity_bytes_per_s ?? 0) > 5e6, 'the capacity is remembered');
  });

  t.test(`${kind}: pauses of the event loop cost bulk, not the others`, async (t) => {
    const measured = measureOne({ link: line, flow: { ...how, pause_part: 0.03, pause_ms: 8 }, from: 5_000, to: 15_000 });
    t.ok(measured.p99_ms <= 6 && measured.share > 0.8, row('pauses up to 8 ms', measured));
  });

  t.test(`${kind}: taking charge over a queue that already stands, it empties it within a second and goes on at the line's rate`, async (t) => {
    for (const [rate, delay_ms] of [
      [50, 20],
      [10, 20],
      [2, 20],
      [50, 100],
    ] as const) {
      for (const known of [false, true]) {
        const sim = new Simulation(2);
        const link = new Link(sim, { rates: [{ from: 0, rate: mbit(rate) }], delay_ms, queue_ms: 200 });
        const ungoverned = { until: 4_000, in_flight_bytes: mbit(rate) * (delay_ms * 2 + 160) };
        const flow = new GovernedFlow(sim, link, { ...how, ungoverned, governor: known ? { rtt_base_ms: delay_ms * 2 } : {} });
        sim.run(3_990);
        t.ok(link.wait_ms > 120, `before: ${link.wait_ms.toFixed(0)} ms`);
        sim.run(4_900);
        const { waits } = watchQueue(sim, link, 4_900, 6_500);
        sim.run(6_500);
        const worst = Math.max(...waits.map(({ wait }) => wait));
        const share = receivedBetween(flow, 5_000, 6_500) / (1_500 * mbit(rate));
        t.ok(
          worst < (rate < 5 ? 35 : 15) && share > 0.8,
          `${rate} Mbit/s ${delay_ms} ms: at most ${worst.toFixed(0)} ms, ${(share * 100).toFixed(0)} % of the line`,
        );
      }
    }
  });
}

for (const kind of ['led', 'quic'] as const) {
  t.test(`${kind}: a line that falls below the floor of what it was has its queue gone again within seconds`, async (t) => {
    for (const low of [2.5, 1.5]) {
      const rates = [
        { from: 0, rate: mbit(50) },
        { from: 8_000, rate: mbit(low) },
      ];
      const { flow, waits } = measureOne({ link: { ...line, rates }, flow: flowOf(kind), from: 0, to: 23_000 });
      const late = waits.filter(({ time }) => time > 18_000).map(({ wait }) => wait);
      t.ok(Math.max(...late) < 500, `${low} Mbit/s: at most ${Math.max(...late).toFixed(0)} ms 10 s later`);
      t.ok(receivedBetween(flow, 18_000, 23_000) > 0.85 * 5_000 * mbit(low), 'and the line is full');
    }
  });

  t.test(`${kind}: a lost packet or two at the start are chance, and so is loss of 2 % later`, async (t) => {
    for (const [rate_mbit, delay_ms, loss, from] of [
      [200, 100, 0.005, 6_000],
      [10, 100, 0.02, 8_000],
      [50, 20, 0.02, 3_000],
    ] as const) {
      const link = { rates: [{ from: 0, rate: mbit(rate_mbit) }], delay_ms, queue_ms: 200, loss };
      const measured = measureOne({ link, flow: flowOf(kind), from, to: from + 8_000 });
      t.ok(measured.p99_ms <= (rate_mbit < 20 ? 70 : 20) && measured.share > 0.8, row(`${rate_mbit} Mbit/s ${delay_ms} ms, loss ${loss * 100} %`, measured));
    }
  });

  t.test(`${kind}: the start of a path of 600 ms there and back reaches half of 50 Mbit/s within ten round trips`, async (t) => {
    const measured = measureOne({ link: { ...line, delay_ms: 300, queue_ms: 1_000 }, flow: flowOf(kind), from: 6_000, to: 8_000 });
    t.ok(measured.share > 0.5, row('from 6 s on', measured));
  });
}

t.test('quic: random loss of 1 % costs bulk a few per cent', async (t) => {
  for (const loss of [0.005, 0.01]) {
    const measured = measureGrid('quic', { rate_mbit: 50, delay_ms: 20 }, { loss });
    t.ok(measured.p99_ms <= 8 && measured.share > 0.85, row(`loss ${loss * 100} %`, measured));
  }
});

t.test('a remembered rate is where the next session begins, at half', async (t) => {
  const reaches = (initial?: number): number => {
    const sim = new Simulation(2);
    const link = new Link(sim, { ...line, delay_ms: 100 });
    const flow = new GovernedFlow(sim, link, { feedback: 'quic', governor: initial === undefined ? {} : { initial_rate_bytes_per_s: initial } });
    let now = 0;
    while ((flow.governor?.capacity_bytes_per_s ?? 0) < 43 * 125_000 && now < 20_000) {
      now += 20;
      sim.run(now);
    }
    return now;
  };
  t.ok(reaches(45 * 125_000) < 0.5 * reaches(), 'sooner by half and more');
});
