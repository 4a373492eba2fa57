/** What is promised of app networks' speed, and whether medians hold it. Pure. */
import type { Figures } from './measure.ts';

export type Medians = Readonly<Record<string, Figures | null>>;

export interface Verdict {
  readonly what: string;
  readonly found: string;
  readonly promised: string;
  readonly holds: boolean;
}

const APPLY_S_MAX = 5;
/** Two medians of one thing differ by so much from run to run: what shall be no worse may be worse by this. */
const RTT_TOLERANCE = 1.05;

/** Of subjects that were left out nothing is said. */
export function judge({ selvedge, plain, nebula, 'kernel-vxlan': vxlan }: Medians, apply_s: number): Verdict[] {
  if (!selvedge) return [];
  const verdicts: Verdict[] = [];
  const atLeast = (what: string, other: Figures | null | undefined, of: (figures: Figures) => number, factor: number) => {
    if (!other) return;
    const ratio = of(selvedge) / of(other);
    verdicts.push({ what, found: `${ratio.toFixed(2)} x`, promised: `at least ${factor} x`, holds: ratio >= factor });
  };
  const atMost = (what: string, value: number, bound: number, unit: string) =>
    verdicts.push({ what, found: `${value.toFixed(2)} ${unit}`, promised: `at most ${bound.toFixed(2)} ${unit}`, holds: value <= bound });
  atLeast('one TCP flow, plain wireguard-go', plain, (figures) => figures.tcp1_mbit, 1);
  atLeast('one TCP flow, kernel VXLAN', vxlan, (figures) => figures.tcp1_mbit, 4);
  atLeast('one TCP flow, Nebula', nebula, (figures) => figures.tcp1_mbit, 5);
  const flows = selvedge.tcp4_mbit / selvedge.tcp1_mbit;
  verdicts.push({ what: 'four TCP flows, one', found: `${flows.toFixed(2)} x`, promised: 'at least 0.9 x', holds: flows >= 0.9 });
  atLeast('datagrams of 200 bytes, plain wireguard-go', plain, (figures) => figures.udp200_kpps, 1.5);
  atMost('CPU time of both ends', selvedge.cpu_s_per_gb, 5, 's/GB');
  atMost('memory of both tunnels', selvedge.rss_mb, 45, 'MB');
  if (plain) atMost('round trip under load', selvedge.rtt_loaded_ms, plain.rtt_loaded_ms * RTT_TOLERANCE, 'ms');
  atMost('200 networks of 50 peers applied', apply_s, APPLY_S_MAX, 's');
  return verdicts;
}
