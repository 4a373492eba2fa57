/** When the congestion control of a lane begins anew: after pauses, and in no flow that goes on, however slow. */
import fc from 'fast-check';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { PauseWatch } from '../../../src/transport/tcp-pause.ts';

const { tcp_pause_ms, tcp_trickle_bytes_max, tcp_trickle_ms } = limits;
const KIB = 1024;

/** How often a pause ended, of `bytes` every `every_ms` for a minute. */
function pausesOf(watch: PauseWatch, from_ms: number, bytes: number, every_ms: number): number {
  let count = 0;
  for (let at = 0; at < 60_000; at += every_ms) if (watch.wrote(from_ms + at, bytes)) count++;
  return count;
}

t.test('much after a pause is told once', async (t) => {
  const watch = new PauseWatch(0);
  t.equal(watch.wrote(10, 64 * KIB), false, 'a connection begins by itself');
  t.equal(watch.wrote(20 + tcp_pause_ms, 100), false, 'a little is a trickle');
  t.equal(watch.wrote(21 + tcp_pause_ms, 64 * KIB), true);
  t.equal(watch.wrote(22 + tcp_pause_ms, 64 * KIB), false);
});

t.test('a trickle is a pause', async (t) => {
  const watch = new PauseWatch(0);
  t.equal(pausesOf(watch, 0, 150, 20), 0);
  t.equal(watch.wrote(60_000, 64 * KIB), true);
});

t.test('what goes on is no pause, whatever its rate', async (t) => {
  const isPauseless = fc.property(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 500 }), (parts, every_ms) => {
    // From what just counts upwards.
    const bytes = Math.ceil((tcp_trickle_bytes_max * every_ms * parts) / (tcp_trickle_ms - every_ms));
    return pausesOf(new PauseWatch(0), 0, bytes, every_ms) === 0;
  });
  t.doesNotThrow(() => fc.assert(isPauseless));
});
