/** The window of a carried path. */
import t from 'tap';
import { DelayWindow } from '../../../src/transport/carry/window.ts';

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
