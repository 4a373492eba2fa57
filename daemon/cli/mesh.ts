/** `selvedge status`, `peers`, `ping`, `send`: what a running daemon is asked over its socket. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { type TrafficClass, trafficClassNames } from '../../src/channel/classes.ts';
import { type ControlCall, callControl, streamControl } from '../../src/node/control-client.ts';
import { printAppStatus } from './app-status.ts';
import { readApp } from './answers-app.ts';
import { drainInWords } from './drain-words.ts';
import { type Channel, readChannels, readPeers, readProgress, readSample, readSent, readSummary } from './answers.ts';
import { duration, integer, remoteOf, socketOf, type TowerFlags, trafficClass, withRemote, withSocket } from './arguments.ts';
import { exitCodes, formatBytes, formatMs, formatSeconds, printable, printJson, printLine, printTable } from './output.ts';

interface Flags extends TowerFlags {
  readonly json?: boolean;
}

interface PingFlags extends Flags {
  readonly class: TrafficClass;
  readonly count?: number;
  readonly interval: number;
  readonly size: number;
  readonly follow?: boolean;
}

interface SendFlags extends Flags {
  readonly class: TrafficClass;
  readonly patience?: number;
}

const PING_COUNT = 5;
const PATIENCE_MS = 300_000;
const CLASS_HELP = `class of traffic, one of ${trafficClassNames.join(', ')}`;

export function statusCommand(): Command {
  return withRemote(withSocket(new Command('status').description('the channels of this host, one a line, and its app networks')))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  selvedge status\n  selvedge status --state /var/lib/selvedge/tower --json')
    .action(async (flags: Flags) => {
      const { self, channels, drain } = readChannels(await callControl(get(flags, '/v1/channels')));
      // Only a node has app networks; the tower tells of all of them elsewhere.
      const { app } = self.role === 'node' ? readApp(await callControl(get(flags, '/v1/app'))) : { app: null };
      if (flags.json) {
        printJson({ self, channels, app, drain });
        return;
      }
      printSelf(self);
      if (drain !== null && drain.state !== 'none') printLine(drainInWords(drain));
      if (channels.length === 0) printLine('no channels: nobody to talk to yet');
      else printTable(statusHeads, channels.map(statusRow));
      if (app !== null) printAppStatus(app);
    });
}

/** Who this daemon is; of its snapshot only that it is too old, which is worth a line. */
function printSelf({
  snapshot_expires_ms,
  snapshot_is_expired,
  certificate_not_after_ms,
  certificate_renew_ms: _due,
  certificate_renew_error,
  certificate_warning,
  ...self
}: Readonly<Record<string, unknown>>): void {
  const words = Object.entries(self)
    .filter(([, value]) => value !== null)
    .map(([key, value]) => `${key} ${value}`);
  printLine(printable(words.join('  ')));
  if (typeof certificate_warning === 'string') printLine(`warning: ${printable(certificate_warning)} (docs/certificates.md)`);
  if (certificate_renew_error !== null && certificate_renew_error !== undefined)
    printLine(
      `the certificate ends at ${utc(certificate_not_after_ms)} and could not be renewed [${printable(String(certificate_renew_error))}]; tried again by itself`,
    );
  if (snapshot_is_expired !== true) return;
  printLine(`snapshot expired at ${utc(snapshot_expires_ms)}: channels go on, no new one begins with a peer until the tower is reached`);
}

function utc(ms: unknown): string {
  return new Date(Number(ms)).toUTCString();
}

const statusHeads = ['PEER', 'STATE', 'TRANSPORT', 'RTT', 'SENT', 'RECEIVED', 'CERTIFICATE', 'CLASSES IN USE'];

function statusRow(channel: Channel): string[] {
  const { name, peer, site, state, suspect, transport, why, rtt_ms, classes, bytes_sent, bytes_received, certificate_days } = channel;
  const carried = transport === null ? `- (${why})` : `${transport}${why === '' || why === transport ? '' : ` (${why})`}`;
  return [
    printable(name === peer ? name : `${name}.${site} (${peer})`),
    suspect ? `${state}, suspect` : state,
    printable(carried),
    formatMs(rtt_ms),
    formatBytes(bytes_sent),
    formatBytes(bytes_received),
    certificate_days === null ? '-' : `${Math.floor(certificate_days)} days`,
    classes.join(' ') || '-',
  ];
}

export function peersCommand(): Command {
  return withRemote(withSocket(new Command('peers').description('the nodes that this host may talk to')))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  selvedge peers --state /var/lib/selvedge/node')
    .action(async (flags: Flags) => {
      const { peers } = readPeers(await callControl(get(flags, '/v1/peers')));
      if (flags.json) printJson({ peers });
      else
        printTable(
          ['NAME', 'SITE', 'ID', 'STATE', 'ADDRESS'],
          peers.map(({ name, site, peer, state, remote }) => [printable(name), site, peer, state, remote ?? '-']),
        );
    });
}

export function pingCommand(): Command {
  return withRemote(withSocket(new Command('ping').description('time round trips through the channel to a node').argument('<node>', 'name or id')))
    .option('--class <class>', CLASS_HELP, trafficClass, 'input')
    .option('--count <n>', `how many (default: ${PING_COUNT}, with --follow until Ctrl-C)`, integer('count', 1, 1_000_000))
    .option('--interval <ms>', 'milliseconds between two', integer('interval', 1, 3_600_000), 1_000)
    .option('--size <bytes>', 'size of each message', integer('size', 12, 1_048_576), 64)
    .option('--follow', 'print each answer as it comes')
    .option('--json', 'print JSON; with --follow a line for each answer')
    .addHelpText('after', '\nExamples:\n  selvedge ping tower\n  selvedge ping b --class input --count 100 --interval 20 --json')
    .action(ping);
}

async function ping(node: string, flags: PingFlags): Promise<void> {
  const { class: cls, interval: interval_ms, size: size_bytes, follow = false, json = false } = flags;
  const count = flags.count ?? (follow ? undefined : PING_COUNT);
  const body = { node, class: cls, interval_ms, size_bytes, ...(count !== undefined && { count }) };
  const answers = streamControl({ ...post(flags, '/v1/ping', body), signal: interruption().signal });
  for await (const answer of answers) {
    if (answer.done === true) {
      printSummary(node, cls, readSummary(answer), json, follow);
      continue;
    }
    const { sequence, rtt_ms, at_ms } = readSample(answer);
    if (json && follow) printJson({ sequence, rtt_ms, at_ms });
    else if (!json) printLine(`answer ${sequence + 1} from ${node}: ${formatMs(rtt_ms)}`);
  }
}

function printSummary(node: string, cls: string, summary: ReturnType<typeof readSummary>, json: boolean, follow: boolean): void {
  const { sent, received, samples_ms, min_ms, p50_ms, p99_ms, max_ms } = summary;
  if (json) printJson({ node, class: cls, sent, received, ...(!follow && { samples_ms }), min_ms, p50_ms, p99_ms, max_ms });
  else printLine(`${received} of ${sent} answered; min ${formatMs(min_ms)}, p50 ${formatMs(p50_ms)}, p99 ${formatMs(p99_ms)}, max ${formatMs(max_ms)}`);
  if (received < sent) process.exitCode = exitCodes.failed;
}

export function sendCommand(): Command {
  return withSocket(
    new Command('send').description("send a file into a node's inbox").argument('<file>', 'a file on this host').argument('<node>', 'name or id'),
  )
    .option('--class <class>', CLASS_HELP, trafficClass, 'file_transfer')
    .option('--patience <time>', 'how long to wait without progress before giving up (default: 5m)', duration('patience'))
    .option('--json', 'print JSON: a line for each progress, then the result')
    .addHelpText('after', '\nAn interrupted transfer goes on where it was when the same command is given again.\n\nExample:\n  selvedge send image.tar tower')
    .action(send);
}

async function send(file: string, node: string, flags: SendFlags): Promise<void> {
  const body = { node, path: resolve(file), class: flags.class, patience_ms: flags.patience ?? PATIENCE_MS };
  const line = new ProgressLine(file, flags.json === true);
  try {
    for await (const answer of streamControl({ ...post(flags, '/v1/send', body), signal: interruption().signal })) {
      if (answer.done !== true) {
        line.show(readProgress(answer));
        continue;
      }
      line.clear();
      const result = readSent(answer);
      if (flags.json) printJson({ done: true, ...result });
      else
        printLine(
          `${file} is at ${node} as ${printable(result.name)}: ${formatBytes(result.bytes)} in ${formatSeconds(result.seconds)}, ${result.mbit.toFixed(1)} Mbit/s\nsha256 ${result.sha256}`,
        );
    }
  } catch (error) {
    line.clear();
    if (error instanceof Interrupted && !flags.json) process.stderr.write('interrupted; the same command goes on where this one ended\n');
    throw error;
  } finally {
    line.clear();
  }
}

/** One line, rewritten, on a terminal; nothing elsewhere; JSON lines where they were asked for. */
class ProgressLine {
  readonly #file: string;
  readonly #json: boolean;
  #isShown = false;

  constructor(file: string, json: boolean) {
    this.#file = file;
    this.#json = json;
  }

  show(progress: ReturnType<typeof readProgress>): void {
    const { bytes, total, rate_mbit, transport, left_s, at_ms } = progress;
    if (this.#json) printJson({ bytes, total, rate_mbit, transport, left_s, at_ms });
    else if (process.stdout.isTTY) {
      const part = total === 0 ? 100 : Math.floor((bytes / total) * 100);
      const left = transport === null ? 'waiting for a channel' : `${transport}  ${left_s === null ? '' : `${formatSeconds(left_s)} left`}`;
      process.stdout.write(`\r\x1b[2K${this.#file}  ${part} %  ${formatBytes(bytes)} of ${formatBytes(total)}  ${rate_mbit.toFixed(1)} Mbit/s  ${left}`);
      this.#isShown = true;
    }
  }

  clear(): void {
    if (this.#isShown) process.stdout.write('\r\x1b[2K');
    this.#isShown = false;
  }
}

function get(flags: TowerFlags, path: string): ControlCall {
  return { ...placeOf(flags), method: 'GET', path };
}

function post(flags: TowerFlags, path: string, body: Record<string, unknown>): ControlCall {
  return { ...placeOf(flags), method: 'POST', path, body };
}

/** The daemon of this host, or a tower elsewhere. */
function placeOf(flags: TowerFlags): Pick<ControlCall, 'socketPath' | 'remote'> {
  return remoteOf(flags) ?? { socketPath: socketOf(flags) };
}

/** Ctrl-C ends the request, which ends the work at the daemon. */
export function interruption(): AbortController {
  const controller = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => controller.abort(new Interrupted()));
  return controller;
}

/** SIGINT or SIGTERM ended the command. */
export class Interrupted extends Error {}
