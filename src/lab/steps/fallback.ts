/** `fallback`: UDP is dropped in mid-transfer and passes again later; the file never notices. */
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { nameOf } from '../schema.ts';
import { longestGap } from '../measure.ts';
import { bottleneckOf, gatewaysOf } from '../paths.ts';
import { round } from '../units.ts';
import { defineStep, judge, type World } from './step.ts';
import { Transfer } from './transfer.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'a node on QUIC')),
    at: Type.Optional(nameOf('host', 'the host that drops UDP; the node’s gateway unless given')),
    file_mib: Type.Optional(Type.Integer({ minimum: 1, maximum: 4096, description: 'MiB, 1 to 4096' })),
    blocked_s: Type.Optional(Type.Integer({ minimum: 1, maximum: 120, description: 'seconds, 1 to 120' })),
    gap_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
    back_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
    gap_back_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
  },
  { additionalProperties: false, description: 'node, at, file_mib, blocked_s, gap_ms_max, back_ms_max, gap_back_ms_max' },
);

/** UDP goes when this much of the file is there. */
const BLOCK_AT_PART = 0.15;
/** After the channel is back on QUIC, how long a gap is still looked for. */
const AFTER_BACK_MS = 1_500;
/** How long the way back up may take before the step gives up waiting for it. */
const BACK_WAIT_MS = 15_000;

export const fallback = defineStep('fallback', 'UDP is dropped while a file is sent, and passes again later', parameters, async (world, given) => {
  const { file_mib = 128, blocked_s = 6, gap_ms_max = 500, back_ms_max = 5_000, gap_back_ms_max = 100 } = given;
  const fleet = world.fleet();
  const node = given.node ?? fleet.nodes[0]?.name ?? '';
  const at = given.at ?? gatewaysOf(world.lab.topology, node)[0]?.name ?? node;
  const { mbit } = bottleneckOf(world.lab.topology, node);
  await fleet.established(node, fleet.tower.name, 30_000, (channel) => channel.transport === 'quic');
  const transfer = await Transfer.prepare(world, node, `fallback-${node}.bin`, file_mib * 1024 * 1024);
  const start_ms = performance.now();
  const pings = fleet.ping(node, fleet.tower.name, { count: 60 * 50, interval_ms: 20 });
  try {
    transfer.start();
    await transfer.reached(transfer.bytes * BLOCK_AT_PART, 60_000);
    await world.lab.blockUdp(at, true);
    const blocked_ms = performance.now();
    world.say(`${at} drops UDP from now on`);
    await pause(blocked_s * 1000, undefined, { signal: world.signal });
    const onTcp = transfer.send.progress.at(-1)?.transport;
    await world.lab.blockUdp(at, false);
    const passes_ms = performance.now();
    const gap_ms = longestGap(transfer.growth.progress, blocked_ms, passes_ms);
    world.say(`the file stood still for ${Math.round(gap_ms)} ms and went on over ${onTcp}; UDP passes again`);
    const back_ms = await backOnQuic(world, node, transfer, passes_ms);
    if (back_ms !== null) await Promise.race([pause(AFTER_BACK_MS, undefined, { signal: world.signal }), transfer.send.result]);
    const last_ms = transfer.growth.progress.at(-1)?.at_ms ?? passes_ms;
    const gap_back_ms = longestGap(transfer.growth.progress, passes_ms, Math.min(last_ms, (back_ms ?? passes_ms) + AFTER_BACK_MS));
    world.say(
      back_ms === null ? 'not back on QUIC' : `back on QUIC after ${Math.round(back_ms - passes_ms)} ms, standing still for ${Math.round(gap_back_ms)} ms`,
    );
    const arrival = await transfer.finish(120_000);
    const end_ms = performance.now();
    const marks = [
      { at_ms: blocked_ms, label: 'UDP dropped' },
      { at_ms: passes_ms, label: 'UDP passes' },
      ...(back_ms === null ? [] : [{ at_ms: back_ms, label: 'back on QUIC' }]),
    ];
    world.trace.add('fallback', {
      node,
      title: `${node}: UDP goes, and comes back`,
      line_mbit: mbit,
      input: pings.samples,
      progress: transfer.growth.progress,
      marks,
      start_ms,
      end_ms,
    });
    const figures = {
      node,
      gap_ms: round(gap_ms),
      ...arrival,
      back_on_quic_ms: back_ms === null ? null : Math.round(back_ms - passes_ms),
      gap_back_ms: round(gap_back_ms),
    };
    return judge(figures, [
      ['it went on over TCP', onTcp === 'tcp'],
      [`nothing arrived for at most ${gap_ms_max} ms`, gap_ms <= gap_ms_max],
      ['no byte is lost', arrival.lost_bytes === 0 && arrival.sha256_equal],
      [`back on QUIC within ${back_ms_max} ms`, back_ms !== null && back_ms - passes_ms <= back_ms_max],
      [`nothing arrived for at most ${gap_back_ms_max} ms on the way back`, gap_back_ms <= gap_back_ms_max],
    ]);
  } finally {
    pings.stop();
    await world.lab.blockUdp(at, false);
    await transfer.close();
  }
});

/** When the sender first said that it is on QUIC again; null if it did not in time. */
async function backOnQuic(world: World, node: string, transfer: Transfer, from_ms: number): Promise<number | null> {
  while (performance.now() < from_ms + BACK_WAIT_MS) {
    const back = transfer.send.progress.find((entry) => entry.at_ms > from_ms && entry.transport === 'quic');
    if (back) return back.at_ms;
    if (!transfer.send.process.running) {
      const left = from_ms + BACK_WAIT_MS - performance.now();
      return world
        .fleet()
        .established(node, world.fleet().tower.name, left, (channel) => channel.transport === 'quic')
        .then(
          () => performance.now(),
          () => null,
        );
    }
    await pause(5, undefined, { signal: world.signal });
  }
  return null;
}
