/** `selvedge lab run|list`: topologies in network namespaces on this machine. */
import { existsSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { printJson, printLine } from './output.ts';

interface RunFlags {
  readonly once?: boolean;
  readonly json?: string;
  readonly report?: string;
}

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
  return command;
}
