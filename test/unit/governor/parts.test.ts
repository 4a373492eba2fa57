/** The governor's parts, each by itself: stamps, filters, credit, reports, and what a hostile peer's reports can do. */
import t from 'tap';
import { Governor, GovernorReceiver, stampOf } from '../../../src/channel/governor.ts';
import { Departures } from '../../../src/channel/governor/departures.ts';
import { DeliveryRate } from '../../../src/channel/governor/delivery.ts';
import { PastTotal, SecondBuckets, SlidingMinimum } from '../../../src/channel/governor/filters.ts';
import { Pacer } from '../../../src/channel/governor/pacer.ts';
import { StampFollower, stampDifference } from '../../../src/channel/governor/stamp.ts';

t.test('differences of stamps are right across the wrap, both ways', async (t) => {
  const wrap_ms = 0x1_0000_0000 / 1000;
  t.equal(stampOf(wrap_ms + 5), stampOf(5));
  t.equal(stampDifference(stampOf(wrap_ms + 1), stampOf(wrap_ms - 1)), 2_000);
  t.equal(stampDifference(stampOf(wrap_ms - 1), stampOf(wrap_ms + 1)), -2_000);
  const follower = new StampFollower();
  t.equal(follower.follow(0xffff_fff0), 0);
  t.equal(follower.follow(0x10), 0.032);
  t.equal(follower.follow(0xffff_fff0), 0);
});

t.test('a sliding minimum forgets what is older than its span, and keeps the newest however old', async (t) => {
  const minimum = new SlidingMinimum();
  t.equal(minimum.value, null);
  minimum.push(0, 3, 30);
  minimum.push(10, 5, 30);
  t.equal(minimum.value, 3);
  minimum.push(35, 9, 30);
  t.equal(minimum.value, 5);
  minimum.push(500, 7, 30);
  t.equal(minimum.value, 7);
});

t.test('a sliding minimum stays bounded whatever comes', async (t) => {
  const minimum = new SlidingMinimum();
  for (let index = 0; index < 100_000; index++) minimum.push(0, index, 30);
  t.equal(minimum.value, 0);
});

t.test('buckets remember active seconds, so that a silence does not erase what is known', async (t) => {
  const base = new SecondBuckets(3, Math.min);
  base.add(0, 1);
  base.add(1_000, 5);
  base.add(900_000, 6);
  t.equal(base.value, 1);
  base.add(901_000, 7);
  t.equal(base.value, 5);
  base.reset(9);
  t.equal(base.value, 9);
});

t.test('a total can be read as it was', async (t) => {
  const total = new PastTotal();
  total.add(0, 10);
  total.add(100, 5);
  t.same([total.at(-1), total.at(50), total.at(100), total.at(1_000)], [0, 10, 15, 15]);
});

t.test('the delivery rate is bytes over at least its span, and says what the sender withheld', async (t) => {
  const rate = new DeliveryRate();
  t.equal(rate.add(0, 0, 0, 50), null);
  t.equal(rate.add(25, 2_500, 0, 50), null);
  t.same(rate.add(50, 5_000, 0, 50), { rate: 100, rate_if_used: 100 });
  t.same(rate.add(75, 6_250, 1_250, 50), { rate: 75, rate_if_used: 100 });
});

t.test('credit grows with time, saves 3 ms and two packets, and a pause is no burst', async (t) => {
  const pacer = new Pacer(0, 1_300);
  t.equal(pacer.credit(0, 1_000), 1_300);
  pacer.spend(1_300);
  t.equal(pacer.credit(1, 1_000), 1_000);
  t.equal(pacer.credit(1_000, 1_000), 4 * 1_000 + 2 * 1_300);
  t.equal(pacer.takeUnused(), 1_000 + 999_000 - 6_600);
  t.equal(pacer.takeUnused(), 0);
});

t.test('where the session paces, bulk is handed over ahead of its turn, and what waits below is counted', async (t) => {
  const lead_ms = 10;
  const pacer = new Pacer(0, 1_300, lead_ms);
  t.equal(pacer.credit(0, 1_000), lead_ms * 1_000 + 1_300);
  pacer.spend(11_300);
  t.equal(pacer.credit(1, 1_000), 1_000, 'the lead is used up: the rate is left');
  t.equal(pacer.least(1_000), 2_500, 'and is filled up in quarters');
  t.equal(pacer.credit(8, 1_000), 8_000, 'a pause shorter than the lead loses nothing');
  t.equal(pacer.takeUnused(), 0);
  t.equal(pacer.credit(20, 1_000), lead_ms * 1_000 + 2 * 1_300);
  t.equal(pacer.takeUnused(), 20_000 - 10_000 - 2_600, 'a longer one does');
  pacer.measured(4_000);
  t.equal(pacer.credit(20, 1_000), 6_000, 'what the session holds back is what counts');
  t.equal(pacer.credit(20, 500), 1_000, 'at half the rate the lead is half as many bytes');
});

t.test('a byte left after the last look that had not seen it leave, and never later', async (t) => {
  const departures = new Departures();
  t.equal(departures.take(1), null, 'nothing is known');
  departures.push(10, 0);
  departures.push(11, 1_000);
  departures.push(12, 3_000);
  departures.push(13, 3_000);
  departures.push(60, 5_000);
  t.equal(departures.take(500), 10);
  t.equal(departures.take(1_000), 10);
  t.equal(departures.take(1_001), 11);
  t.equal(departures.take(4_000), null, 'looks too far apart');
  t.equal(departures.take(6_000), null, 'it has not left');
  for (let now = 61; now < 10_000; now++) departures.push(now, now * 100);
  t.equal(departures.take(999_800), 9_997, 'bounded, and right after any number of looks');
});

t.test('the receiver reports every 64 KiB or 10 ms, with the smallest delay since its last report', async (t) => {
  const receiver = new GovernorReceiver();
  t.equal(receiver.nextTime(0), null);
  t.equal(receiver.pollReport(0), null);
  receiver.onBulkFrame(100, stampOf(80), 1_000);
  t.match(receiver.pollReport(100), { bytes: 1_000, owd_min_us: 20_000, stamp_us: 80_000, held_us: 0 });
  receiver.onBulkFrame(103, stampOf(82), 1_000);
  receiver.onBulkFrame(104, stampOf(81), 1_000);
  t.equal(receiver.nextTime(104), 110);
  t.equal(receiver.pollReport(105), null);
  t.match(receiver.pollReport(110), { bytes: 3_000, clock_us: 104_000, owd_min_us: 21_000, stamp_us: 81_000, held_us: 6_000 });
  t.equal(receiver.pollReport(130), null, 'nothing new to tell');
  receiver.onBulkFrame(131, stampOf(110), 64 * 1024);
  t.equal(receiver.nextTime(131), 131);
});

t.test('the start is slow, and waits for acknowledgements once its window is full', async (t) => {
  const governor = new Governor(0, { rtt_base_ms: 40 });
  t.ok(governor.rate_bytes_per_s <= 325_000, 'ten packets a round trip');
  let now = 0;
  let sent = 0;
  while (governor.nextTime(now) !== null && now < 1_000) {
    const bytes = Math.min(governor.allowance(now), governor.frame_bytes);
    if (bytes > 0) governor.onSent(now, bytes);
    sent += bytes;
    now += 1;
  }
  t.equal(governor.nextTime(now), null);
  t.equal(governor.allowance(now), 0);
  t.ok(sent <= governor.window_bytes + governor.frame_bytes);
  governor.onReport(now, { bytes: sent, clock_us: 0, owd_min_us: 0, stamp_us: stampOf(now - 40), held_us: 0 });
  t.not(governor.nextTime(now), null, 'the acknowledgement opens it');
});

t.test('frames are a packet on slow paths and 16 kB at most', async (t) => {
  t.equal(new Governor(0).frame_bytes, 1_300);
  t.equal(new Governor(0, { initial_rate_bytes_per_s: 1e9 }).frame_bytes, 16_000);
});

t.test("reports that are lies cannot raise the rate faster than growth does, nor break the sender's arithmetic", async (t) => {
  const governor = new Governor(0);
  let before = governor.rate_bytes_per_s;
  for (let now = 0; now < 2_000; now += 10) {
    const bytes = governor.allowance(now);
    if (bytes > 0) governor.onSent(now, bytes);
    governor.onReport(now, {
      bytes: Number.MAX_SAFE_INTEGER,
      clock_us: (now * 7_919) >>> 0,
      owd_min_us: (now * 104_729) >>> 0,
      stamp_us: (now * 31) >>> 0,
      held_us: 0xffff_ffff,
    });
    const rate = governor.rate_bytes_per_s;
    t.ok(Number.isFinite(rate) && rate > 0 && rate <= 2 * before + 1);
    t.ok(governor.snapshot().unacknowledged_bytes >= 0);
    before = rate;
  }
});
