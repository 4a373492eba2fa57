/** `selvedge doctor`: looks at everything on this host that keeps a node or tower from working, and says what to do. Loaded only when it is asked for. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { limits } from '../../src/base/limits.ts';
import type { UnsealSource } from '../../src/identity/unseal.ts';
import { TUNNEL_PROGRAM } from '../../src/node/app.ts';
import { examine, type Finding } from '../../src/node/doctor/finding.ts';
import { checksOf, type HostRole, roleIn } from '../../src/node/doctor/host.ts';
import { systemClock } from '../../src/transport/system.ts';
import { applyConfig, NodeConfig, TowerConfig } from '../config.ts';
import { DEFAULT_NODE_STATE, DEFAULT_TOWER_STATE, descriptor, duration, integer } from './arguments.ts';
import { exitCodes, printable, printJson, printLine } from './output.ts';

interface Flags extends UnsealSource {
  readonly state?: string;
  readonly config?: string;
  readonly listen?: string;
  readonly port?: number;
  readonly udpPort?: number;
  readonly wait?: number;
  readonly json?: boolean;
}

const WAIT_MS = 3_000;
const DEFAULT_PORT = 443;
const port = (name: string) => integer(name, 1, 65_535);

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('look at clock, ports, certificates, store and versions of this host, and say what to do')
    .option('--state <dir>', `state directory of the node or tower (default: ${DEFAULT_NODE_STATE}, else ${DEFAULT_TOWER_STATE})`)
    .option('--config <file>', 'configuration file of its daemon: where it is to listen, and its key')
    .option('--listen <address>', 'address on which its daemon is to listen, where it does not run')
    .option('--port <port>', `its TCP port, and UDP port unless --udp-port is given (default: ${DEFAULT_PORT})`, port('port'))
    .option('--udp-port <port>', 'its UDP port', port('udp-port'))
    .option('--key-file <file>', 'key file that unseals the store')
    .option('--passphrase-file <file>', 'file with the passphrase of the store', process.env.SELVEDGE_PASSPHRASE_FILE)
    .option('--passphrase-fd <number>', 'descriptor with the passphrase of the store', descriptor)
    .option('--wait <time>', 'how long to wait for each answer over the network (default: 3s)', duration('wait'))
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
It changes nothing, and asks for no passphrase. Exit code ${exitCodes.failed} if anything is a fault; a warning is none.

Examples:
  selvedge doctor
  selvedge doctor --state /var/lib/selvedge/tower --config /etc/selvedge/tower.yaml --json`,
    )
    .action(doctor);
}

async function doctor(given: Flags, command: Command): Promise<void> {
  const state = stateOf(given);
  const role = roleIn(state);
  await applyConfig(command, given.config, role === 'tower' ? TowerConfig : NodeConfig);
  const { json, wait = WAIT_MS, ...flags } = command.opts<Flags>();
  const { keyFile, passphraseFile, passphraseFd } = flags;
  const source = {
    ...(keyFile !== undefined && { keyFile }),
    ...(passphraseFile !== undefined && { passphraseFile }),
    ...(passphraseFd !== undefined && { passphraseFd }),
  };
  const checks = await checksOf({ state, source, listen: listenOf(role, flags), clock: systemClock, tunnelProgram: TUNNEL_PROGRAM, wait_ms: wait });
  const findings = await examine(checks, limits.doctor_check_ms_max + wait);
  const faults = findings.filter(({ verdict }) => verdict === 'fault').length;
  const warnings = findings.filter(({ verdict }) => verdict === 'warning').length;
  if (json) printJson({ state, role, faults, warnings, findings });
  else {
    for (const finding of findings) print(finding);
    printLine(`${findings.length} things looked at: ${faults} at fault, ${warnings} to look after`);
  }
  if (faults > 0) process.exitCode = exitCodes.failed;
}

function print({ check, verdict, found, expected, remedy }: Finding): void {
  printLine(`${verdict.padEnd(7)}  ${check}: ${printable(found)}`);
  if (verdict !== 'ok') printLine(`         expected: ${printable(expected)}\n         ${printable(remedy ?? '')}`);
}

function stateOf({ state, config }: Flags): string {
  if (state !== undefined) return resolve(state);
  const hasNode = roleIn(DEFAULT_NODE_STATE) === 'node';
  return hasNode || (config === undefined && roleIn(DEFAULT_TOWER_STATE) === 'none') ? DEFAULT_NODE_STATE : DEFAULT_TOWER_STATE;
}

/** A tower listens everywhere unless told; a node nowhere. */
function listenOf(role: HostRole, { listen, port: tcp = DEFAULT_PORT, udpPort }: Flags) {
  const host = listen ?? (role === 'tower' ? '::' : undefined);
  return host === undefined ? null : { host, tcp, udp: udpPort ?? tcp };
}
