/**
 * `selvedge netcheck`: does TCP pass to the tower, does UDP, how far apart are the clocks; and if not, why. It needs no identity (src/node/tower-probe.ts).
 */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { SelvedgeError } from '../../src/base/errors.ts';
import { readIdentity } from '../../src/enroll/state.ts';
import type { Endpoint } from '../../src/enroll/wire.ts';
import { clockDifference_s, probeTower, type Reach } from '../../src/node/tower-probe.ts';
import { systemClock } from '../../src/transport/system.ts';
import { address, DEFAULT_NODE_STATE, duration } from './arguments.ts';
import { exitCodes, formatMs, printJson, printLine } from './output.ts';

interface Flags {
  readonly tower?: string;
  readonly state: string;
  readonly wait?: number;
  readonly json?: boolean;
}

const WAIT_MS = 3_000;

export function netcheckCommand(): Command {
  return new Command('netcheck')
    .description('does UDP (QUIC), does TCP pass to the tower, and do the clocks agree')
    .option('--tower <address>', 'HOST or HOST:PORT (default: where this node joined)')
    .option('--state <dir>', 'state directory of the node', DEFAULT_NODE_STATE)
    .option('--wait <time>', 'how long to wait for each answer (default: 3s)', duration('wait'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge netcheck --tower 203.0.113.5')
    .action(netcheck);
}

async function netcheck(flags: Flags): Promise<void> {
  const target = await findTarget(flags);
  const wait_ms = flags.wait ?? WAIT_MS;
  const [{ quic: udp, tcp }, clock] = await Promise.all([probeTower(target, wait_ms), clockDifference_s(target, systemClock, wait_ms)]);
  const uses = udp.passes ? 'quic' : tcp.passes ? 'tcp' : null;
  if (flags.json) printJson({ tower: target, quic: udp, tcp, clock_difference_s: clock, uses });
  else {
    printLine(`tower ${target.host}, TCP ${target.tcp}, UDP ${target.udp ?? 'none'}`);
    printLine(`  QUIC over UDP  ${describe(udp)}`);
    printLine(`  TLS over TCP   ${describe(tcp)}`);
    printLine(
      `  clock          ${clock === null ? 'unknown: the tower did not answer over HTTPS' : Math.abs(clock) <= 1 ? 'the same, to a second' : `${Math.abs(clock)} s ${clock > 0 ? 'behind' : 'ahead of'} the tower's`}`,
    );
    printLine(
      uses === null ? 'a node here cannot reach the tower' : `a node here will use ${uses}${uses === 'tcp' ? ', and move to QUIC when UDP passes' : ''}`,
    );
  }
  if (uses === null) process.exitCode = exitCodes.failed;
}

async function findTarget({ tower, state }: Flags): Promise<Endpoint> {
  if (tower !== undefined) {
    const { host, port } = address(tower);
    return { host, tcp: port, udp: port };
  }
  const identity = await readIdentity(resolve(state));
  if (identity === null) throw new SelvedgeError('not_enrolled', { path: state });
  return identity.tower;
}

function describe({ passes, ms, why, code }: Reach): string {
  return passes ? `passes, handshake in ${formatMs(ms)}` : `does not pass: ${why} [${code}]`;
}
