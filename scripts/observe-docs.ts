/** Writes docs/metrics.md and docs/events.md from their tables: `npx node scripts/observe-docs.ts`. A test holds them together. */
import { writeFileSync } from 'node:fs';
import { limits } from '../src/base/limits.ts';
import { type MetricName, metricNames, metricTable } from '../src/observe/metric-table.ts';
import { refusalReasons } from '../src/overlay/tunnel-wire.ts';
import { fields, messages } from '../src/observe/vocabulary.ts';

export const metricsPath = new URL('../docs/metrics.md', import.meta.url);
export const eventsPath = new URL('../docs/events.md', import.meta.url);

const metricsHead = `# Metrics

\`selvedge metrics\` asks the daemon of this host, node or tower, over its local socket, and prints them in the text format of Prometheus; \`--json\` prints JSON. For a scraper the daemon answers
\`GET /metrics\` on a loopback address, once its configuration file has a port for it ([configuration.md](configuration.md)):

\`\`\`yaml
metrics:
  port: 9464
\`\`\`

Other addresses are refused, and so is a request that came by another host name: whoever can ask is on this host. To scrape from elsewhere, let an agent on the host do it.

Everything is looked at when somebody asks. Units are in the names. A label has values of a closed set alone (states, classes, transports, codes, stages, kinds); no node, site or tenant is a
label, so the number of series is bounded whatever peers do. Metrics of app networks alone name networks and nodes, as the tower has them, ${limits.metric_networks_max} and ${limits.metric_peers_max} of them at most; what
is beyond that is summed up under \`_other\`. Counters begin at 0 with the daemon. What happened to which peer is in the events: [events.md](events.md).

| metric | type | labels | meaning |
|---|---|---|---|
`;

const metricsTail = `
\`stage\` says where something failed: while this end dialed (\`dial\`: address, handshake, certificate, authorization), while the other did (\`accept\`), of a session that carried (\`session\`), of the channel as a
whole (\`channel\`), when it was judged again (\`revalidation\`), and of draining, snapshots, certificates, app networks and the store. \`code\` is one of [failure-reasons.md](failure-reasons.md). \`peer\` is \`tower\` or
\`node\`: which kind, never which one. A metric that has nothing to tell is left out.

Of app networks, \`network\` is the name, \`node\` a node's id and \`name\` its name, \`path\` is \`direct\` or \`carried\`. What is dropped to a peer has as \`reason\` \`queue\` (the tunnel's) or \`carry\` (the way through a channel,
bounded by time: [app-networks.md](app-networks.md)); WireGuard's users take both as loss. What a network refuses has one of these: ${refusalReasons.map((reason) => `\`${reason}\``).join(' ')}. Counters of the tunnel
begin at 0 with the tunnel, which may be older than the daemon.

Worth an alert: \`selvedge_certificate_expires_seconds < 7 * 86400\`; on a node, \`selvedge_snapshot_expires_seconds < 6 * 3600\` (the tower has been away for long); \`selvedge_channels{state="degraded"} > 0\`;
\`increase(selvedge_failures_total{stage="revalidation"}[15m]) > 0\`; \`selvedge_peers_waiting > 0\` that stays; of app networks \`selvedge_tunnel_up == 0\` while \`selvedge_app_networks > 0\`, \`increase(selvedge_app_network_refused_total{reason="forged_source"}[15m]) > 0\`, and
\`selvedge_app_peers{path="carried"} > 0\` where UDP should get through.
`;

const eventsHead = `# Events and log fields

The daemons write a line of JSON for each thing that happens to standard output: \`time\`, \`msg\`, and the fields below. The latest ${limits.events_kept_max} are kept in memory as events, which

    selvedge events                    what has happened lately, oldest first
    selvedge events --follow           and what happens, until Ctrl-C
    selvedge events --since 120 --json as JSON lines, after number 120

tell. An event has \`sequence\` (its number since the start of the daemon; none is left out), \`at_ms\` (milliseconds since 1970), \`kind\`, \`msg\` and the same fields as the log line; where it bears a \`code\`, also
\`remedy\`, what to do about it. \`channel state\` is an event alone: the log tells what it led to. A last line of JSON, \`{done, last, missed}\`, tells the newest number and how many were asked for and are not kept
any more. A reader that does not keep up is let go with \`limit_reached\` (\`selvedge_event_followers_dropped_total\` counts them), and asks again with \`--since\`; at most ${limits.event_followers_max} follow at a time.

Fields hold no secret, and at most ${limits.event_field_chars_max} characters.
`;

export function renderMetrics(): string {
  return `${metricsHead}${metricNames.map(metricRow).join('\n')}\n${metricsTail}`;
}

function metricRow(name: MetricName): string {
  const { type, help, labels } = metricTable[name];
  return `| \`${name}\` | ${type} | ${labels.map((label) => `\`${label}\``).join(' ')} | ${help} |`;
}

export function renderEvents(): string {
  const rows: readonly (readonly [string, { readonly kind: string; readonly stage?: string }])[] = Object.entries(messages);
  return [
    eventsHead,
    '## Messages\n',
    '`stage` is where it counts in `selvedge_failures_total` if it bears a code.\n',
    '| msg | kind | stage |',
    '|---|---|---|',
    ...rows.map(([message, { kind, stage = '' }]) => `| ${message} | \`${kind}\` | ${stage} |`),
    '',
    '## Fields\n',
    '| field | meaning |',
    '|---|---|',
    ...Object.entries(fields).map(([name, meaning]) => `| \`${name}\` | ${meaning} |`),
    '',
  ].join('\n');
}

if (import.meta.main) {
  writeFileSync(metricsPath, renderMetrics());
  writeFileSync(eventsPath, renderEvents());
}
