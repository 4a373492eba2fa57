/** Writes docs/classes.md from the table of classes: `npx node scripts/classes-docs.ts`. A test holds the two together. */
import { writeFileSync } from 'node:fs';
import { limits } from '../src/base/limits.ts';
import { type ClassRow, classRow, type FlowKind, type TrafficClass, trafficClassNames } from '../src/channel/classes.ts';

export const classesPath = new URL('../docs/classes.md', import.meta.url);

const KIB = 1024;
const MIB = 1024 * KIB;

const head = `# Classes and scheduling

Whoever opens a flow says its class and its kind; both ends judge it by policy ([resources.md](resources.md)). The class decides who goes first, the kind what arrives. There are eleven classes, and this is how each is treated:

| class | kinds | order | weight | lane | heartbeats |
|---|---|---|---|---|---|
`;

const kinds: Record<FlowKind, { readonly what: string; readonly bound: string; readonly full: string }> = {
  stream: {
    what: 'octets, all of them, in order',
    bound: `${sizeOf(limits.flow_send_queue_bytes_max)} wait to leave; ${sizeOf(limits.flow_window_bytes_initial)} to ${sizeOf(limits.flow_window_bytes_max)} of credit, as the path needs`,
    full: 'the writer waits',
  },
  messages: {
    what: `whole messages of up to ${sizeOf(limits.message_bytes_max)}, all of them, in order`,
    bound: 'as a stream',
    full: 'the writer waits',
  },
  latest: {
    what: `frames of up to ${sizeOf(limits.latest_frame_bytes_max)}, the newest`,
    bound: 'the frame that has begun to leave, and one behind it; the newest whole one at the receiver',
    full: 'the older frame that has not begun to leave, or that nobody has read, is dropped and counted',
  },
  datagrams: {
    what: `datagrams of up to ${sizeOf(limits.datagram_bytes_max)}, those that get through`,
    bound: `${sizeOf(limits.flow_datagram_queue_bytes_max)}, each way`,
    full: 'the newest is dropped and counted',
  },
};

const tail = `
Classes beside each other (\`src/channel/scheduler.ts\`):

1. **Order.** A flow of *first* leaves before one of *then*, and that before all others, chunk by chunk (up to ${sizeOf(limits.chunk_bytes_max)}, and smaller the slower the path is). A transport that has priorities of its own (QUIC's streams) is told the same.
2. **Weight.** The others share what is left by weight, counted in octets: a class that was idle has saved nothing, and flows of one class take turns.
3. **Nobody starves.** Of 17 octets of which 16 passed over what waits in a later order, one is that one's. What waits for its lane is not forgotten because the other lane is busy.
4. **A slow reader stalls its own flow.** Each flow has its own credit, and all of a channel together at most ${sizeOf(limits.channel_window_bytes_extra_max)} beyond the first.

The lane *bulk* is a TCP connection of its own; on QUIC every flow is a stream of its own anyway. While a flow of class ${interactive()} is open, and for 5 s afterwards, **the governor** paces what is on this lane,
\`vpn_packet\` too: it leaves as fast as the path carries it and no faster, so that the network's queue, which no scheduler can reorder, stays a millisecond or two long. Beside another's traffic that fills the queue bulk gives way, and keeps
a floor of a twentieth of the best that the path carried lately. When nobody waits, bulk has the line. \`selvedge channel show PEER\` tells what the governor believes of the path; [bench/README.md](../bench/README.md) has what it does on lines from 1 Mbit/s to 1 Gbit/s.

The kinds, and what is bounded:

| kind | what arrives | bound of a flow | when that is full |
|---|---|---|---|
`;

const end = `
Frames of \`latest\` that were dropped are \`stale_frames_dropped\` in \`selvedge channel show PEER --json\`. *Heartbeats* is how often a channel shows that it lives (± ${limits.heartbeat_jitter_part * 100} %): as often as the most pressing of its open flows wants, and every
${limits.heartbeat_ms_active / 1000} s while there is none. Numbers on the wire are in [wire-format.md](wire-format.md).

This page is made from the table of classes (\`src/channel/classes.ts\`) by \`npx node scripts/classes-docs.ts\`.
`;

const orders = { 0: 'first', 1: 'then', 2: 'by weight' } as const satisfies Record<ClassRow['tier'], string>;

const cadences: Record<ClassRow['cadence'], number> = {
  active: limits.heartbeat_ms_active,
  realtime: limits.heartbeat_ms_realtime,
  storage: limits.heartbeat_ms_storage,
};

export function renderClasses(): string {
  const kindRows = Object.entries(kinds).map(([kind, { what, bound, full }]) => `| \`${kind}\` | ${what} | ${bound} | ${full} |`);
  return `${head}${trafficClassNames.map(row).join('\n')}\n${tail}${kindRows.join('\n')}\n${end}`;
}

function row(name: TrafficClass): string {
  const { kinds: own, tier, weight, bulk, cadence } = classRow(name);
  const cells = [
    code(name),
    own.map(code).join(', '),
    orders[tier],
    tier === 2 ? String(weight) : '',
    bulk ? 'bulk, paced' : 'urgent',
    `every ${cadences[cadence] / 1000} s`,
  ];
  return `| ${cells.join(' | ')} |`;
}

function interactive(): string {
  return trafficClassNames
    .filter((name) => classRow(name).interactive)
    .map(code)
    .join(' or ');
}

function code(name: string): string {
  return `\`${name}\``;
}

function sizeOf(bytes: number): string {
  return bytes >= MIB ? `${bytes / MIB} MiB` : bytes >= KIB ? `${bytes / KIB} KiB` : `${bytes} octets`;
}

if (import.meta.main) writeFileSync(classesPath, renderClasses());
