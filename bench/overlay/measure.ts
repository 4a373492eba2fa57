/** What is measured of a subject: TCP by one flow and by four, echoes idle and beside a flow, small datagrams, CPU time and memory of the processes that carry it. */
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { percentile } from '../../src/lab/measure.ts';
import { type IperfEnd, iperfEnd } from '../iperf.ts';
import type { Hosts, Subject } from './hosts.ts';

export interface Figures {
  readonly tcp1_mbit: number;
  readonly tcp4_mbit: number;
  readonly udp200_kpps: number;
  readonly rtt_idle_ms: number;
  readonly rtt_loaded_ms: number;
  /** User and system time of both processes; 0 where the kernel alone carries. */
  readonly cpu_s_per_gb: number;
  /** Resident, of both processes, the most that was seen under four TCP flows. */
  readonly rss_mb: number;
}

const ECHOES_IDLE = 100;
const ECHO_INTERVAL_S = 0.01;
const LOOK_MS = 200;
const MIB = 1_048_576;
/** `sysconf(_SC_CLK_TCK)` on Linux. */
const TICKS_PER_S = 100;

/** A part of what is measured. All subjects have one part after the other, seconds apart: a machine's speed may double within a minute. */
type Part = (hosts: Hosts, subject: Subject, seconds: number) => Promise<Partial<Figures>>;

export const parts: readonly Part[] = [
  async (hosts, { to }) => ({ rtt_idle_ms: percentile(await echoes(hosts, to, ECHOES_IDLE), 0.5) }),
  async (hosts, { to, pids }, seconds) => {
    const before_s = cpuOf(pids);
    const { mbit, gb } = await tcp(hosts, to, seconds, 1);
    return { tcp1_mbit: mbit, cpu_s_per_gb: (cpuOf(pids) - before_s) / gb };
  },
  async (hosts, { to }, seconds) => {
    const [loaded] = await Promise.all([echoes(hosts, to, Math.round((seconds * 0.8) / ECHO_INTERVAL_S)), tcp(hosts, to, seconds, 1)]);
    return { rtt_loaded_ms: percentile(loaded, 0.5) };
  },
  async (hosts, { to, pids }, seconds) => {
    const { result, rss_mb } = await watched(pids, () => tcp(hosts, to, seconds, 4));
    return { tcp4_mbit: result.mbit, rss_mb };
  },
  async (hosts, { to }, seconds) => ({ udp200_kpps: await udp(hosts, to, seconds) }),
];

/** One run of iperf3, and one more if that failed: its server may still be at the one before. @throws what iperf3 says of the second */
function iperf(hosts: Hosts, to: string, seconds: number, ...more: string[]): Promise<IperfEnd> {
  const once = async () => iperfEnd(await hosts.exec(0, ['iperf3', '-J', '-c', to, '-t', String(seconds), ...more], seconds * 1000 + 20_000));
  return once().catch((error: unknown) => {
    console.log(`once more, since ${error instanceof Error ? error.message : error}`);
    return once();
  });
}

async function tcp(hosts: Hosts, to: string, seconds: number, flows: number): Promise<{ mbit: number; gb: number }> {
  const { sum_received } = await iperf(hosts, to, seconds, '-P', String(flows));
  return { mbit: sum_received.bits_per_second / 1e6, gb: sum_received.bytes / 1e9 };
}

/** Those that arrived. */
async function udp(hosts: Hosts, to: string, seconds: number): Promise<number> {
  const { sum } = await iperf(hosts, to, seconds, '-u', '-l', '200', '-b', '0');
  return sum ? (sum.packets - sum.lost_packets) / sum.seconds / 1000 : Number.NaN;
}

async function echoes(hosts: Hosts, to: string, count: number): Promise<number[]> {
  const text = await hosts.exec(0, ['ping', '-n', '-i', String(ECHO_INTERVAL_S), '-c', String(count), '-W', '2', to]);
  return [...text.matchAll(/ time=([\d.]+) ms/g)].map((match) => Number(match[1]));
}

async function watched<T>(pids: readonly number[], action: () => Promise<T>): Promise<{ readonly result: T; readonly rss_mb: number }> {
  const done = new AbortController();
  let rss_mb = 0;
  const looking = (async () => {
    while (!done.signal.aborted) {
      rss_mb = Math.max(rss_mb, residentOf(pids));
      await pause(LOOK_MS, undefined, { signal: done.signal }).catch(() => {});
    }
  })();
  try {
    const result = await action();
    return { result, rss_mb };
  } finally {
    done.abort();
    await looking;
  }
}

function residentOf(pids: readonly number[]): number {
  const kib = pids.map((pid) => Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]));
  return (kib.reduce((sum, one) => sum + one, 0) * 1024) / MIB;
}

function cpuOf(pids: readonly number[]): number {
  const ticks = pids.map((pid) => {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // After the program's name, which may hold anything: user and system time are the 14th and 15th field of all.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return Number(fields[11]) + Number(fields[12]);
  });
  return ticks.reduce((sum, one) => sum + one, 0) / TICKS_PER_S;
}
