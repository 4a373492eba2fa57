/** `selvedge drain` and `undrain`: a host is emptied before it is stopped, and taken back into service. */
import { Command } from 'commander';
import { callControl, streamControl } from '../../src/node/control-client.ts';
import { readDrain } from './answers.ts';
import { duration, remoteOf, socketOf, type TowerFlags, withRemote, withSocket } from './arguments.ts';
import { drainInWords } from './drain-words.ts';
import { interruption } from './mesh.ts';
import { exitCodes, printJson, printLine } from './output.ts';

interface Flags extends TowerFlags {
  readonly deadline?: number;
  readonly force?: boolean;
  readonly json?: boolean;
}

export function drainCommand(): Command {
  return withRemote(withSocket(new Command('drain').description('empty this host: no new flows, what is there may finish')))
    .option('--deadline <time>', 'how long what is there may take, such as 60s (default: 60s, or as configured)', duration('deadline'))
    .option('--force', 'end what is left at the deadline')
    .option('--no-force', 'let it go on, and report it (default, unless configured)')
    .option('--json', 'print JSON: a line for each look, then the result')
    .addHelpText('after', '\nIt goes on when this command is interrupted; `selvedge undrain` ends it.\n\nExample:\n  selvedge drain --deadline 60s --force')
    .action(drain);
}

async function drain(flags: Flags): Promise<void> {
  const { deadline: deadline_ms, force, json } = flags;
  const body = { ...(deadline_ms !== undefined && { deadline_ms }), ...(force !== undefined && { force }) };
  for await (const answer of streamControl({ ...placeOf(flags), method: 'POST', path: '/v1/drain', body, signal: interruption().signal })) {
    const status = readDrain(answer);
    const isOver = answer.done === true;
    if (json) printJson(isOver ? { done: true, ...status } : status);
    else printLine(drainInWords(status));
    if (isOver && status.state === 'overdue') process.exitCode = exitCodes.failed;
  }
}

export function undrainCommand(): Command {
  return withRemote(withSocket(new Command('undrain').description('take this host back into service')))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge undrain')
    .action(async (flags: Flags) => {
      const status = readDrain(await callControl({ ...placeOf(flags), method: 'POST', path: '/v1/undrain' }));
      if (flags.json) printJson(status);
      else printLine(drainInWords(status));
    });
}

function placeOf(flags: TowerFlags): Pick<Parameters<typeof callControl>[0], 'socketPath' | 'remote'> {
  return remoteOf(flags) ?? { socketPath: socketOf(flags) };
}
