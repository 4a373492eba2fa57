/** `selvedge metrics`, `events` and `channel show`: what a running daemon sees of itself. */
import { Command } from 'commander';
import { callControl, type Json, streamControl } from '../../src/node/control-client.ts';
import { facts, flag, list, maybe, number, shape, text, whole } from './answers.ts';
import { integer, nodeWord, socketOf, type SocketFlags, withSocket } from './arguments.ts';
import { interruption, Interrupted } from './mesh.ts';
import { formatBytes, formatMs, formatSeconds, printable, printJson, printLine, printTable } from './output.ts';

interface Flags extends SocketFlags {
  readonly json?: boolean;
}

const readMetrics = whole(shape({ text, metrics: list(shape({ name: text, type: text, help: text, values: list(shape({ labels: facts, value: number })) })) }));

export function metricsCommand(): Command {
  return withSocket(new Command('metrics').description('the metrics of this daemon, in the text format of Prometheus'))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  selvedge metrics\n  selvedge metrics --state /var/lib/selvedge/tower --json')
    .action(async (flags: Flags) => {
      const { metrics, text } = readMetrics(await callControl({ socketPath: socketOf(flags), method: 'GET', path: '/v1/metrics' }));
      if (flags.json) printJson({ metrics });
      else process.stdout.write(text);
    });
}

interface EventsFlags extends Flags {
  readonly follow?: boolean;
  readonly since?: number;
}

export function eventsCommand(): Command {
  return withSocket(new Command('events').description('what has happened here lately, oldest first'))
    .option('--follow', 'go on with what happens, until Ctrl-C')
    .option('--since <n>', 'only what came after the event of this number', integer('since', 0, Number.MAX_SAFE_INTEGER))
    .option('--json', 'print JSON: a line for each event, as the log has it')
    .addHelpText('after', '\nExamples:\n  selvedge events --follow\n  selvedge events --since 120 --json')
    .action(events);
}

async function events({ follow = false, since = 0, json, ...flags }: EventsFlags): Promise<void> {
  const call = { socketPath: socketOf(flags), method: 'POST', path: '/v1/events', body: { follow, since }, signal: interruption().signal } as const;
  try {
    for await (const answer of streamControl(call)) {
      const { done, missed } = answer;
      if (done !== true) {
        if (json) printJson(answer);
        else printLine(inWords(answer));
      } else if (json) printJson(answer);
      else if (typeof missed === 'number' && missed > 0) printLine(`${missed} earlier ones are not kept any more`);
    }
  } catch (error) {
    // Following ends by being interrupted: that is no failure.
    if (!(error instanceof Interrupted && follow)) throw error;
  }
}

const readEvent = whole(shape({ sequence: number, at_ms: number, kind: text, msg: text }));

function inWords(event: Json): string {
  const { sequence, at_ms, kind, msg } = readEvent(event);
  const rest = Object.entries(event).filter(([name, value]) => !(name in { sequence, at_ms, kind, msg }) && value !== null);
  return printable([`${sequence}`, new Date(at_ms).toISOString(), kind, msg, ...rest.map(([name, value]) => `${name}=${JSON.stringify(value)}`)].join('  '));
}

const readDetail = whole(
  shape({
    peer: text,
    name: text,
    site: text,
    side: text,
    state: text,
    since_ms: maybe(number),
    suspect: flag,
    transport: maybe(text),
    why: text,
    remote: maybe(text),
    rtt_ms: maybe(number),
    rtt_min_ms: maybe(number),
    loss_part: maybe(number),
    mtu_bytes: maybe(number),
    heartbeat_rtt_ms: maybe(number),
    heartbeat_jitter_ms: maybe(number),
    heartbeat_loss_part: maybe(number),
    reconnects: number,
    last_error: maybe(shape({ code: text, message: text })),
    governor: maybe(facts),
    class_bytes: list(shape({ class: text, sent: number, received: number })),
    flows_open: number,
    flows: list(
      shape({ id: number, class: text, kind: text, service: text, opened_by: text, bytes_sent: number, bytes_received: number, unacknowledged_bytes: number }),
    ),
    certificate: maybe(shape({ serial: text, fingerprint: text, not_before_ms: number, not_after_ms: number })),
    draining: shape({ self: flag, peer: flag }),
    stale_frames_dropped: number,
    versions: shape({ directory: number, trust: number, routes: number }),
    backoff: maybe(shape({ attempts: number, next_ms: maybe(number) })),
    failures: list(facts),
  }),
);
type Detail = ReturnType<typeof readDetail>;

export function channelCommand(): Command {
  const command = new Command('channel').description('the channel with one peer').addHelpText('after', '\nExample:\n  selvedge channel show tower');
  withSocket(command.command('show').description('all that is known of the channel with a peer').argument('<peer>', "the peer's name or id", nodeWord))
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExamples:\n  selvedge channel show tower\n  selvedge channel show till-1 --json')
    .action(async (peer: string, flags: Flags) => {
      const answer = await callControl({ socketPath: socketOf(flags), method: 'GET', path: `/v1/channels/${encodeURIComponent(peer)}` });
      const detail = readDetail(answer);
      if (flags.json) printJson(answer);
      else printDetail(detail);
    });
  return command;
}

function printDetail(detail: Detail): void {
  for (const [label, words] of linesOf(detail)) printLine(`${`${label}:`.padEnd(14)}${printable(words)}`);
  if (detail.class_bytes.length > 0) {
    printLine();
    printTable(
      ['CLASS', 'SENT', 'RECEIVED'],
      detail.class_bytes.map((row) => [row.class, formatBytes(row.sent), formatBytes(row.received)]),
    );
  }
  if (detail.flows.length === 0) return;
  printLine();
  printTable(
    ['FLOW', 'CLASS', 'KIND', 'SERVICE', 'OPENED BY', 'SENT', 'RECEIVED', 'UNACKNOWLEDGED'],
    detail.flows.map((flow) => [
      String(flow.id),
      flow.class,
      flow.kind,
      printable(flow.service),
      flow.opened_by,
      ...[flow.bytes_sent, flow.bytes_received, flow.unacknowledged_bytes].map(formatBytes),
    ]),
  );
  if (detail.flows_open > detail.flows.length) printLine(`and ${detail.flows_open - detail.flows.length} more flows`);
}

function* linesOf(detail: Detail): Generator<readonly [string, string]> {
  const { since_ms, transport, last_error, certificate, draining, versions, backoff, governor } = detail;
  yield ['peer', `${detail.name}.${detail.site} (${detail.peer}), ${detail.side === 'dialer' ? 'dialed from here' : 'dialed from there'}`];
  const lasting = since_ms === null ? '' : ` since ${new Date(since_ms).toISOString()} (${formatSeconds(Math.max(0, Date.now() - since_ms) / 1_000)})`;
  yield ['state', `${detail.state}${detail.suspect ? ', suspect' : ''}${lasting}`];
  yield ['path', transport === null ? `none: ${detail.why}` : `${transport} to ${detail.remote ?? '-'}, because: ${detail.why}`];
  yield [
    'session',
    `round trip ${formatMs(detail.rtt_ms)}, least ${formatMs(detail.rtt_min_ms)}, loss ${percent(detail.loss_part)}, MTU ${detail.mtu_bytes ?? '-'}`,
  ];
  const loss = percent(detail.heartbeat_loss_part);
  yield ['heartbeat', `round trip ${formatMs(detail.heartbeat_rtt_ms)}, jitter ${formatMs(detail.heartbeat_jitter_ms)}, loss ${loss}`];
  yield ['reconnects', String(detail.reconnects)];
  if (governor !== null) yield ['governor', JSON.stringify(governor)];
  if (certificate !== null)
    yield ['certificate', `serial ${certificate.serial}, until ${new Date(certificate.not_after_ms).toISOString()}, ${certificate.fingerprint}`];
  yield ['versions', `directory ${versions.directory}, trust ${versions.trust}, policy ${versions.routes}`];
  if (draining.self || draining.peer) yield ['draining', [draining.self && 'this end', draining.peer && 'the peer'].filter(Boolean).join(' and ')];
  if (detail.stale_frames_dropped > 0) yield ['stale frames', `${detail.stale_frames_dropped} dropped`];
  if (backoff !== null) yield ['backoff', `${backoff.attempts} failed attempts${backoff.next_ms === null ? '' : `, the next in ${formatMs(backoff.next_ms)}`}`];
  if (last_error !== null) yield ['last error', `${last_error.message} [${last_error.code}]`];
  for (const { at_ms, msg, code, reason } of detail.failures) yield ['failure', `${new Date(Number(at_ms)).toISOString()} ${msg}: ${reason ?? ''} [${code}]`];
}

function percent(part: number | null): string {
  return part === null ? '-' : `${(part * 100).toFixed(1)} %`;
}
