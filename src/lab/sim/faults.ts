/** What goes wrong in a simulation: how much of it, as numbers with their units, and when, drawn from the seed. */
import { limits } from '../../base/limits.ts';
import { trafficClassNames } from '../../channel/classes.ts';
import type { Agenda, SeededRandom } from './agenda.ts';
import { type Directory, TOWER_CLASS } from './directory.ts';
import type { SimHost } from './host.ts';
import { goodPath, type SimNetwork } from './network.ts';
import { rotate } from './rotation.ts';
import type { Violated } from './workload.ts';

export interface FaultRates {
  readonly crashes_per_minute: number;
  readonly down_ms_max: number;
  /** Of crashes, the tower's. */
  readonly tower_part: number;
  /** The tower alone is away, for longer than what it has told may be followed. */
  readonly outages_per_minute: number;
  readonly outage_ms_max: number;
  readonly cuts_per_minute: number;
  readonly cut_ms_max: number;
  readonly oneWay_part: number;
  /** Of cuts, those that drop UDP alone. */
  readonly udp_part: number;
  readonly weather_per_minute: number;
  readonly delay_ms_max: number;
  readonly jitter_ms_max: number;
  readonly loss_part_max: number;
  readonly doubled_part_max: number;
  readonly clockSteps_per_minute: number;
  readonly clockStep_ms_max: number;
  readonly drift_part_max: number;
  readonly revocations_per_minute: number;
  /** A class is denied between nodes, and later allowed again. */
  readonly denials_per_minute: number;
  readonly denied_ms_max: number;
  /** A host drains, by force or not, and later is back in service. */
  readonly drains_per_minute: number;
  readonly drain_ms_max: number;
  /** The root is rotated, where no rotation is under way. */
  readonly rotations_per_minute: number;
}

export const usualFaults: FaultRates = {
  crashes_per_minute: 1,
  down_ms_max: 40_000,
  tower_part: 0.15,
  outages_per_minute: 0.04,
  outage_ms_max: 300_000,
  cuts_per_minute: 3,
  cut_ms_max: 45_000,
  oneWay_part: 0.4,
  udp_part: 0.3,
  weather_per_minute: 6,
  delay_ms_max: 200,
  jitter_ms_max: 50,
  loss_part_max: 0.1,
  doubled_part_max: 0.05,
  clockSteps_per_minute: 0.5,
  clockStep_ms_max: 50_000,
  drift_part_max: 0.0005,
  revocations_per_minute: 0.1,
  denials_per_minute: 0.5,
  denied_ms_max: 90_000,
  drains_per_minute: 0.5,
  drain_ms_max: 30_000,
  rotations_per_minute: 0.2,
};

export interface FaultWorld {
  readonly agenda: Agenda;
  readonly network: SimNetwork;
  readonly directory: Directory;
  readonly hosts: readonly SimHost[];
  readonly tower: SimHost;
  readonly note: (who: string, what: string) => void;
  readonly violated: Violated;
}

/** Beyond its deadline, until a drain must be over: control messages are waited for, and it looks only now and then. */
const DRAINED_MS_MAX = limits.drain_flush_ms_max + 3 * limits.drain_look_ms;
const MINUTE_MS = 60_000;

/** Plans faults of all kinds between now and `until`. */
export function planFaults(world: FaultWorld, rates: FaultRates, until: number): void {
  const { agenda } = world;
  const often = (per_minute: number, fault: () => void): void => {
    if (per_minute <= 0) return;
    const plan = (): void => {
      const at = agenda.now - Math.log(1 - agenda.random.unit()) * (MINUTE_MS / per_minute);
      if (at >= until) return;
      agenda.at(at, () => {
        fault();
        plan();
      });
    };
    plan();
  };
  often(rates.crashes_per_minute, () => {
    const host = agenda.random.unit() < rates.tower_part ? world.tower : pick(agenda.random, world.hosts);
    crash(world, host, rates.down_ms_max, until);
    const drift_part = (agenda.random.unit() * 2 - 1) * rates.drift_part_max;
    if (!host.isUp) host.clock.drift(drift_part);
  });
  often(rates.cuts_per_minute, () => cut(world, rates, until));
  often(rates.weather_per_minute, () => weather(world, rates));
  often(rates.clockSteps_per_minute, () => stepClock(world, rates));
  often(rates.revocations_per_minute, () => revoke(world));
  often(rates.outages_per_minute, () => crash(world, world.tower, rates.outage_ms_max, until));
  often(rates.denials_per_minute, () => deny(world, rates, until));
  often(rates.drains_per_minute, () => drain(world, rates, until));
  often(rates.rotations_per_minute, () => rotate(world, until));
}

/** All paths are good again, all programs run. */
export function endFaults({ hosts, network, tower, note }: FaultWorld): void {
  note('network', 'every fault is over');
  for (const one of [tower, ...hosts]) {
    for (const other of [tower, ...hosts]) if (one !== other) network.setPath(one.identity.node, other.identity.node, goodPath);
    one.start();
    one.undrain();
  }
}

function pick<Value>(random: SeededRandom, values: readonly Value[]): Value {
  return values[random.below(values.length)] as Value;
}

/** Two hosts that talk: of one site, or one of them the tower. */
function pair({ agenda, hosts, tower }: FaultWorld): [SimHost, SimHost] {
  const one = pick(agenda.random, hosts);
  const neighbours = [tower, ...hosts.filter((host) => host !== one && host.identity.site === one.identity.site)];
  const other = pick(agenda.random, neighbours);
  return agenda.random.below(2) === 0 ? [one, other] : [other, one];
}

function crash({ agenda, note }: FaultWorld, host: SimHost, down_ms_max: number, until: number): void {
  if (!host.isUp) return;
  const down_ms = agenda.random.unit() * down_ms_max;
  note(host.name, `crashes, for ${Math.round(down_ms)} ms`);
  trouble([host], agenda.now + down_ms);
  host.crash();
  agenda.at(Math.min(agenda.now + down_ms, until), () => {
    note(host.name, 'starts');
    host.start();
  });
}

function cut(world: FaultWorld, rates: FaultRates, until: number): void {
  const { agenda, network, note } = world;
  const [one, other] = pair(world);
  const cut_ms = agenda.random.unit() * rates.cut_ms_max;
  const isOneWay = agenda.random.unit() < rates.oneWay_part;
  const kind = agenda.random.unit() < rates.udp_part ? 'isUdpCut' : 'isCut';
  const set = (is: boolean): void => {
    network.setPath(one.identity.node, other.identity.node, { [kind]: is });
    if (!isOneWay) network.setPath(other.identity.node, one.identity.node, { [kind]: is });
  };
  const what = `${kind === 'isCut' ? 'everything' : 'UDP'} ${isOneWay ? 'one way' : 'both ways'}`;
  trouble([one, other], agenda.now + cut_ms);
  note('network', `${one.name} ${isOneWay ? '→' : '↔'} ${other.name} is cut: ${what}, for ${Math.round(cut_ms)} ms`);
  set(true);
  agenda.at(Math.min(agenda.now + cut_ms, until), () => {
    note('network', `${one.name} ${isOneWay ? '→' : '↔'} ${other.name} passes again`);
    set(false);
  });
}

function weather(world: FaultWorld, rates: FaultRates): void {
  const { agenda, network } = world;
  const { random } = agenda;
  const [one, other] = pair(world);
  network.setPath(one.identity.node, other.identity.node, {
    delay_ms: 1 + random.unit() * rates.delay_ms_max,
    jitter_ms: random.unit() * rates.jitter_ms_max,
    loss_part: random.unit() * rates.loss_part_max,
    doubled_part: random.unit() * rates.doubled_part_max,
  });
}

function stepClock({ agenda, hosts, note }: FaultWorld, { clockStep_ms_max }: FaultRates): void {
  const host = pick(agenda.random, hosts);
  const ms = Math.round((agenda.random.unit() * 2 - 1) * clockStep_ms_max);
  note(host.name, `its clock is set to be off by ${ms} ms`);
  trouble([host], Number.POSITIVE_INFINITY);
  host.clock.set(ms);
}

function revoke({ agenda, hosts, directory, tower, note }: FaultWorld): void {
  const { node } = pick(agenda.random, hosts).identity;
  if (directory.revokedAt(node) !== null) return;
  note('tower', `revokes ${node}`);
  directory.revoke(node, agenda.now);
  tower.directoryChanged();
}

function deny({ agenda, directory, tower, note }: FaultWorld, { denied_ms_max }: FaultRates, until: number): void {
  const cls = pick(agenda.random, trafficClassNames);
  const denied_ms = agenda.random.unit() * denied_ms_max;
  if (cls === TOWER_CLASS || directory.isDenied(cls)) return;
  note('tower', `denies ${cls} between nodes, for ${Math.round(denied_ms)} ms`);
  directory.deny(cls);
  tower.directoryChanged();
  agenda.at(Math.min(agenda.now + denied_ms, until), () => {
    note('tower', `allows ${cls} again`);
    directory.allow(cls);
    tower.directoryChanged();
  });
}

function drain({ agenda, hosts, tower, note, violated }: FaultWorld, { drain_ms_max, tower_part }: FaultRates, until: number): void {
  const { random } = agenda;
  const host = random.unit() < tower_part ? tower : pick(random, hosts);
  const { mesh } = host;
  if (mesh === null || host.isDraining) return;
  const request = { deadline_ms: random.unit() * drain_ms_max, force: random.below(2) === 0 };
  const isThere = (): boolean => host.mesh === mesh && host.isDraining;
  note(host.name, `drains within ${Math.round(request.deadline_ms)} ms${request.force ? ', by force' : ''}`);
  trouble([host], Number.POSITIVE_INFINITY);
  host.drain(request);
  const over = agenda.now + request.deadline_ms + DRAINED_MS_MAX;
  agenda.at(over, () => {
    if (!isThere()) return;
    const { state, flows } = mesh.drainStatus;
    const isOver = state === 'drained' || (state === 'overdue' && !request.force);
    if (!isOver) violated(`${host.name} has not drained by its deadline: ${state}, ${flows} flows`);
  });
  agenda.at(Math.min(over + random.unit() * drain_ms_max, until), () => {
    if (!isThere()) return;
    note(host.name, 'is back in service');
    host.undrain();
  });
}

/** What happens to their channels until then, and what was begun before, may have this reason. */
function trouble(hosts: readonly SimHost[], until: number): void {
  for (const host of hosts) host.troubledUntil = Math.max(host.troubledUntil, until);
}
