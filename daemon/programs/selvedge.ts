/** The command line of Selvedge. Reads it, hands over to daemon/cli/, and turns the outcome into an exit code; no logic. */
import { Command, CommanderError } from 'commander';
import { PROGRAM_VERSION } from '../../src/api/program.ts';
import { resourceCommands } from '../cli/resource.ts';
import { auditCommand } from '../cli/audit.ts';
import { appCommand } from '../cli/app.ts';
import { callHomeCertCommand } from '../cli/call-home-cert.ts';
import { tokenCommand } from '../cli/enroll.ts';
import { drainCommand, undrainCommand } from '../cli/drain.ts';
import { hostCommand } from '../cli/host.ts';
import { joinCommand, preflightCommand } from '../cli/join.ts';
import { labCommand } from '../cli/lab.ts';
import { channelCommand, eventsCommand, metricsCommand } from '../cli/observe.ts';
import { Interrupted, peersCommand, pingCommand, sendCommand, statusCommand } from '../cli/mesh.ts';
import { nodeCommand } from '../cli/node.ts';
import { renewCommand } from '../cli/renew.ts';
import { storeCommand } from '../cli/store.ts';
import { operatorCommand } from '../cli/operator.ts';
import { platformCommand } from '../cli/platform.ts';
import { endWithReader, exitCodes, printJson, printLine, reportError } from '../cli/output.ts';
import { sessionCommand } from '../cli/session.ts';
import { trustCommand } from '../cli/trust.ts';

const exitHelp = `
Examples:
  selvedge status
  selvedge COMMAND --help

Exit codes: ${exitCodes.ok} done, ${exitCodes.failed} failed (the code in brackets says why: docs/failure-reasons.md), ${exitCodes.usage} wrong usage,
${exitCodes.unreachable} no daemon answers, ${exitCodes.interrupted} interrupted, ${exitCodes.unread} nobody reads the output any more.`;

/** @returns the exit code */
export async function runCommandLine(argv: readonly string[]): Promise<number> {
  endWithReader();
  // For the lab it is a file to write; errors stay for people there.
  const asJson = argv[0] !== 'lab' && argv.includes('--json');
  const program = await makeProgram(argv);
  const words = argv[0] === '--version' ? ['version', ...argv.slice(1)] : argv;
  try {
    await program.parseAsync(words, { from: 'user' });
    return Number(process.exitCode ?? exitCodes.ok);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    if (error instanceof Interrupted) return exitCodes.interrupted;
    return reportError(error, asJson);
  }
}

async function makeProgram([first]: readonly string[]): Promise<Command> {
  const program = new Command('selvedge').description('overlay mesh for edge operators').addHelpText('after', exitHelp);
  program.addCommand(statusCommand()).addCommand(peersCommand()).addCommand(pingCommand()).addCommand(sendCommand());
  program.addCommand(channelCommand()).addCommand(eventsCommand()).addCommand(metricsCommand());
  program.addCommand(drainCommand()).addCommand(undrainCommand());
  program.addCommand(operatorCommand()).addCommand(sessionCommand());
  program.addCommand(joinCommand()).addCommand(tokenCommand()).addCommand(renewCommand()).addCommand(appCommand());
  program.addCommand(nodeCommand()).addCommand(trustCommand()).addCommand(auditCommand()).addCommand(storeCommand());
  program.addCommand(preflightCommand()).addCommand(hostCommand()).addCommand(callHomeCertCommand()).addCommand(platformCommand());
  for (const command of resourceCommands()) program.addCommand(command);
  program.addCommand(await heavyCommand('tower', 'the control plane of a cluster: init, run, backup, restore', first));
  program.addCommand(await heavyCommand('netcheck', 'does UDP (QUIC), does TCP pass to the tower, and do the clocks agree', first));
  program.addCommand(await heavyCommand('doctor', 'look at clock, ports, certificates, store and versions of this host, and say what to do', first));
  program.addCommand(labCommand()).addCommand(versionCommand());
  for (const command of everyCommand(program)) command.exitOverride().showHelpAfterError('(--help tells what there is)');
  return program;
}

/** Commands that load the tower or the transports do so only when they are the ones asked for. */
async function heavyCommand(name: 'tower' | 'netcheck' | 'doctor', description: string, first: string | undefined): Promise<Command> {
  if (first !== name) return new Command(name).description(description);
  if (name === 'tower') return (await import('./tower.ts')).towerCommand();
  return name === 'netcheck' ? (await import('../cli/netcheck.ts')).netcheckCommand() : (await import('../cli/doctor.ts')).doctorCommand();
}

function versionCommand(): Command {
  return new Command('version')
    .description('the version of this program')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge version --json')
    .action(({ json }: { readonly json?: boolean }) => {
      if (json) printJson({ version: PROGRAM_VERSION, node: process.versions.node, platform: process.platform, arch: process.arch });
      else printLine(`selvedge ${PROGRAM_VERSION} (Node ${process.versions.node}, ${process.platform} ${process.arch})`);
    });
}

function* everyCommand(command: Command): Generator<Command> {
  yield command;
  for (const child of command.commands) yield* everyCommand(child);
}
