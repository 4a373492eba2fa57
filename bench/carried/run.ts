/**
 * `npm run bench:carried`, as root: app networks where UDP is blocked, so that packets ride the channel's TCP lanes. One TCP flow directly and carried, in turn, on a clean path and
 * on one with 20 ms each way and 1 % loss; echoes of class `input` beside a carried flow on a line of 50 Mbit/s. Prints medians against what is promised and writes
 * bench/results-carried.json. `--rounds N`, `--seconds N` (of one flow), `--path clean,lossy,line`, `--congestion NAME` (of the flow inside; default: this machine's).
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type FlowRound, type InputRound, LINE_MBIT, measureFlows, measureInput } from './measure.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '8' },
    path: { type: 'string', default: 'clean,lossy,line' },
    congestion: { type: 'string', default: readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim() },
  },
});

interface Verdict {
  readonly what: string;
  readonly found: string;
  readonly promised: string;
  readonly holds: boolean;
}

const CLEAN_MBIT_MIN = 600;
const CLEAN_PART_MIN = 0.4;
const LOSSY_PART_MIN = 0.5;
const ADDED_P50_MS_MAX = 3;
const ADDED_P99_MS_MAX = 10;

const directory = mkdtempSync(join(tmpdir(), 'selvedge-carried-'));
const settings = { rounds: Number(options.rounds), seconds: Number(options.seconds), congestion: options.congestion, directory };
const paths = options.path.split(',');
const verdicts: Verdict[] = [];
const results: Record<string, readonly FlowRound[] | readonly InputRound[]> = {};
try {
  if (paths.includes('clean')) results.clean = judgeClean(await measureFlows('clean', settings));
  if (paths.includes('lossy')) results.lossy = judgeLossy(await measureFlows('lossy', settings));
  if (paths.includes('line')) results.line = judgeLine(await measureInput(settings));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
for (const { what, found, promised, holds } of verdicts) console.log(`${what}: ${found}, promised ${promised}: ${holds ? 'holds' : 'MISSED'}`);
const facts = {
  at: new Date().toISOString(),
  machine: `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`,
  node: process.version,
  congestion: options.congestion,
};
writeFileSync(fileURLToPath(new URL('../results-carried.json', import.meta.url)), `${JSON.stringify({ ...facts, results, verdicts }, null, 2)}\n`);
process.exitCode = verdicts.every(({ holds }) => holds) ? 0 : 1;

function judgeClean(rounds: readonly FlowRound[]): readonly FlowRound[] {
  const mbit = median(rounds.map(({ carried_mbit }) => carried_mbit));
  say('carried on a clean path', `${mbit.toFixed(0)} Mbit/s`, `at least ${CLEAN_MBIT_MIN}`, mbit >= CLEAN_MBIT_MIN);
  judgePart('carried on a clean path, of direct', rounds, CLEAN_PART_MIN);
  return rounds;
}

function judgeLossy(rounds: readonly FlowRound[]): readonly FlowRound[] {
  judgePart('carried with 20 ms each way and 1 % loss, of direct', rounds, LOSSY_PART_MIN);
  return rounds;
}

function judgePart(what: string, rounds: readonly FlowRound[], least: number): void {
  const part = median(rounds.map(({ carried_mbit, direct_mbit }) => carried_mbit / direct_mbit));
  say(what, `${(100 * part).toFixed(0)} %`, `at least ${100 * least} %`, part >= least);
}

function judgeLine(rounds: readonly InputRound[]): readonly InputRound[] {
  const [p50, p99] = [median(rounds.map(({ added_p50_ms }) => added_p50_ms)), median(rounds.map(({ added_p99_ms }) => added_p99_ms))];
  say('input beside it, added to the median', `${p50.toFixed(1)} ms`, `at most ${ADDED_P50_MS_MAX}`, p50 <= ADDED_P50_MS_MAX);
  say('input beside it, added to the 99th percentile', `${p99.toFixed(1)} ms`, `at most ${ADDED_P99_MS_MAX}`, p99 <= ADDED_P99_MS_MAX);
  const part = median(rounds.map(({ carried_mbit }) => carried_mbit / LINE_MBIT));
  console.log(`what is carried meanwhile has ${(100 * part).toFixed(0)} % of the line`);
  return rounds;
}

function say(what: string, found: string, promised: string, holds: boolean): void {
  verdicts.push({ what, found, promised, holds });
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
}
