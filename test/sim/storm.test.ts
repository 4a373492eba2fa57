/** A parent restarts and everybody comes back: evenly, each after two knocks at most, and soon. The same with ten thousand: `selvedge lab storm`. */
import t from 'tap';
import { plotStorm, storm } from '../../src/lab/sim/storm.ts';

t.setTimeout(240_000);

for (const down_ms of [2_000, 10_000]) {
  t.test(`a parent with 600 children is away for ${down_ms / 1_000} s: they arrive at the rate at which they are admitted`, async (t) => {
    const rate = { channels_per_s: 100, burst: 20 };
    const result = await storm({ seed: down_ms, nodes: 600, down_ms, rate });
    const plot = plotStorm(result);
    t.equal(result.missing, 0, 'none is refused for ever', { plot });
    t.ok(result.arrivals_per_s_max <= 2 * rate.channels_per_s, `${result.arrivals_per_s_max} a second at most`, { plot });
    t.ok((result.back_ms ?? Number.POSITIVE_INFINITY) <= 60_000, `all are back after ${result.back_ms} ms`, { plot });
    t.ok(result.refused_per_node_max <= 2, `told to come back ${result.refused_per_node_max} times at most`, { plot });
    t.equal(
      result.arrivals.reduce((sum, count) => sum + count, 0),
      600,
    );
    t.equal(plot.length, Math.max(result.arrivals.length, result.knocks.length) + 1);
  });
}
