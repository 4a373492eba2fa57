/** `restart_tower`: the tower is killed in mid-transfer and started again; every channel returns and the file arrives right. */
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { nameOf } from '../schema.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { defineStep, judge, type World } from './step.ts';
import { Transfer } from './transfer.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'a node')),
    file_mib: Type.Optional(Type.Integer({ minimum: 1, maximum: 4096, description: 'MiB, 1 to 4096' })),
    back_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
  },
  { additionalProperties: false, description: 'node, file_mib, back_ms_max' },
);

const KILL_AT_PART = 0.3;
/** A sender that lost its daemon's channel may give up and be started again; more often than this it is broken. */
const RETRIES_MAX = 3;
const ONE_PING_MS = 1_500;

export const restartTower = defineStep(
  'restart_tower',
  'the tower is killed with SIGKILL in mid-transfer and started again',
  parameters,
  async (world, given) => {
    const { file_mib = 32, back_ms_max = 15_000 } = given;
    const fleet = world.fleet();
    const node = given.node ?? fleet.nodes[0]?.name ?? '';
    const transfer = await Transfer.prepare(world, node, `restart-${node}.bin`, file_mib * 1024 * 1024);
    try {
      transfer.start();
      await transfer.reached(transfer.bytes * KILL_AT_PART, 60_000);
      await fleet.kill(fleet.tower.name);
      world.say(`tower killed with ${Math.round(KILL_AT_PART * 100)} % of the file there`);
      await fleet.startTower();
      const started = performance.now();
      const back = await Promise.all(
        fleet.nodes.map(async (each) => [each.name, Math.round((await echoed(world, each.name, started + back_ms_max * 2)) - started)] as const),
      );
      for (const [name, ms] of back) world.say(`${name} is back ${ms} ms after the tower listens again`);
      const arrival = await transfer.finish(120_000, RETRIES_MAX);
      const back_ms_worst = Math.max(...back.map(([, ms]) => ms));
      const figures = {
        back_ms_max: back_ms_worst,
        back_ms: Object.fromEntries(back),
        sha256_equal: arrival.sha256_equal,
        lost_bytes: arrival.lost_bytes,
        resent: transfer.retries,
      };
      return judge(figures, [
        [`every channel is back within ${back_ms_max} ms`, back_ms_worst <= back_ms_max],
        ['the file arrived as it was sent', arrival.sha256_equal],
      ]);
    } finally {
      await transfer.close();
    }
  },
);

/** When an echo first came back: the old tower knew nothing of it, so only a channel to the new one can bring it. */
async function echoed(world: World, node: string, until_ms: number): Promise<number> {
  const fleet = world.fleet();
  for (;;) {
    const at = await fleet.pingOnce(node, fleet.tower.name, ONE_PING_MS);
    if (at !== null) return at;
    if (performance.now() > until_ms) throw new SelvedgeError('lab_failed', { why: `${node} did not come back to the tower` });
    await pause(50, undefined, { signal: world.signal });
  }
}
