/**
 * `npm run bench:carried`, as root: app networks where UDP is blocked. Two nodes with the real daemons and tunnels; one TCP flow between them directly and carried by the
 * channel's TCP lanes, in turn, on a clean path and on one with 20 ms each way and 1 % loss. Prints a table, judged against what is promised, and writes
 * bench/results-carried.json. `--rounds N`, `--seconds N` (of one flow), `--path clean|lossy|both`,
 * `--congestion NAME`: of the flow inside (default: this machine's).
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CarriedLab } from '../test/lab/fixtures/carried-lab.ts';

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '6' },
    path: { type: 'string', default: 'both' },
    congestion: { type: 'string', default: readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim() },
  },
});

const TO = '10.9.0.3';
const CLEAN_MBIT_MIN = 600;
const PART_MIN = { clean: 0.4, lossy: 0.5 } as const;
type PathName = keyof typeof PART_MIN;
const LINKS: Readonly<Record<PathName, string>> = { clean: '', lossy: '\nlinks:\n  wire: { ends: [a, internet], rate: 1 Gbit/s, delay: 20 ms, loss: 1 % }\n' };

const topology = (path: PathName): string => `name: carried-${path}
about: Two nodes of one site and their tower
switches: [internet]
hosts:
  tower: { role: tower, interfaces: { wan: { on: internet, address: 203.0.113.10/24 } } }
  a: { role: node, site: harbor, interfaces: { wan: { on: ${path === 'lossy' ? 'wire' : 'internet'}, address: 203.0.113.11/24 } } }
  b: { role: node, site: harbor, interfaces: { wan: { on: internet, address: 203.0.113.12/24 } } }
${LINKS[path]}`;

interface Round {
  readonly direct_mbit: number;
  readonly carried_mbit: number;
}

const directory = mkdtempSync(join(tmpdir(), 'selvedge-carried-'));
const verdicts: { readonly what: string; readonly found: string; readonly promised: string; readonly holds: boolean }[] = [];
const results: Partial<Record<PathName, readonly Round[]>> = {};
try {
  for (const path of ['clean', 'lossy'] as const) if (options.path === path || options.path === 'both') results[path] = await measure(path);
} finally {
  rmSync(directory, { recursive: true, force: true });
}
for (const [path, rounds] of Object.entries(results) as [PathName, readonly Round[]][]) judge(path, rounds);
for (const { what, found, promised, holds } of verdicts) console.log(`${what}: ${found}, promised ${promised}: ${holds ? 'holds' : 'MISSED'}`);
const machine = `${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}`;
const file = fileURLToPath(new URL('results-carried.json', import.meta.url));
writeFileSync(
  file,
  `${JSON.stringify({ at: new Date().toISOString(), machine, node: process.version, congestion: options.congestion, results, verdicts }, null, 2)}\n`,
);
process.exitCode = verdicts.every(({ holds }) => holds) ? 0 : 1;

async function measure(path: PathName): Promise<readonly Round[]> {
  const file = join(directory, `${path}.yaml`);
  writeFileSync(file, topology(path));
  const carried = await CarriedLab.up(file);
  try {
    await new Promise<void>((resolve) =>
      carried.lab.spawn('b', ['iperf3', '-s', '--forceflush'], { name: 'iperf3', onLine: (line) => line.startsWith('Server listening') && resolve() }),
    );
    await carried.reached('a', TO);
    const rounds: Round[] = [];
    for (let round = 0; round < Number(options.rounds); round++) {
      const direct_mbit = await flow(carried, 'direct');
      await carried.udp('b', false);
      const carried_mbit = await flow(carried, 'carried');
      await carried.udp('b', true);
      rounds.push({ direct_mbit, carried_mbit });
      console.log(`${path} ${round + 1}: direct ${direct_mbit.toFixed(1)}, carried ${carried_mbit.toFixed(1)} Mbit/s`);
    }
    return rounds;
  } finally {
    await carried.down();
  }
}

/** Mbit/s that arrived of one TCP flow, once both ends are on the path. */
async function flow(carried: CarriedLab, path: 'direct' | 'carried'): Promise<number> {
  await carried.reached('a', TO);
  await carried.on('a', 'b', path);
  await carried.on('b', 'a', path);
  const text = await carried.lab.exec('a', ['iperf3', '-J', '-c', TO, '-t', options.seconds, '-C', options.congestion], {
    timeout_ms: Number(options.seconds) * 1_000 + 30_000,
  });
  const { end } = JSON.parse(text) as { readonly end: { readonly sum_received: { readonly bits_per_second: number } } };
  return end.sum_received.bits_per_second / 1e6;
}

function judge(path: PathName, rounds: readonly Round[]): void {
  const mbit = median(rounds.map(({ carried_mbit }) => carried_mbit));
  const part = median(rounds.map(({ carried_mbit, direct_mbit }) => carried_mbit / direct_mbit));
  if (path === 'clean')
    verdicts.push({
      what: 'carried on a clean path',
      found: `${mbit.toFixed(0)} Mbit/s`,
      promised: `at least ${CLEAN_MBIT_MIN}`,
      holds: mbit >= CLEAN_MBIT_MIN,
    });
  const least = PART_MIN[path];
  verdicts.push({
    what: `carried on a ${path} path, of direct`,
    found: `${(100 * part).toFixed(0)} %`,
    promised: `at least ${100 * least} %`,
    holds: part >= least,
  });
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[Math.floor(values.length / 2)] ?? Number.NaN;
}
