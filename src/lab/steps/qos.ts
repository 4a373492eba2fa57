/** `qos_quic`, `qos_tcp`: echoes of class `input`, first alone, then beside a file sent at full speed. */
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { nameOf } from '../schema.ts';
import { percentile, type RttSample, rateBetween } from '../measure.ts';
import { bottleneckOf } from '../paths.ts';
import { round } from '../units.ts';
import { defineStep, judge, type Step, type StepResult, type World } from './step.ts';
import { Transfer } from './transfer.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'a node')),
    idle_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 600, description: 'seconds, 1 to 600' })),
    loaded_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 600, description: 'seconds, 1 to 600' })),
    added_p50_ms_max: Type.Optional(Type.Number({ minimum: 0, description: 'milliseconds' })),
    added_p99_ms_max: Type.Optional(Type.Number({ minimum: 0, description: 'milliseconds' })),
    bulk_part_min: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'a share of the line, 0 to 1' })),
  },
  { additionalProperties: false, description: 'node, idle_s, loaded_s, added_p50_ms_max, added_p99_ms_max, bulk_part_min' },
);

/** Echoes a second: a hand on a keyboard and a mouse. */
const PINGS_PER_SECOND = 50;
/** Between two looks at the file: its rate over seconds is wanted, and looking takes time from what is measured. */
const LOOK_MS = 50;
/** The file goes on a little longer than the echoes, so that they are never alone. */
const TAIL_S = 2;

export interface QosFigures {
  readonly idle: readonly RttSample[];
  readonly loaded: readonly RttSample[];
  readonly bulk_mbit: number;
}

/** The measurement itself, for the report's "before" as well. */
export async function measureQos(world: World, node: string, run: string, title: string, idle_s: number, loaded_s: number): Promise<QosFigures> {
  const fleet = world.fleet();
  const { mbit } = bottleneckOf(world.lab.topology, node);
  const bytes = Math.round((mbit * 1e6 * (loaded_s + TAIL_S)) / 8);
  const transfer = await Transfer.prepare(world, node, `qos-${node}.bin`, bytes, LOOK_MS);
  const start_ms = performance.now();
  const pings = (seconds: number) => fleet.ping(node, fleet.tower.name, { count: seconds * PINGS_PER_SECOND, interval_ms: 1000 / PINGS_PER_SECOND });
  try {
    const idle = await pings(idle_s).ended;
    transfer.start();
    await transfer.reached(1, 15_000);
    const from = performance.now();
    world.say(`idle ${describe(idle)}; now beside ${round(bytes / 1e6)} MB of file_transfer`);
    const loaded = await pings(loaded_s).ended;
    const to = performance.now();
    const bulk_mbit = rateBetween(transfer.growth.progress, from, Math.min(to, from + loaded_s * 1000));
    const marks = [{ at_ms: from, label: 'file starts' }];
    world.trace.add(run, { node, title, line_mbit: mbit, input: [...idle, ...loaded], progress: transfer.growth.progress, marks, start_ms, end_ms: to });
    world.say(`loaded ${describe(loaded)}; file at ${round(bulk_mbit)} of ${round(mbit)} Mbit/s`);
    return { idle, loaded, bulk_mbit };
  } finally {
    await transfer.close();
  }
}

function qosStep(name: string, transport: 'quic' | 'tcp'): Step {
  const about = `input echoes over ${transport === 'quic' ? 'QUIC' : 'TCP'}, idle and then beside a file at full speed`;
  return defineStep(name, about, parameters, async (world, given): Promise<StepResult> => {
    const { idle_s = 10, loaded_s = 30, added_p50_ms_max = 3, added_p99_ms_max = 10, bulk_part_min = 0.9 } = given;
    const node = given.node ?? (await nodeOn(world, transport));
    const { mbit } = bottleneckOf(world.lab.topology, node);
    const { idle, loaded, bulk_mbit } = await measureQos(world, node, name, `${node} on ${transport.toUpperCase()}, with the governor`, idle_s, loaded_s);
    const [idle50, idle99, loaded50, loaded99] = [at(idle, 0.5), at(idle, 0.99), at(loaded, 0.5), at(loaded, 0.99)];
    const channel = await world.fleet().established(node, world.fleet().tower.name, 5_000);
    const figures = {
      node,
      idle_ms_p50: round(idle50, 2),
      idle_ms_p99: round(idle99, 2),
      loaded_ms_p50: round(loaded50, 2),
      loaded_ms_p99: round(loaded99, 2),
      bulk_mbit: round(bulk_mbit, 2),
      line_mbit: mbit,
    };
    return judge(figures, [
      [`the channel is on ${transport}`, channel.transport === transport],
      [`the file adds at most ${added_p50_ms_max} ms to the median`, loaded50 - idle50 <= added_p50_ms_max],
      [`the file adds at most ${added_p99_ms_max} ms to the 99th percentile`, loaded99 - idle99 <= added_p99_ms_max],
      [`the file gets at least ${bulk_part_min * 100} % of the line`, bulk_mbit >= bulk_part_min * mbit],
    ]);
  });
}

export const qosQuic = qosStep('qos_quic', 'quic');
export const qosTcp = qosStep('qos_tcp', 'tcp');

async function nodeOn(world: World, transport: string): Promise<string> {
  const fleet = world.fleet();
  for (const node of fleet.nodes) {
    const channel = (await fleet.channels(node.name)).find((entry) => entry.name === fleet.tower.name);
    if (channel?.transport === transport) return node.name;
  }
  throw new SelvedgeError('lab_failed', { why: `no node reaches the tower on ${transport}` });
}

function at(samples: readonly RttSample[], part: number): number {
  return percentile(
    samples.map((sample) => sample.rtt_ms),
    part,
  );
}

function describe(samples: readonly RttSample[]): string {
  return `p50 ${round(at(samples, 0.5), 1)} ms, p99 ${round(at(samples, 0.99), 1)} ms`;
}
