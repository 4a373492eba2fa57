/** `selvedge lab storm`: a parent with many children restarts, on a virtual clock. */
import { Command } from 'commander';
import { limits } from '../../src/base/limits.ts';
import { duration, integer } from './arguments.ts';
import { formatSeconds, printJson, printLine } from './output.ts';

interface StormFlags {
  readonly nodes: number;
  readonly rate: number;
  readonly down: number;
  readonly seed: number;
  readonly json?: boolean;
}

/** As many at once as in a fifth of a second, as a host admits them that is not told otherwise. */
const BURST_PART = limits.admission_burst / limits.admission_channels_per_s;

export function stormCommand(): Command {
  return new Command('storm')
    .description('a parent restarts and all its children come back: how evenly, how soon (on a virtual clock)')
    .option('--nodes <n>', 'how many children', integer('nodes', 1, 20_000), 10_000)
    .option('--rate <n>', 'channels that the parent admits in a second', integer('rate', 1, 100_000), limits.admission_channels_per_s)
    .option('--down <time>', 'how long the parent is away', duration('down'), 10_000)
    .option('--seed <n>', 'the same seed gives the same run', integer('seed', 1, 4_000_000_000), 1)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nTen thousand take some minutes of a processor and 2 GB.\n\nExample:\n  selvedge lab storm --nodes 1000')
    .action(async ({ nodes, rate, down, seed, json }: StormFlags) => {
      const { plotStorm, storm } = await import('../../src/lab/sim/storm.ts');
      const burst = Math.max(1, Math.round(rate * BURST_PART));
      const result = await storm({ seed, nodes, down_ms: down, rate: { channels_per_s: rate, burst } });
      if (json) printJson({ ...result });
      else {
        for (const line of plotStorm(result)) printLine(line);
        const { arrivals_per_s_max, knocks_per_s_max, back_ms, missing, refused, refused_per_node_max } = result;
        printLine(
          `${nodes} nodes; ${back_ms === null ? `${missing} are not back` : `all back in ${formatSeconds(back_ms / 1_000)}`}; at most ${arrivals_per_s_max} channels a second (admitted: ${rate}), ${knocks_per_s_max} knocks; ` +
            `told to come back ${refused} times, one node ${refused_per_node_max} times at most`,
        );
      }
      if (result.missing > 0) process.exitCode = 1;
    });
}
