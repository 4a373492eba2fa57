/**
 * `npm run bench:grid`, as root: input beside a file on lines from 1 Mbit/s to 1 Gbit/s, 1 to 300 ms each way, with queues from 10 ms to 1 s and up to 2 % loss, and beside a
 * foreign TCP flow. One run a cell and transport, in a lab of two hosts, with processes of its own: nothing is remembered from the cell before. Prints a table and keeps what
 * each cell gave in bench/results-grid.json, over runs. `--only quic,tcp`, `--cells 1-4,7` (default: all; `--list` names them), `--repeat N`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { goFirst } from '../src/lab/command.ts';
import { Lab } from '../src/lab/lab.ts';
import { percentile } from '../src/lab/measure.ts';
import { hostNamespace } from '../src/lab/plan.ts';
import { parseTopology } from '../src/lab/topology.ts';
import { ARRIVALS_MS, type Beside } from './beside.ts';
import { type Cell, cells, describeCell, isPromised } from './cells.ts';
import { End } from './ends.ts';
import { iperfEnd } from './iperf.ts';
import { makePki } from './pki.ts';
import type { Pki } from './subject.ts';

const { values: options } = parseArgs({
  options: {
    only: { type: 'string', default: 'quic,tcp' },
    cells: { type: 'string', default: `1-${cells.length}` },
    repeat: { type: 'string', default: '1' },
    list: { type: 'boolean', default: false },
  },
});

const RESULTS = fileURLToPath(new URL('results-grid.json', import.meta.url));
const FAR = '203.0.113.2';
const IDLE_MS = 2_000;
const LOADED_MS = 12_000;
/** Of the file's time, at its end: what the share of the line is taken over. What comes before is the start, and is told by itself. */
const SHARE_MS = 6_000;
const END_MS = 500;
const INTERVAL_MS = 20;
const FOREIGN_S = 8;
/** The start is over once half of the line arrives. */
const STARTED_PART = 0.5;

const topology = `name: grid
about: Two hosts and the line between them
hosts:
  near: { interfaces: { line: { on: line, address: 203.0.113.1/24 } } }
  far: { interfaces: { line: { on: line, address: ${FAR}/24 } } }
links:
  line: { ends: [near, far] }
`;

type Transport = 'quic' | 'tcp';

interface Row {
  readonly transport: Transport;
  readonly cell: Cell;
  readonly added_p50_ms: number;
  readonly added_p99_ms: number;
  /** Of the line, payload as it arrived in the last seconds. */
  readonly share_part: number;
  /** From the file's first octet until half of the line arrives; null: never. */
  readonly start_s: number | null;
  readonly foreign_part: number | null;
  /** The lab's own worst delay: a frame handed on so late. */
  readonly late_ms: number;
  readonly dropped_queue: number;
  readonly at: string;
}

function wanted(): Cell[] {
  const numbers = options.cells.split(',').flatMap((part) => {
    const [from = 1, to = from] = part.split('-').map(Number);
    return Array.from({ length: to - from + 1 }, (_, index) => from + index);
  });
  return numbers.map((number) => {
    const cell = cells[number - 1];
    if (cell === undefined) throw new Error(`there is no cell ${number}`);
    return cell;
  });
}

async function measure(lab: Lab, pki: Pki, transport: Transport, cell: Cell): Promise<Row & { readonly raw: Beside; readonly arrivals: readonly number[] }> {
  const link = lab.link('line');
  await link.set({ rate_bps: cell.rate_mbit * 1e6, delay_us: cell.delay_ms * 1_000, queue: { ms: cell.queue_ms }, loss_ppm: cell.loss_part * 1e6 });
  const [acceptor, dialer] = (['far', 'near'] as const).map((host) => new End(['ip', 'netns', 'exec', hostNamespace(lab.run, host)])) as [End, End];
  try {
    goFirst(acceptor);
    goFirst(dialer);
    const { port = 0 } = await acceptor.ask({ do: 'accept', subject: transport, pki, host: FAR });
    await dialer.ask({ do: 'dial', subject: transport, pki, host: FAR, port });
    const before = await link.stats();
    const asked = dialer.ask({ do: 'beside', times: { idle_ms: IDLE_MS, loaded_ms: LOADED_MS, interval_ms: INTERVAL_MS } });
    const foreign = cell.hasForeign ? await foreignFlow(lab) : null;
    const { beside } = await asked;
    const { arrivals = [] } = await acceptor.ask({ do: 'arrivals' });
    const after = await link.stats();
    if (beside === undefined) throw new Error('no answer');
    const line = (cell.rate_mbit * 1e6 * ARRIVALS_MS) / 8_000;
    // The file is given up at the end of its time; what was on its way then arrives or does not.
    const last = Math.min(arrivals.length, LOADED_MS / ARRIVALS_MS) - END_MS / ARRIVALS_MS;
    const shared = arrivals.slice(last - SHARE_MS / ARRIVALS_MS, last);
    return {
      transport,
      cell,
      added_p50_ms: percentile(beside.loaded, 0.5) - percentile(beside.idle, 0.5),
      added_p99_ms: percentile(beside.loaded, 0.99) - percentile(beside.idle, 0.99),
      share_part: sum(shared) / shared.length / line,
      start_s: startOf(arrivals, line),
      foreign_part: foreign === null ? null : foreign / (cell.rate_mbit * 1e6),
      late_ms: Math.max(after.forward.late_peak_us, after.backward.late_peak_us) / 1_000,
      dropped_queue: after.forward.dropped_queue - before.forward.dropped_queue,
      at: new Date().toISOString(),
      raw: beside,
      arrivals,
    };
  } finally {
    await dialer.close();
    await acceptor.close();
  }
}

/** Another's flow, with the loss-based congestion control that most have, over most of the file's time. Its bits a second. */
async function foreignFlow(lab: Lab): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS + LOADED_MS - FOREIGN_S * 1_000 - 500));
  const text = await lab.exec('near', ['iperf3', '-J', '-c', FAR, '-t', String(FOREIGN_S), '-C', 'cubic'], { timeout_ms: FOREIGN_S * 1_000 + 20_000 });
  return iperfEnd(text).sum_received.bits_per_second;
}

function startOf(arrivals: readonly number[], line: number): number | null {
  const pieces = 5;
  const index = arrivals.findIndex((_, at) => at + pieces <= arrivals.length && sum(arrivals.slice(at, at + pieces)) >= STARTED_PART * pieces * line);
  return index < 0 ? null : (index * ARRIVALS_MS) / 1_000;
}

function sum(values: readonly number[]): number {
  return values.reduce((left, right) => left + right, 0);
}

function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}

if (options.list) {
  for (const cell of cells) console.log(describeCell(cell));
} else {
  const transports = (['quic', 'tcp'] as const).filter((name) => options.only.split(',').includes(name));
  const rows = new Map<string, Row[]>(earlier().map((own) => [keyOf(own[0] as Row), own]));
  const pki = await makePki(1);
  await using lab = await Lab.up(parseTopology('grid', topology, new Map()));
  await new Promise<void>((resolve) =>
    lab.spawn('far', ['iperf3', '-s', '--forceflush'], { name: 'iperf3', onLine: (line) => line.startsWith('Server listening') && resolve() }),
  );
  for (const transport of transports) {
    for (const cell of wanted()) {
      const own: Row[] = [];
      while (own.length < Number(options.repeat)) own.push(await measure(lab, pki, transport, cell));
      rows.set(keyOf(own[0] as Row), own);
      console.log(line(own));
      write([...rows.values()]);
    }
  }
}

function keyOf({ transport, cell }: Row): string {
  return `${transport} ${describeCell(cell)}`;
}

function line(own: readonly Row[]): string {
  const [first] = own as [Row];
  const of = (pick: (row: Row) => number | null): number => median(own.map((row) => pick(row) ?? Number.NaN));
  const [p50, p99, share] = [of((row) => row.added_p50_ms), of((row) => row.added_p99_ms), of((row) => row.share_part)];
  return [
    first.transport.padEnd(5),
    describeCell(first.cell).padEnd(44),
    p50.toFixed(1).padStart(7),
    p99.toFixed(1).padStart(8),
    `${(share * 100).toFixed(0)} %`.padStart(7),
    `${of((row) => row.start_s).toFixed(1)} s`.padStart(8),
    first.foreign_part === null ? '' : `the other ${(of((row) => row.foreign_part) * 100).toFixed(0)} %`,
    isPromised(first.cell, p50, p99, share) ? '' : 'missed',
  ]
    .join(' ')
    .trimEnd();
}

function earlier(): Row[][] {
  try {
    return (JSON.parse(readFileSync(RESULTS, 'utf8')) as { rows: Row[][] }).rows;
  } catch {
    return [];
  }
}

function write(all: readonly (readonly Row[])[]): void {
  const facts = { machine: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`, node: process.version, congestion: congestion() };
  writeFileSync(RESULTS, `${JSON.stringify({ ...facts, rows: all }, null, 1)}\n`);
}

function congestion(): string {
  return readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim();
}
