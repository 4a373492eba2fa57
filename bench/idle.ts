/**
 * `npm run bench:idle`: what channels cost that carry nothing but their heartbeats. One process accepts, another dials, each channel with an identity of its own, over
 * loopback; once they have settled, memory and CPU of each process over some time. Prints a table and writes bench/results-idle.json.
 * `--channels N`, `--seconds N`, `--only tcp,quic`.
 */
import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { type End, pair } from './ends.ts';
import { makePki } from './pki.ts';
import type { Pki } from './subject.ts';

const { values: options } = parseArgs({
  options: {
    channels: { type: 'string', default: '1000' },
    seconds: { type: 'string', default: '60' },
    only: { type: 'string', default: 'tcp,quic' },
  },
});

/** What is aimed at, for 1,000 channels. */
const KB_MAX = 60;
const CORE_PERCENT_MAX = 0.5;
/** Until what the handshakes left is collected, paths are measured, heartbeats have spread, and the compiler is done with the code that they run. */
const SETTLE_S = 25;

interface Cost {
  readonly kb_per_channel: number;
  /** Of one core, for all channels together. */
  readonly core_percent: number;
}

type Figures = Readonly<Record<'accepting' | 'dialing', Cost>>;

async function costOf(end: End, before_bytes: number, count: number): Promise<Cost> {
  const { cpu_ms: before_ms = 0 } = await end.ask({ do: 'cpu' });
  const began_ms = performance.now();
  await sleep(Number(options.seconds) * 1_000);
  const { cpu_ms: after_ms = 0 } = await end.ask({ do: 'cpu' });
  const took_ms = performance.now() - began_ms;
  const { resident_bytes = 0 } = await end.ask({ do: 'usage' });
  return { kb_per_channel: (resident_bytes - before_bytes) / 1_000 / count, core_percent: ((after_ms - before_ms) / took_ms) * 100 };
}

function measure(subject: 'tcp' | 'quic', pki: Pki): Promise<Figures> {
  return pair(subject, pki, async (...ends) => {
    const before = await Promise.all(ends.map((end) => end.ask({ do: 'usage' })));
    const { count = 0 } = await ends[1].ask({ do: 'hold' });
    await sleep(SETTLE_S * 1_000);
    const [accepting, dialing] = await Promise.all(ends.map((end, index) => costOf(end, before[index]?.resident_bytes ?? 0, count)));
    if (accepting === undefined || dialing === undefined) throw new Error('two ends were measured');
    return { accepting, dialing };
  });
}

const channels = Number(options.channels);
const pki = await makePki(channels + 1);
const results: Record<string, Figures> = {};
console.log(`${''.padEnd(20)}${'kB a channel'.padStart(16)}${'% of a core'.padStart(16)}`);
for (const subject of ['tcp', 'quic'] as const) {
  if (!options.only.split(',').includes(subject)) continue;
  const figures = await measure(subject, pki);
  results[subject] = figures;
  for (const [end, { kb_per_channel, core_percent }] of Object.entries(figures))
    console.log(`${`${subject} ${end}`.padEnd(20)}${kb_per_channel.toFixed(1).padStart(16)}${core_percent.toFixed(2).padStart(16)}`);
}
console.log('');
const aims = Object.entries(results).map(([subject, { accepting }]) => {
  const holds = accepting.kb_per_channel <= KB_MAX && accepting.core_percent <= CORE_PERCENT_MAX;
  console.log(`${subject} accepting ${channels} channels: at most ${KB_MAX} kB each and ${CORE_PERCENT_MAX} % of a core: ${holds ? 'holds' : 'MISSED'}`);
  return { subject, kb_per_channel_max: KB_MAX, core_percent_max: CORE_PERCENT_MAX, holds };
});
writeFileSync(
  new URL('results-idle.json', import.meta.url),
  `${JSON.stringify({ node: process.version, cpu: cpus()[0]?.model, channels, seconds: Number(options.seconds), results, aims }, null, 2)}\n`,
);
