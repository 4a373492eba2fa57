/** `selvedge app connect`, `disconnect`, `ping`, `rotate-key`: what a node is asked about the app networks that it is a member of. */
import type { Command } from 'commander';
import { callControl, type ControlCall, streamControl } from '../../src/node/control-client.ts';
import { readSummary } from './answers.ts';
import { readConnected, readEcho } from './answers-app.ts';
import { integer, type SocketFlags, socketOf, withSocket } from './arguments.ts';
import { interruption } from './mesh.ts';
import { exitCodes, formatMs, printable, printJson, printLine } from './output.ts';

interface Flags extends SocketFlags {
  readonly json?: boolean;
}

interface ConnectFlags extends Flags {
  readonly name?: string;
  readonly interface?: string;
}

interface PingFlags extends Flags {
  readonly count?: number;
  readonly interval: number;
  readonly size: number;
  readonly follow?: boolean;
}

const PING_COUNT = 5;

export function addNodeAppCommands(app: Command): void {
  withSocket(app.command('connect').description('put a network namespace or container of this host on an app network'))
    .argument('<network>', 'name of the app network; this node must be a member')
    .argument('<namespace>', 'name of `ip netns`, path of a namespace, or number of a process in it')
    .option('--name <name>', 'what the place is called (default: after the namespace)')
    .option('--interface <name>', 'name of the interface inside (default: the network, and 0)')
    .option('--json', 'print JSON')
    .addHelpText('after', "\nExamples:\n  selvedge app connect shop web\n  selvedge app connect shop $(podman inspect -f '{{.State.Pid}}' web) --name web")
    .action(connect);
  withSocket(app.command('disconnect').description('take a namespace off an app network').argument('<network>').argument('<name>', 'as `connect` said'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge app disconnect shop web')
    .action(async (network: string, name: string, flags: Flags) => {
      await callControl(post(flags, '/v1/app/disconnect', { network, name }));
      if (flags.json) printJson({ network, name });
      else printLine(`${name} is no more on ${network}`);
    });
  withSocket(
    app.command('ping').description('time echoes through an app network').argument('<network>').argument('<target>', 'a member, MEMBER/PLACE, or an address'),
  )
    .option('--count <n>', `how many (default: ${PING_COUNT}, with --follow until Ctrl-C)`, integer('count', 1, 1_000_000))
    .option('--interval <ms>', 'milliseconds between two', integer('interval', 1, 3_600_000), 1_000)
    .option('--size <bytes>', 'octets of each echo', integer('size', 0, 65_000), 56)
    .option('--follow', 'print each answer as it comes')
    .option('--json', 'print JSON; with --follow a line for each answer')
    .addHelpText('after', '\nExamples:\n  selvedge app ping shop b\n  selvedge app ping shop 10.9.0.5 --count 100 --interval 10 --json')
    .action(ping);
  withSocket(app.command('rotate-key').description('give this host another WireGuard key; nothing is interrupted'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge app rotate-key')
    .action(async (flags: Flags) => {
      await callControl(post(flags, '/v1/app/rotate-key', {}));
      if (flags.json) printJson({ done: true });
      else printLine('a new key is made and published; the old one goes when nobody uses it any more');
    });
}

async function connect(network: string, namespace: string, flags: ConnectFlags): Promise<void> {
  const { name, interface: interfaceName } = flags;
  const body = { network, namespace, ...(name !== undefined && { name }), ...(interfaceName !== undefined && { interface: interfaceName }) };
  const connected = readConnected(await callControl(post(flags, '/v1/app/connect', body)));
  if (flags.json) printJson(connected);
  else {
    const addresses = [connected.address4, connected.address6].filter((address) => address !== null).join(' and ');
    printLine(printable(`${connected.name} is on ${network}: ${connected.interface} has ${addresses}`));
  }
}

async function ping(network: string, target: string, flags: PingFlags): Promise<void> {
  const { interval: interval_ms, size: size_bytes, follow = false, json = false } = flags;
  const count = flags.count ?? (follow ? undefined : PING_COUNT);
  const body = { network, target, interval_ms, size_bytes, ...(count !== undefined && { count }) };
  for await (const answer of streamControl({ ...post(flags, '/v1/app/ping', body), signal: interruption().signal })) {
    if (answer.done === true) {
      const { sent, received, samples_ms, min_ms, p50_ms, p99_ms, max_ms } = readSummary(answer);
      if (json) printJson({ network, target, sent, received, ...(!follow && { samples_ms }), min_ms, p50_ms, p99_ms, max_ms });
      else printLine(`${received} of ${sent} answered; min ${formatMs(min_ms)}, p50 ${formatMs(p50_ms)}, p99 ${formatMs(p99_ms)}, max ${formatMs(max_ms)}`);
      if (received < sent) process.exitCode = exitCodes.failed;
      continue;
    }
    const { sequence, rtt_ms, at_ms } = readEcho(answer);
    if (json && follow) printJson({ sequence, rtt_ms, at_ms });
    else if (!json) printLine(`echo ${sequence + 1} from ${target}: ${rtt_ms === null ? 'no answer' : formatMs(rtt_ms)}`);
  }
}

function post(flags: SocketFlags, path: string, body: Record<string, unknown>): ControlCall {
  return { socketPath: socketOf(flags), needs: 'node', method: 'POST', path, body };
}
