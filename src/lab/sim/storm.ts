/**
 * A parent restarts, and everybody whom it had comes back at once: how evenly, how soon, and whether anybody is left out. The real dialer, backoff, channel table
 * and admission run on a virtual clock; the parent is the tower of a cluster in which each node is a site of its own.
 */
import type { AdmissionRate } from '../../peering/admission.ts';
import { Agenda } from './agenda.ts';
import { Directory, identityOf, TOWER } from './directory.ts';
import { SimHost } from './host.ts';
import { SimNetwork } from './network.ts';

export interface StormOptions {
  readonly seed: number;
  readonly nodes: number;
  /** For so long the parent is away. */
  readonly down_ms: number;
  readonly rate: AdmissionRate;
}

export interface Storm {
  readonly seed: number;
  readonly nodes: number;
  readonly down_ms: number;
  readonly admitted_per_s: number;
  /** In each second after the parent is up: channels that began, and whoever knocked for one, also those who were told to come back. */
  readonly arrivals: readonly number[];
  readonly knocks: readonly number[];
  readonly arrivals_per_s_max: number;
  readonly knocks_per_s_max: number;
  /** From the parent's start until the last was back; null: somebody is not. */
  readonly back_ms: number | null;
  readonly missing: number;
  /** Told to come back: how often in all, and the most of one node. */
  readonly refused: number;
  readonly refused_per_node_max: number;
}

/** What the parent may take to have everybody back, and twice that; for more nodes than are admitted in it, more. */
const PATIENCE_MS = 120_000;
/** Each node has found its parent, at first, within so long. */
const SETTLE_MS = 5_000;
/** What happens within one millisecond happens in one step: thousands of hosts have something in each. */
const GRAIN_MS = 1;
/** Between two looks at all hosts. */
const LOOK_MS = 250;

export async function storm(options: StormOptions): Promise<Storm> {
  const { seed, nodes, down_ms, rate } = options;
  const agenda = new Agenda(seed);
  const network = new SimNetwork(agenda);
  const identities = Array.from({ length: nodes }, (_, index) => identityOf(index + 1, nodes));
  const counted = new Counts();
  const note = (who: string, what: string): void => counted.note(who, what, agenda.now);
  const world = { agenda, network, note, admission: rate, isFollowing: false };
  const parent = new SimHost(TOWER, { ...world, directory: new Directory(identities) }, () => {});
  const hosts = identities.map((identity) => new SimHost(identity, { ...world, directory: new Directory([identity]) }, () => {}));
  let lookedAt = agenda.now;
  const areBack = (): boolean => {
    if (counted.arrived < nodes || agenda.now < lookedAt + LOOK_MS) return false;
    lookedAt = agenda.now;
    return hosts.every(isBack);
  };
  const patience_ms = PATIENCE_MS + (nodes / rate.channels_per_s) * 2_000;

  parent.start();
  for (const host of hosts) agenda.at(agenda.now + agenda.random.unit() * SETTLE_MS, () => host.start());
  await agenda.runSettled(agenda.now + patience_ms, areBack, GRAIN_MS);
  parent.crash();
  await agenda.runSettled(agenda.now + down_ms, undefined, GRAIN_MS);
  counted.begin(agenda.now);
  parent.start();
  await agenda.runSettled(agenda.now + patience_ms, areBack, GRAIN_MS);

  const missing = hosts.filter((host) => !isBack(host)).length;
  const back_ms = missing > 0 ? null : Math.round(counted.lastAt - counted.beganAt);
  for (const host of [parent, ...hosts]) host.crash();
  network.close();
  const { arrivals, knocks } = counted;
  const told = [...counted.refusals.values()];
  return {
    seed,
    nodes,
    down_ms,
    admitted_per_s: rate.channels_per_s,
    arrivals,
    knocks,
    arrivals_per_s_max: Math.max(0, ...arrivals),
    knocks_per_s_max: Math.max(0, ...knocks),
    back_ms,
    missing,
    refused: told.reduce((sum, count) => sum + count, 0),
    refused_per_node_max: Math.max(0, ...told),
  };
}

function isBack({ mesh }: SimHost): boolean {
  const [row] = mesh?.status() ?? [];
  return row?.state === 'established' && !row.suspect;
}

/** By second since the parent began. */
class Counts {
  arrivals: number[] = [];
  knocks: number[] = [];
  readonly refusals = new Map<string, number>();
  arrived = 0;
  beganAt = 0;
  lastAt = 0;

  /** What was before does not count. */
  begin(now: number): void {
    this.arrivals = [];
    this.knocks = [];
    this.refusals.clear();
    this.arrived = 0;
    this.beganAt = now;
  }

  note(who: string, what: string, now: number): void {
    const isRefused = who === TOWER.node && what.startsWith('session refused') && what.includes('peer_busy');
    const isNew = who === TOWER.node && what.startsWith('channel accepted') && what.endsWith('new');
    if (isNew || isRefused) this.#count(this.knocks, now);
    if (isNew) {
      this.arrived++;
      this.lastAt = now;
      this.#count(this.arrivals, now);
    } else if (what.startsWith('dial failed') && what.includes('peer_busy')) this.refusals.set(who, (this.refusals.get(who) ?? 0) + 1);
  }

  #count(seconds: number[], now: number): void {
    const second = Math.floor((now - this.beganAt) / 1_000);
    while (seconds.length <= second) seconds.push(0);
    seconds[second] = (seconds[second] ?? 0) + 1;
  }
}

const PLOT_COLUMNS = 60;

/** A line for each second: `#` for those who began, `.` for those who knocked beyond them. */
export function plotStorm({ arrivals, knocks, arrivals_per_s_max, knocks_per_s_max }: Storm): string[] {
  const scale = PLOT_COLUMNS / Math.max(1, arrivals_per_s_max, knocks_per_s_max);
  const columns = (count: number): number => Math.round(count * scale);
  const seconds = Array.from({ length: Math.max(arrivals.length, knocks.length) }, (_, second) => second);
  return [
    ' second  channels  knocks',
    ...seconds.map((second) => {
      const [began, knocked] = [arrivals[second] ?? 0, knocks[second] ?? 0];
      const bar = '#'.repeat(columns(began)).padEnd(columns(Math.max(began, knocked)), '.');
      return `${String(second).padStart(7)}  ${String(began).padStart(8)}  ${String(knocked).padStart(6)}  ${bar}`;
    }),
  ];
}
