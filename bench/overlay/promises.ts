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

/** By how much more one has than another. The machine changes from minute to minute, so ends are compared within each round, and of the ratios there is a median. */
type Ratio = (name: string, of: (figures: Figures) => number) => number | null;

/** Of subjects that were left out nothing is said. `ratio`: Selvedge's figure by another's. */
export function judge({ selvedge }: Medians, ratio: Ratio, apply_s: number): Verdict[] {
  if (!selvedge) return [];
  const verdicts: Verdict[] = [];
  const compare = (what: string, found: number | null, promised: string, holds: (found: number) => boolean) => {
    if (found !== null) verdicts.push({ what, found: `${found.toFixed(2)} x`, promised: `${promised} x`, holds: holds(found) });
  };
  const atLeast = (what: string, name: string, of: (figures: Figures) => number, factor: number) =>
    compare(what, ratio(name, of), `at least ${factor}`, (found) => found >= factor);
  const atMost = (what: string, value: number, bound: number, unit: string) =>
    verdicts.push({ what, found: `${value.toFixed(2)} ${unit}`, promised: `at most ${bound} ${unit}`, holds: value <= bound });
  atLeast('one TCP flow, plain wireguard-go', 'plain', (figures) => figures.tcp1_mbit, 1);
  atLeast('one TCP flow, kernel VXLAN', 'kernel-vxlan', (figures) => figures.tcp1_mbit, 4);
  atLeast('one TCP flow, Nebula', 'nebula', (figures) => figures.tcp1_mbit, 5);
  compare('four TCP flows, one', selvedge.tcp4_mbit / selvedge.tcp1_mbit, 'at least 0.9', (found) => found >= 0.9);
  atLeast('datagrams of 200 bytes, plain wireguard-go', 'plain', (figures) => figures.udp200_kpps, 1.5);
  const loaded = ratio('plain', (figures) => figures.rtt_loaded_ms);
  compare('round trip under load, plain wireguard-go', loaded, `at most ${RTT_TOLERANCE}`, (found) => found <= RTT_TOLERANCE);
  atMost('CPU time of both ends', selvedge.cpu_s_per_gb, 5, 's/GB');
  atMost('memory of both tunnels', selvedge.rss_mb, 45, 'MB');
  atMost('200 networks of 50 peers applied', apply_s, APPLY_S_MAX, 's');
  return verdicts;
}
