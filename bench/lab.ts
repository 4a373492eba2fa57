/**
 * `npm run bench:lab`: the figures that need a network: input beside bulk on QUIC and TCP, and what losing UDP costs. Runs the steps of
 * configs/lab/edge-site.yaml `--repeat` times, interleaved, in one lab; prints medians against what is promised and writes
 * bench/results-lab.json. Needs root. Leave the machine alone meanwhile: an echo's 99th percentile is the first to hear of other work.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { runLab } from '../src/lab/index.ts';

const { values: options } = parseArgs({ options: { repeat: { type: 'string', default: '3' }, loaded: { type: 'string', default: '20' } } });

interface StepRow {
  readonly name: string;
  readonly figures: Readonly<Record<string, unknown>>;
}

interface Promised {
  readonly step: string;
  readonly what: string;
  readonly of: (figures: StepRow['figures']) => number;
  readonly holds: (median: number) => boolean;
  readonly bound: string;
}

const number = (figures: StepRow['figures'], name: string): number => Number(figures[name] ?? Number.NaN);

const qos = (step: string): Promised[] => [
  { step, what: 'added p50, ms', of: (f) => number(f, 'loaded_ms_p50') - number(f, 'idle_ms_p50'), holds: (ms) => ms <= 3, bound: '≤ 3' },
  { step, what: 'added p99, ms', of: (f) => number(f, 'loaded_ms_p99') - number(f, 'idle_ms_p99'), holds: (ms) => ms <= 10, bound: '≤ 10' },
  { step, what: 'bulk, % of the line', of: (f) => (100 * number(f, 'bulk_mbit')) / number(f, 'line_mbit'), holds: (part) => part >= 90, bound: '≥ 90' },
];

const promises: readonly Promised[] = [
  ...qos('qos_quic'),
  ...qos('qos_tcp'),
  { step: 'fallback', what: 'gap when UDP goes, ms', of: (f) => number(f, 'gap_ms'), holds: (ms) => ms <= 500, bound: '≤ 500' },
  { step: 'fallback', what: 'octets lost', of: (f) => number(f, 'lost_bytes'), holds: (bytes) => bytes === 0, bound: '0' },
  { step: 'fallback', what: 'back on QUIC, ms', of: (f) => number(f, 'back_on_quic_ms'), holds: (ms) => ms <= 5_000, bound: '≤ 5000' },
  { step: 'fallback', what: 'gap when going back, ms', of: (f) => number(f, 'gap_back_ms'), holds: (ms) => ms <= 50, bound: '≤ 50' },
];

const directory = mkdtempSync(join(tmpdir(), 'selvedge-bench-'));
try {
  const rows = await runSteps();
  const table = promises.map((promise) => {
    const values = rows.filter(({ name }) => name === promise.step).map(({ figures }) => promise.of(figures));
    const median = values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
    return {
      step: promise.step,
      what: promise.what,
      median: round(median),
      all: values.map(round).join(' '),
      promised: promise.bound,
      verdict: promise.holds(median) ? 'holds' : 'MISSED',
    };
  });
  console.table(table);
  writeFileSync(fileURLToPath(new URL('results-lab.json', import.meta.url)), `${JSON.stringify({ at: new Date().toISOString(), table, rows }, null, 2)}\n`);
  process.exitCode = table.every(({ verdict }) => verdict === 'holds') ? 0 : 1;
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** The topology of edge-site with these steps in the place of its own. */
async function runSteps(): Promise<readonly StepRow[]> {
  const source = readFileSync(fileURLToPath(new URL('../configs/lab/edge-site.yaml', import.meta.url)), 'utf8');
  const topology = source.slice(0, source.indexOf('\nsteps:'));
  const round = `  - qos_quic: { node: a, loaded_s: ${options.loaded} }\n  - qos_tcp: { node: c, loaded_s: ${options.loaded} }\n  - fallback: { node: a }\n`;
  const [file, json] = [join(directory, 'bench.yaml'), join(directory, 'steps.json')];
  writeFileSync(file, `${topology}\nsteps:\n  - enroll\n  - connect\n${round.repeat(Number(options.repeat))}`);
  await runLab({ file, once: true, json, print: (line) => console.log(line), terminal: process.stdout.isTTY === true });
  return (JSON.parse(readFileSync(json, 'utf8')) as { steps: StepRow[] }).steps;
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
