/**
 * The classes of traffic and the kinds of flow (spec 5.4, 5.5): one table that scheduler, governor, lanes and policy read.
 * Nothing else in the product says how a class is treated.
 */

export type FlowKind = 'stream' | 'messages' | 'latest' | 'datagrams';

export interface ClassRow {
  /** Its number in frames and in the hello's bit set; never reused. */
  readonly wire: number;
  /** 0 and 1 are strict, in this order; 2 shares what is left by weight, with a floor for everyone. */
  readonly tier: 0 | 1 | 2;
  readonly weight: number;
  /** Bulk goes on the bulk lane, is paced by the governor, and gives way. */
  readonly bulk: boolean;
  /** A person waits for it: while such a flow is open (and shortly after), the governor is on. */
  readonly interactive: boolean;
  /** Keeps the mesh together: begins also while an end drains. */
  readonly essential?: boolean;
  /** Its sender holds back by itself what would be late: the receiver's credit is only about memory, and as wide as a long path needs from the first acknowledgement on. */
  readonly wide?: boolean;
  /** How often a channel that carries it shows that it lives (spec 7.2). */
  readonly cadence: 'active' | 'realtime' | 'storage';
  readonly kinds: readonly FlowKind[];
}

const reliable = ['stream', 'messages'] as const;

export const trafficClasses = {
  fabric_control: { wire: 0, tier: 0, weight: 1, bulk: false, interactive: false, essential: true, cadence: 'active', kinds: reliable },
  input: { wire: 5, tier: 0, weight: 1, bulk: false, interactive: true, cadence: 'realtime', kinds: reliable },
  route_control: { wire: 1, tier: 1, weight: 1, bulk: false, interactive: false, essential: true, cadence: 'active', kinds: reliable },
  health: { wire: 2, tier: 1, weight: 1, bulk: false, interactive: false, essential: true, cadence: 'active', kinds: reliable },
  render: { wire: 4, tier: 2, weight: 32, bulk: false, interactive: true, cadence: 'realtime', kinds: ['latest', 'stream', 'messages'] },
  clipboard: { wire: 6, tier: 2, weight: 16, bulk: false, interactive: false, cadence: 'active', kinds: reliable },
  telemetry: { wire: 3, tier: 2, weight: 8, bulk: false, interactive: false, cadence: 'active', kinds: reliable },
  vpn_packet: { wire: 10, tier: 2, weight: 8, bulk: true, interactive: false, wide: true, cadence: 'active', kinds: ['stream', 'datagrams'] },
  file_transfer: { wire: 7, tier: 2, weight: 4, bulk: true, interactive: false, cadence: 'storage', kinds: reliable },
  storage_fetch: { wire: 8, tier: 2, weight: 4, bulk: true, interactive: false, cadence: 'storage', kinds: reliable },
  update_fetch: { wire: 9, tier: 2, weight: 2, bulk: true, interactive: false, cadence: 'storage', kinds: reliable },
} as const satisfies Record<string, ClassRow>;

export type TrafficClass = keyof typeof trafficClasses;

export const trafficClassNames = Object.keys(trafficClasses) as TrafficClass[];

export function classRow(name: TrafficClass): ClassRow {
  return trafficClasses[name];
}

export function classAllowsKind(name: TrafficClass, kind: FlowKind): boolean {
  return classRow(name).kinds.includes(kind);
}

const nameByWire = new Map<number, TrafficClass>(trafficClassNames.map((name) => [trafficClasses[name].wire, name]));

export function classOfWire(wire: number): TrafficClass | null {
  return nameByWire.get(wire) ?? null;
}

/** A set of classes as the hello's bits. */
export function classBits(names: readonly TrafficClass[]): number {
  return names.reduce((bits, name) => bits | (1 << trafficClasses[name].wire), 0);
}

/** Bits that this version does not know are a newer peer's classes: left out. */
export function classesOfBits(bits: number): TrafficClass[] {
  return trafficClassNames.filter((name) => (bits & (1 << trafficClasses[name].wire)) !== 0);
}

const kindNumbers: Record<FlowKind, number> = { stream: 0, messages: 1, latest: 2, datagrams: 3 };
const kindNames = Object.keys(kindNumbers) as FlowKind[];

export function kindNumber(kind: FlowKind): number {
  return kindNumbers[kind];
}

export function kindOfNumber(number: number): FlowKind | null {
  return kindNames[number] ?? null;
}

/** The transport's priority of a class's streams: larger leaves first, equal ones take turns. Control frames (flow 0) stand above all. */
export const CONTROL_PRIORITY = 100;
/** Of a flow that has waited for its turn long enough: nobody's octets stand before its own, else what the scheduler gives it would starve below. */
export const OVERDUE_PRIORITY = 90;

/** Tiers alone: within one it is the scheduler that shares, by what it hands over. */
export function streamPriority(name: TrafficClass): number {
  return ([OVERDUE_PRIORITY, 80, 50] as const)[classRow(name).tier];
}
