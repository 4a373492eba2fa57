/**
 * `npm run bench:overlay`, as root: app networks against raw veth, plain wireguard-go, the kernel's VXLAN on it, and Nebula; two hosts in namespaces, rounds
 * interleaved, medians, judged against what is promised. Prints a table and writes bench/results-overlay.json. `--rounds N`, `--seconds N`, `--only a,b`;
 * `--add` adds its rounds to those of the last run, for a machine that others want meanwhile.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Hosts, type Subject } from './hosts.ts';
import { type Figures, parts } from './measure.ts';
import { type Medians, judge } from './promises.ts';
import { applyMany } from './selvedge.ts';
import { prepare, type SubjectName, starters, subjectNames } from './subjects.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
    only: { type: 'string', default: subjectNames.join(',') },
    add: { type: 'boolean', default: false },
  },
});

interface Round {
  readonly figures: Partial<Record<SubjectName, Figures>>;
  readonly apply_s: number;
}

const RESULTS = fileURLToPath(new URL('../results-overlay.json', import.meta.url));
const NETWORKS = 200;
const PEERS = 50;

const names = options.only.split(',').filter((name): name is SubjectName => (subjectNames as readonly string[]).includes(name));
const missing = await prepare(names);
for (const [name, why] of missing) console.log(`${name} is left out: ${why}`);
const rounds: Round[] = options.add ? (JSON.parse(readFileSync(RESULTS, 'utf8')) as { rounds: Round[] }).rounds : [];
await run();
const medians = Object.fromEntries(names.map((name) => [name, medianOf(rounds.flatMap(({ figures }) => figures[name] ?? []))]));
const apply_s = median(rounds.map((round) => round.apply_s));
printTable(medians);
const verdicts = judge(medians, ratio, apply_s);
for (const { what, found, promised, holds } of verdicts) console.log(`${what}: ${found}, promised ${promised}: ${holds ? 'holds' : 'MISSED'}`);
const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`;
writeFileSync(RESULTS, `${JSON.stringify({ at: new Date().toISOString(), machine, node: process.version, medians, apply_s, verdicts, rounds }, null, 2)}\n`);
process.exitCode = verdicts.every(({ holds }) => holds) ? 0 : 1;

async function run(): Promise<void> {
  await using hosts = await Hosts.up();
  await hosts.start(1, ['iperf3', '-s', '--forceflush'], { ready: /Server listening/ });
  const subjects: [SubjectName, Subject][] = [];
  for (const name of names) if (!missing.has(name)) subjects.push([name, await starters[name](hosts)]);
  // The first packet waits for a handshake.
  for (const [, { to }] of subjects) await hosts.exec(0, ['ping', '-n', '-c', '3', '-i', '0.2', '-W', '3', to]);
  for (let round = 0; round < Number(options.rounds); round++) {
    const measured = new Map<SubjectName, Partial<Figures>>();
    // Every other time backwards: who comes first finds another machine than who comes last.
    const order = rounds.length % 2 === 0 ? subjects : subjects.toReversed();
    for (const part of parts)
      for (const [name, subject] of order) measured.set(name, { ...measured.get(name), ...(await part(hosts, subject, Number(options.seconds))) });
    for (const [name, figures] of measured) console.log(`${name}: ${JSON.stringify(figures)}`);
    // Every part was measured.
    const figures = Object.fromEntries(measured) as Round['figures'];
    rounds.push({ figures, apply_s: await applyMany(hosts, NETWORKS, PEERS) });
  }
}

function medianOf(all: readonly Figures[]): Medians[string] {
  const [first] = all;
  if (!first) return null;
  const keys = Object.keys(first) as (keyof Figures)[];
  return Object.fromEntries(keys.map((key) => [key, median(all.map((one) => one[key]))])) as unknown as Figures;
}

/** Of Selvedge's figure by another's, each within its round. */
function ratio(name: string, of: (figures: Figures) => number): number | null {
  const ratios = rounds.flatMap(({ figures }) => {
    const [own, other] = [figures.selvedge, figures[name as SubjectName]];
    return own && other ? [of(own) / of(other)] : [];
  });
  return ratios.length === 0 ? null : median(ratios);
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function printTable(rows: Medians): void {
  console.log(`\nmedians of ${rounds.length}`);
  const head = ['tcp1_mbit', 'tcp4_mbit', 'udp200_kpps', 'rtt_idle_ms', 'rtt_loaded_ms', 'cpu_s_per_gb', 'rss_mb'] as const;
  console.log(`${''.padEnd(13)}${head.map((name) => name.padStart(14)).join('')}`);
  for (const [name, row] of Object.entries(rows))
    if (row) console.log(`${name.padEnd(13)}${head.map((key) => row[key].toFixed(key.startsWith('tcp') ? 0 : 2).padStart(14)).join('')}`);
  console.log(`${NETWORKS} networks of ${PEERS} peers applied in ${apply_s.toFixed(2)} s\n`);
}
