/** `selvedge lab run|list`: topologies in network namespaces on this machine. */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { integer } from './arguments.ts';
import { printJson, printLine } from './output.ts';
import { stormCommand } from './storm.ts';

interface RunFlags {
  readonly once?: boolean;
  readonly json?: string;
  readonly report?: string;
}

/** Between two lines of progress. */
const PROGRESS_SEEDS = 50;

export function labCommand(): Command {
  const command = new Command('lab')
    .description('whole meshes on this machine, in network namespaces (docs/lab.md)')
    .addHelpText('after', '\nExamples:\n  selvedge lab list\n  selvedge lab run edge-site --once');
  command
    .command('run')
    .description('bring a topology up, run its steps, print a table')
    .argument('<file>', 'topology (YAML), or the name of one that `lab list` tells')
    .option('--once', 'end after the table; else it stays up with its status until Ctrl-C')
    .option('--json <file>', 'write steps and figures')
    .option('--report <file.html>', 'write a page that shows it')
    .addHelpText('after', '\nExamples:\n  selvedge lab run edge-site\n  selvedge lab run configs/lab/edge-site.yaml --once --json r.json')
    .action(async (file: string, { once = false, json, report }: RunFlags) => {
      // Before minutes of steps whose figures could not be written.
      for (const path of [json, report]) {
        if (path !== undefined && !existsSync(dirname(resolve(path))))
          throw new SelvedgeError('not_found', { what: 'directory', name: dirname(resolve(path)) });
      }
      const { runLab } = await import('../../src/lab/index.ts');
      const outputs = { ...(json !== undefined && { json }), ...(report !== undefined && { report }) };
      process.exitCode = await runLab({ file, once, ...outputs, print: printLine, terminal: process.stdout.isTTY === true });
    });
  command
    .command('list')
    .description('the topologies that come with Selvedge')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge lab list --json')
    .action(async ({ json }: { readonly json?: boolean }) => {
      const { listLabs } = await import('../../src/lab/index.ts');
      const labs = await listLabs();
      if (json) printJson({ labs });
      else for (const { name, about, file, steps } of labs) printLine(`${name}\n  ${about}\n  ${file}\n  steps: ${steps.join(', ')}`);
    });
  command
    .command('sim')
    .description('simulate clusters under faults, from seeds, on a virtual clock')
    .option('--seed <n>', 'the first seed', integer('seed', 1, 4000000000), 1)
    .option('--seeds <n>', 'how many', integer('seeds', 1, 1000000), 20)
    .option('--nodes <n>', 'nodes of each cluster', integer('nodes', 2, 10000), 20)
    .option('--sites <n>', 'sites that they are spread over', integer('sites', 1, 1000), 4)
    .option('--minutes <n>', 'virtual minutes with faults', integer('minutes', 1, 10000), 10)
    .option('--transcript', 'print what happened in the last seed, not only where a promise was broken')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  selvedge lab sim --seeds 200\n  selvedge lab sim --seed 17 --seeds 1 --transcript')
    .action(async (flags: SimFlags) => {
      const { runSeeds } = await import('../../src/lab/sim/index.ts');
      let last: readonly string[] = [];
      const began_ms = performance.now();
      const rateOf = (done: number) => {
        const seconds = (performance.now() - began_ms) / 1_000;
        return { seconds: Number(seconds.toFixed(1)), seeds_per_s: Number((done / seconds).toFixed(2)) };
      };
      const onResult = (
        { seed, violations, transcript }: { seed: number; violations: readonly string[]; transcript: readonly string[] },
        done: number,
      ): void => {
        last = transcript;
        if (flags.json) return;
        if (violations.length > 0) printLine(`seed ${seed}: ${violations.join('; ')}`);
        if (done % PROGRESS_SEEDS === 0 && done < flags.seeds) printLine(`${done} of ${flags.seeds} seeds, ${rateOf(done).seeds_per_s} a second`);
      };
      const summary = await runSeeds({ ...flags, onResult });
      const { violated, ...totals } = summary;
      const rate = rateOf(summary.seeds);
      if (flags.json) printJson({ ...totals, ...rate, violated: violated.map(({ seed, violations, digest }) => ({ seed, violations, digest })) });
      else {
        const told = violated[0]?.transcript ?? (flags.transcript ? last : []);
        for (const line of told) printLine(line);
        printLine(
          `${summary.seeds} seeds in ${rate.seconds} s, ${summary.virtual_hours.toFixed(1)} virtual hours, ${summary.conversations} conversations, ${summary.sessions} sessions: ${violated.length === 0 ? 'every promise held' : `broken in seed ${violated.map(({ seed }) => seed).join(', ')}`}`,
        );
      }
      if (violated.length > 0) process.exitCode = 1;
    });
  return command.addCommand(stormCommand());
}

interface SimFlags {
  readonly seed: number;
  readonly seeds: number;
  readonly nodes: number;
  readonly sites: number;
  readonly minutes: number;
  readonly transcript?: boolean;
  readonly json?: boolean;
}
