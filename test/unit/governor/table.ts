/** Prints what the governor does on simulated bottlenecks: `npx node test/unit/governor/table.ts`. Queue and share over 10 s, after the start. */
import { type FlowOptions, type LinkOptions, type Measured, mbit, measureOne } from './link.ts';

/** One way; the start on long paths is left out. */
export const grid = [2, 10, 50, 200].flatMap((rate_mbit) => [1, 20, 100].map((delay_ms) => ({ rate_mbit, delay_ms })));

/** `led`: with a session that paces by itself and shows its packets, as QUIC and the kernel's TCP do. */
export type Kind = FlowOptions['feedback'] | 'led';

export const flowOf = (kind: Kind): FlowOptions => (kind === 'led' ? { feedback: 'quic', lead_ms: 10 } : { feedback: kind });

export function measureGrid(kind: Kind, at: { rate_mbit: number; delay_ms: number }, extra: Partial<LinkOptions> = {}): Measured {
  const from = at.delay_ms >= 100 ? 8_000 : 3_000;
  const link = { rates: [{ from: 0, rate: mbit(at.rate_mbit) }], delay_ms: at.delay_ms, queue_ms: 200, ...extra };
  return measureOne({ link, flow: flowOf(kind), from, to: from + 10_000 });
}

export function row(name: string, measured: Measured): string {
  const cells = [measured.p50_ms, measured.p99_ms, measured.max_ms].map((ms) => ms.toFixed(1).padStart(7)).join('');
  return `${name.padEnd(30)}${cells}${(measured.share * 100).toFixed(1).padStart(8)} %`;
}

if (import.meta.main) {
  console.log(`${'link'.padEnd(30)}    p50    p99    max   share of the line`);
  for (const feedback of ['led', 'quic', 'tcp'] as const) {
    for (const at of grid) console.log(row(`${feedback} ${at.rate_mbit} Mbit/s ${at.delay_ms} ms`, measureGrid(feedback, at)));
    for (const loss of [0.001, 0.005, 0.01])
      console.log(row(`${feedback} 50 Mbit/s 20 ms, loss ${loss * 100} %`, measureGrid(feedback, { rate_mbit: 50, delay_ms: 20 }, { loss })));
  }
}
