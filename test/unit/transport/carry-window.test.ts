/** The window of a carried path, on a virtual clock: a path with a rate, a delay, and acknowledgements in lumps. */
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { DelayWindow } from '../../../src/transport/carry/window.ts';

const PACKET_BYTES = 1_400;
const LUMP_MS = 25;

/** What is handed over waits in one queue, leaves it at the rate, and is acknowledged a round trip later, in lumps. */
class SlowPath {
  now_ms = 0;
  rate: number;
  rtt_ms: number;
  readonly window = new DelayWindow(0);
  queue = 0;
  delivered = 0;
  dropped = 0;
  #consumed = 0;
  #told = 0;
  readonly #onTheWay: { readonly at_ms: number; readonly bytes: number }[] = [];

  constructor(rate_mbit: number, rtt_ms: number) {
    this.rate = (rate_mbit * 1e6) / 8 / 1_000;
    this.rtt_ms = rtt_ms;
  }

  /** Each ms, `offered` octets want to leave. */
  run(ms: number, offered: (now_ms: number) => number): void {
    for (let step = 0; step < ms; step++) {
      this.now_ms++;
      this.#deliver();
      this.window.acknowledged(this.now_ms, this.#told);
      for (let left = offered(this.now_ms); left > 0; left -= PACKET_BYTES) {
        if (this.window.take(this.now_ms, PACKET_BYTES)) this.queue += PACKET_BYTES;
        else this.dropped += PACKET_BYTES;
      }
    }
  }

  #deliver(): void {
    const bytes = Math.min(this.queue, this.rate);
    this.queue -= bytes;
    this.delivered += bytes;
    if (bytes > 0) this.#onTheWay.push({ at_ms: this.now_ms + this.rtt_ms, bytes });
    while ((this.#onTheWay[0]?.at_ms ?? Number.POSITIVE_INFINITY) <= this.now_ms) this.#consumed += this.#onTheWay.shift()?.bytes ?? 0;
    if (this.now_ms % LUMP_MS === 0) this.#told = Math.floor(this.#consumed);
  }

  get queue_ms(): number {
    return this.queue / this.rate;
  }
}

const always = (path: SlowPath) => () => 2 * path.rate;

t.test('a flood fills the path, and what waits stays at a few tens of ms, whatever the path', async () => {
  fc.assert(
    fc.property(fc.constantFrom(10, 50, 200, 600), fc.integer({ min: 0, max: 80 }), (mbit, rtt_ms) => {
      const path = new SlowPath(mbit, rtt_ms);
      path.run(3_000, always(path));
      const before = path.delivered;
      let queue_ms = 0;
      for (let second = 0; second < 30; second++) {
        path.run(1_000, always(path));
        queue_ms = Math.max(queue_ms, path.queue_ms);
      }
      return path.delivered - before >= 0.93 * path.rate * 30_000 && queue_ms <= 3 * limits.carry_queue_ms;
    }),
    { numRuns: 40 },
  );
});

t.test('a sender of bursts that waits for each is not taken for a slow path', async (t) => {
  const path = new SlowPath(600, 1);
  // Each 60 ms a burst of twice what got through before, as TCP after a loss.
  let burst = 4 * PACKET_BYTES;
  for (let turn = 0; turn < 100; turn++) {
    const before = path.delivered;
    let left = burst;
    path.run(60, () => {
      const now = left;
      left = 0;
      return now;
    });
    burst = Math.max(4 * PACKET_BYTES, 2 * (path.delivered - before));
  }
  t.ok(burst >= 1_000_000, `${burst} octets a burst`);
});

t.test('a flow that doubles each round trip from its first packets loses none before the path is full', async (t) => {
  for (const rtt_ms of [1, 40, 150]) {
    const path = new SlowPath(300, rtt_ms);
    const rounds: number[] = [];
    for (let packets = 10; packets * PACKET_BYTES < path.rate * rtt_ms && path.dropped === 0; packets *= 2) {
      rounds.push(packets);
      let [due, sent] = [0, 0];
      path.run(rtt_ms + LUMP_MS, () => {
        due = Math.min(packets, due + packets / rtt_ms);
        const now = Math.floor(due) - sent;
        sent += now;
        return now * PACKET_BYTES;
      });
    }
    t.equal(path.dropped, 0, `at ${rtt_ms} ms, in rounds of ${rounds.join(', ')} packets`);
  }
});

t.test('a path that becomes slower is followed within four seconds, one that becomes faster within two', async (t) => {
  const path = new SlowPath(200, 20);
  path.run(3_000, always(path));
  path.rate /= 10;
  path.run(4_000, always(path));
  t.ok(path.queue_ms <= 3 * limits.carry_queue_ms, `${path.queue_ms} ms`);
  path.rate *= 10;
  path.run(2_000, always(path));
  const before = path.delivered;
  path.run(1_000, always(path));
  t.ok(path.delivered - before > 0.9 * path.rate * 1_000);
});

t.test('where nothing is consumed, what is under way stays within the window', async (t) => {
  const window = new DelayWindow(0);
  for (let now_ms = 0; now_ms < 60_000; now_ms += 10) {
    window.acknowledged(now_ms, 0);
    window.take(now_ms, PACKET_BYTES);
  }
  t.ok(window.underWay <= limits.carry_window_bytes_initial);
  t.equal(window.take(60_000, 60_000), false);
  const idle = new DelayWindow(0);
  t.equal(idle.take(0, limits.carry_window_bytes_initial + 1), true, 'one of any size, where nothing is under way');
});

t.test('the window is whole octets, whatever rates and delays were seen', async (t) => {
  const window = new DelayWindow(0);
  let now_ms = 0;
  let acknowledged = 0;
  let fractions = 0;
  for (let step = 0; step < 2_000; step++) {
    now_ms += 1.37;
    window.acknowledged(now_ms, acknowledged);
    if (!Number.isInteger(window.bytes) || !Number.isInteger(window.room)) fractions++;
    const bytes = Math.min(7_919, window.room);
    if (bytes > 0) window.take(now_ms, bytes);
    else window.limited();
    acknowledged += Math.floor(window.underWay / 3);
  }
  t.equal(fractions, 0);
});
