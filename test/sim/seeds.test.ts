/** Clusters under faults keep their promises, for many seeds. More of them: `selvedge lab sim --seeds 5000`. */
import t from 'tap';
import { runSeeds } from '../../src/lab/sim/index.ts';

t.setTimeout(600_000);

const SEEDS = 200;

t.test(`${SEEDS} clusters of 20 nodes live through ten minutes of faults each`, { timeout: 590_000 }, async (t) => {
  const { violated, conversations, failures } = await runSeeds({ seed: 1, seeds: SEEDS, nodes: 20, sites: 4, minutes: 10 });
  for (const { seed, violations, transcript } of violated) t.fail(`seed ${seed}: ${violations[0]}`, { violations, transcript: transcript.slice(-60) });
  t.ok(conversations > 100 * SEEDS, `${conversations} conversations`);
  for (const code of ['flow_lost', 'channel_class_denied', 'peer_draining'])
    t.ok((failures[code] ?? 0) > SEEDS, `${failures[code]} of them ended with ${code}`);
});
