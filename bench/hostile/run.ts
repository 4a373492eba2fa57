/**
 * `npm run bench:hostile`, as root: what a hostile peer costs the others. A host, an honest and a hostile peer in a lab, each peer behind a line of its own; echoes on
 * `input` of the honest one, in turn without and with the other at it. Prints medians and what is promised, writes bench/results-hostile.json (rows of earlier runs stay).
 * `--rounds N`, `--seconds N` (of one part), `--only stalled,flooding,lying`, `--transport quic,tcp`.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Lab, type LabProcess, loadTopology, stepSchemas } from '../../src/lab/index.ts';
import { percentile } from '../../src/lab/measure.ts';
import { makePki } from '../pki.ts';
import { ACCEPTOR, type Pki } from '../subject.ts';
import { ADDRESS, type BenchTransport, type Kind, kinds, type Setting, transports, writeSetting } from './setting.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    only: { type: 'string', default: kinds.join(',') },
    transport: { type: 'string', default: transports.join(',') },
  },
});

const PROGRAM = fileURLToPath(new URL('program.ts', import.meta.url));
const RESULTS = fileURLToPath(new URL('../results-hostile.json', import.meta.url));
/** Of `input` p99 beside a hostile peer, to that without one. */
const RATIO_MAX = 1.1;
/** For what the last one left behind to be over. */
const SETTLE_MS = 500;

const TOPOLOGY = `name: hostile
about: A host, an honest peer and a hostile one, each behind a line of its own
switches: [internet]
hosts:
  host: { interfaces: { wan: { on: internet, address: ${ADDRESS}/24 } } }
  honest: { interfaces: { wan: { on: near, address: 203.0.113.11/24 } } }
  hostile: { interfaces: { wan: { on: far, address: 203.0.113.12/24 } } }
links:
  near: { ends: [honest, internet], rate: 50 Mbit/s, delay: 20 ms, queue: 200 ms }
  far: { ends: [hostile, internet], rate: 50 Mbit/s, delay: 20 ms, queue: 200 ms }
`;

interface Round {
  readonly without_p50_ms: number;
  readonly without_p99_ms: number;
  readonly with_p50_ms: number;
  readonly with_p99_ms: number;
  /** What the hostile peer put on its line meanwhile. */
  readonly hostile_mbit: number;
}

interface Row {
  readonly kind: Kind;
  readonly transport: BenchTransport;
  readonly rounds: readonly Round[];
  /** Median of the rounds' ratios of p99. */
  readonly ratio: number;
  readonly holds: boolean;
}

const chosen = <Name extends string>(all: readonly Name[], text: string): Name[] => all.filter((name) => text.split(',').includes(name));

const directory = mkdtempSync(join(tmpdir(), 'selvedge-hostile-'));
const rows: Row[] = [];
try {
  const file = join(directory, 'hostile.yaml');
  writeFileSync(file, TOPOLOGY);
  const pki = await makePki(2);
  for (const transport of chosen(transports, options.transport))
    for (const kind of chosen(kinds, options.only)) rows.push(await measure(file, pki, kind, transport));
} finally {
  rmSync(directory, { recursive: true, force: true });
}
console.table(
  rows.map(({ kind, transport, rounds, ratio, holds }) => ({
    kind,
    transport,
    ...medians(rounds),
    ratio: ratio.toFixed(3),
    verdict: holds ? 'holds' : 'MISSED',
  })),
);
const kept = existsSync(RESULTS) ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as { rows: Row[] }).rows : [];
const isMeasured = (row: Row): boolean => rows.some(({ kind, transport }) => kind === row.kind && transport === row.transport);
writeFileSync(RESULTS, `${JSON.stringify({ at: new Date().toISOString(), rows: [...kept.filter((row) => !isMeasured(row)), ...rows] }, null, 2)}\n`);
process.exitCode = rows.every(({ holds }) => holds) ? 0 : 1;

async function measure(topology: string, pki: Pki, kind: Kind, transport: BenchTransport): Promise<Row> {
  await using lab = await Lab.up(await loadTopology(topology, stepSchemas));
  const start = programsOf(lab, pki, kind, transport);
  await start('host', 'ready');
  const samples: number[] = [];
  await start('honest', '', (line) => samples.push(Number(line)));
  const part = async (): Promise<readonly number[]> => {
    samples.length = 0;
    await pause(Number(options.seconds) * 1_000);
    return [...samples];
  };
  await part();
  const rounds: Round[] = [];
  while (rounds.length < Number(options.rounds)) {
    const without = await part();
    const hostile = await start('hostile', 'on');
    const before_bytes = await said(lab);
    const beside = await part();
    const hostile_mbit = (8 * ((await said(lab)) - before_bytes)) / 1e6 / Number(options.seconds);
    if (!hostile.running) throw new Error(`the hostile peer has ended: ${hostile.lastError}`);
    // It may have stopped itself: nothing less ends it.
    hostile.kill('SIGKILL');
    await hostile.ended;
    await pause(SETTLE_MS);
    rounds.push({
      without_p50_ms: percentile(without, 0.5),
      without_p99_ms: percentile(without, 0.99),
      with_p50_ms: percentile(beside, 0.5),
      with_p99_ms: percentile(beside, 0.99),
      hostile_mbit,
    });
    console.error(`${kind} ${transport} ${rounds.length}: ${JSON.stringify(rounds.at(-1))}`);
  }
  const ratio = median(rounds.map(({ with_p99_ms, without_p99_ms }) => with_p99_ms / without_p99_ms));
  return { kind, transport, rounds, ratio, holds: ratio <= RATIO_MAX };
}

/** Octets that have passed the hostile peer's line towards the host. */
async function said(lab: Lab): Promise<number> {
  return (await lab.link('far').stats()).forward.bytes_out;
}

/** Starts one of the three in its namespace; resolves once it has said a line that begins with `word`. */
function programsOf(lab: Lab, pki: Pki, kind: Kind, transport: BenchTransport) {
  const identities = { host: { node: ACCEPTOR, credentials: pki.acceptor }, honest: pki.dialers[0], hostile: pki.dialers[1] };
  return (role: Setting['role'], word: string, onLine: (line: string) => void = () => {}): Promise<LabProcess> => {
    const identity = identities[role];
    if (identity === undefined) throw new Error(`no identity for ${role}`);
    const file = join(lab.directory, `${role}.json`);
    writeSetting(file, { role, ...identity, root: pki.root, transport, kind });
    return new Promise((resolve, reject) => {
      const child = lab.spawn(role, [process.execPath, PROGRAM, file], {
        name: role,
        onLine(line, stream) {
          if (stream === 'stderr') return console.error(`${role}: ${line}`);
          onLine(line);
          if (line.startsWith(word)) resolve(child);
        },
      });
      void child.ended.then(() => reject(new Error(`${role} has ended: ${child.lastError}`)));
    });
  };
}

function medians(rounds: readonly Round[]): Record<keyof Round, string> {
  const of = (name: keyof Round): string => median(rounds.map((round) => round[name])).toFixed(2);
  return {
    without_p50_ms: of('without_p50_ms'),
    without_p99_ms: of('without_p99_ms'),
    with_p50_ms: of('with_p50_ms'),
    with_p99_ms: of('with_p99_ms'),
    hostile_mbit: of('hostile_mbit'),
  };
}

function median(values: readonly number[]): number {
  return percentile(values, 0.5);
}
