/**
 * `npm run bench`: channels over QUIC and TCP lanes against node:tls with mutual TLS, in one run, two processes on loopback,
 * repetitions interleaved, medians, ratios. Prints a table and writes bench/results.json. `--repeat N`, `--bytes N`, `--hold N`,
 * `--only tls,tcp,quic`.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { type End, pair } from './ends.ts';
import { makePki } from './pki.ts';
import { type Pki, type SubjectName, subjectNames } from './subject.ts';

const { values: options } = parseArgs({
  options: {
    repeat: { type: 'string', default: '3' },
    bytes: { type: 'string', default: String(2 * 1024 * 1024 * 1024) },
    hold: { type: 'string', default: '1000' },
    only: { type: 'string', default: subjectNames.join(',') },
  },
});

/** Enough of them that what is measured is compiled code: a channel has more of it than a socket, and a parent that many nodes come back to lives longer. */
const ECHOES = 10_000;
const ECHOES_WARM = 10_000;
const ESTABLISH_WARM = 1_500;
const ESTABLISH = 1_000;
const AT_ONCE = 8;

interface Figures {
  mb_per_s: number;
  cpu_s_per_gb: number;
  echo_p50_ms: number;
  echo_p99_ms: number;
  established_per_s: number;
  kb_per_idle: number;
}

function at(sorted: readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}

function median(values: readonly number[]): number {
  return at(
    values.toSorted((left, right) => left - right),
    0.5,
  );
}

async function cpu_ms(...ends: readonly End[]): Promise<number> {
  const usages = await Promise.all(ends.map((end) => end.ask({ do: 'usage' })));
  return usages.reduce((sum, usage) => sum + (usage.cpu_ms ?? 0), 0);
}

async function measure(subject: SubjectName, pki: Pki, bytes: number): Promise<Omit<Figures, 'kb_per_idle'>> {
  return pair(subject, pki, async (_acceptor, dialer) => {
    await dialer.ask({ do: 'echo', count: ECHOES_WARM });
    const times = ((await dialer.ask({ do: 'echo', count: ECHOES })).times_ms ?? []).toSorted((left, right) => left - right);
    await dialer.ask({ do: 'establish', count: ESTABLISH_WARM, atOnce: AT_ONCE });
    const { ms: establish_ms = 0 } = await dialer.ask({ do: 'establish', count: ESTABLISH, atOnce: AT_ONCE });
    return {
      ...(await measureBulk(subject, pki, bytes)),
      echo_p50_ms: at(times, 0.5),
      echo_p99_ms: at(times, 0.99),
      established_per_s: ESTABLISH / (establish_ms / 1000),
    };
  });
}

/** Processes of its own: nothing interactive is or was open, so the governor is off, and the heap is fresh. */
function measureBulk(subject: SubjectName, pki: Pki, bytes: number): Promise<Pick<Figures, 'mb_per_s' | 'cpu_s_per_gb'>> {
  return pair(subject, pki, async (acceptor, dialer) => {
    await dialer.ask({ do: 'bulk', bytes: bytes / 2 });
    const before = await cpu_ms(acceptor, dialer);
    const { ms = 0 } = await dialer.ask({ do: 'bulk', bytes });
    const used = (await cpu_ms(acceptor, dialer)) - before;
    return { mb_per_s: bytes / 1e6 / (ms / 1000), cpu_s_per_gb: used / 1000 / (bytes / 1e9) };
  });
}

function measureIdle(subject: SubjectName, pki: Pki): Promise<number> {
  return pair(subject, pki, async (acceptor, dialer) => {
    const before = (await acceptor.ask({ do: 'usage' })).resident_bytes ?? 0;
    const { count = 0 } = await dialer.ask({ do: 'hold' });
    const after = (await acceptor.ask({ do: 'usage' })).resident_bytes ?? 0;
    return (after - before) / 1000 / count;
  });
}

const subjects = subjectNames.filter((name) => options.only.split(',').includes(name));
const bytes = Number(options.bytes);
const few = await makePki(AT_ONCE + 1);
const many = await makePki(Number(options.hold) + 1);
const runs = new Map<SubjectName, Omit<Figures, 'kb_per_idle'>[]>(subjects.map((name) => [name, []]));
for (let repetition = 0; repetition < Number(options.repeat); repetition++) {
  for (const subject of subjects) {
    const figures = await measure(subject, few, bytes);
    runs.get(subject)?.push(figures);
    console.error(
      `${subject} ${repetition + 1}: ${Object.entries(figures)
        .map(([name, value]) => `${name} ${value.toFixed(3)}`)
        .join(', ')}`,
    );
  }
}

const results: Record<string, Figures> = {};
for (const subject of subjects) {
  const own = runs.get(subject) ?? [];
  const middle = (name: keyof Omit<Figures, 'kb_per_idle'>): number => median(own.map((figures) => figures[name]));
  results[subject] = {
    mb_per_s: middle('mb_per_s'),
    cpu_s_per_gb: middle('cpu_s_per_gb'),
    echo_p50_ms: middle('echo_p50_ms'),
    echo_p99_ms: middle('echo_p99_ms'),
    established_per_s: middle('established_per_s'),
    kb_per_idle: await measureIdle(subject, many),
  };
}

/** What issue and README promise, of node:tls in the same run: at least, or at most, this many times. */
const promises: readonly { figure: keyof Figures; subject: SubjectName; atLeast?: number; atMost?: number }[] = [
  { figure: 'mb_per_s', subject: 'quic', atLeast: 0.6 },
  { figure: 'cpu_s_per_gb', subject: 'quic', atMost: 2.2 },
  { figure: 'mb_per_s', subject: 'tcp', atLeast: 0.85 },
  { figure: 'cpu_s_per_gb', subject: 'tcp', atMost: 1.3 },
  { figure: 'echo_p50_ms', subject: 'quic', atMost: 4 },
  { figure: 'echo_p50_ms', subject: 'tcp', atMost: 2 },
  { figure: 'established_per_s', subject: 'quic', atLeast: 1 },
  { figure: 'established_per_s', subject: 'tcp', atLeast: 1 },
];

console.log(`${''.padEnd(20)}${subjects.map((name) => name.padStart(12)).join('')}`);
for (const figure of ['mb_per_s', 'cpu_s_per_gb', 'echo_p50_ms', 'echo_p99_ms', 'established_per_s', 'kb_per_idle'] as const) {
  console.log(`${figure.padEnd(20)}${subjects.map((name) => (results[name]?.[figure] ?? Number.NaN).toFixed(3).padStart(12)).join('')}`);
}
const ratios = promises.flatMap((promise) => {
  const own = results[promise.subject]?.[promise.figure];
  const yardstick = results.tls?.[promise.figure];
  if (own === undefined || yardstick === undefined) return [];
  const ratio = own / yardstick;
  return [{ ...promise, ratio, holds: ratio >= (promise.atLeast ?? 0) && ratio <= (promise.atMost ?? Number.POSITIVE_INFINITY) }];
});
console.log('');
for (const { figure, subject, ratio, atLeast, atMost, holds } of ratios) {
  console.log(
    `${subject} ${figure}: ${ratio.toFixed(2)} x tls, ${atLeast === undefined ? `at most ${atMost}` : `at least ${atLeast}`}: ${holds ? 'holds' : 'MISSED'}`,
  );
}
const memory = results.quic?.kb_per_idle;
if (memory !== undefined) console.log(`quic kb_per_idle: ${memory.toFixed(0)}, at most 150: ${memory <= 150 ? 'holds' : 'MISSED'}`);
writeFileSync(
  new URL('results.json', import.meta.url),
  `${JSON.stringify({ node: process.version, cpu: cpus()[0]?.model, cores: cpus().length, repetitions: Number(options.repeat), bytes, results, ratios }, null, 2)}\n`,
);
