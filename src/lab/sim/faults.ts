/** What goes wrong in a simulation: how much of it, as numbers with their units, and when, drawn from the seed. */
import type { SeededRandom } from './agenda.ts';
import { TOWER } from './directory.ts';
import type { SimHost } from './host.ts';
import { goodPath, type SimNetwork } from './network.ts';
import type { Agenda } from './agenda.ts';
import type { Directory } from './directory.ts';

export interface FaultRates {
  readonly crashes_per_minute: number;
  readonly down_ms_max: number;
  /** Of crashes, the tower's. */
  readonly tower_part: number;
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
}

export const usualFaults: FaultRates = {
  crashes_per_minute: 1,
  down_ms_max: 40_000,
  tower_part: 0.15,
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
  clockStep_ms_max: 3_600_000,
  drift_part_max: 0.0005,
  revocations_per_minute: 0.1,
};

export interface FaultWorld {
  readonly agenda: Agenda;
  readonly network: SimNetwork;
  readonly directory: Directory;
  readonly hosts: readonly SimHost[];
  readonly tower: SimHost;
  readonly note: (who: string, what: string) => void;
}

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
  often(rates.crashes_per_minute, () => crash(world, rates, until));
  often(rates.cuts_per_minute, () => cut(world, rates, until));
  often(rates.weather_per_minute, () => weather(world, rates));
  often(rates.clockSteps_per_minute, () => stepClock(world, rates));
  often(rates.revocations_per_minute, () => revoke(world));
}

/** All paths are good again, all programs run. */
export function endFaults({ hosts, network, tower, note }: FaultWorld): void {
  note('network', 'every fault is over');
  for (const one of [tower, ...hosts]) {
    for (const other of [tower, ...hosts]) if (one !== other) network.setPath(one.identity.node, other.identity.node, goodPath);
    one.start();
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

function crash(world: FaultWorld, rates: FaultRates, until: number): void {
  const { agenda, hosts, tower, note } = world;
  const host = agenda.random.unit() < rates.tower_part ? tower : pick(agenda.random, hosts);
  if (!host.isUp) return;
  const down_ms = agenda.random.unit() * rates.down_ms_max;
  note(host.name, `crashes, for ${Math.round(down_ms)} ms`);
  host.crash();
  host.driftClock((agenda.random.unit() * 2 - 1) * rates.drift_part_max);
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
  note(host.name, `its clock is set by ${ms} ms`);
  host.stepClock(ms);
}

function revoke({ agenda, hosts, directory, tower, note }: FaultWorld): void {
  const { node } = pick(agenda.random, hosts).identity;
  if (node === TOWER.node || directory.revokedAt(node) !== null) return;
  note('tower', `revokes ${node}`);
  directory.revoke(node, agenda.now);
  tower.directoryChanged();
}
