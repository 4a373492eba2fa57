/** `degraded`: the tower is killed and stays away; two nodes of a site go on without it, say so, and are as before once it is back. */
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { limits } from '../../base/limits.ts';
import { SelvedgeError } from '../../base/errors.ts';
import type { ChannelStatus } from '../fleet.ts';
import { nameOf } from '../schema.ts';
import { defineStep, judge, type World } from './step.ts';

const parameters = Type.Object(
  {
    from: Type.Optional(nameOf('node', 'a node')),
    to: Type.Optional(nameOf('node', 'a node of the same site that it has a channel with')),
    back_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
  },
  { additionalProperties: false, description: 'from, to, back_ms_max' },
);

const PING_MS = 100;
const POLL_MS = 100;
/** Beyond the time after which a node is degraded: until the loss of the session is noticed. */
const NOTICED_MS_MAX = 20_000;
/** Whoever has tried in vain for long tries again after a random pause of at most this. */
const BACK_MS_MAX = limits.backoff_ms_max + 5_000;

export const degraded = defineStep(
  'degraded',
  'the tower is killed and stays away: nodes of a site go on without it, and are as before once it is back',
  parameters,
  async (world, { from = 'a', to = 'b', back_ms_max = BACK_MS_MAX }) => {
    const fleet = world.fleet();
    await fleet.established(from, to, back_ms_max);
    const pings = fleet.ping(from, to, { count: 1_000_000, interval_ms: PING_MS });
    try {
      const killed_ms = performance.now();
      await fleet.kill(fleet.tower.name);
      const degraded_ms = (await stateIs(world, from, to, 'degraded', limits.tower_away_ms + NOTICED_MS_MAX)) - killed_ms;
      world.say(`${from} goes on with ${to} without the tower, ${Math.round(degraded_ms)} ms after it was killed`);
      const before = pings.samples.length;
      await pause(10 * PING_MS, undefined, { signal: world.signal });
      const echoes_degraded = pings.samples.length - before;
      await fleet.startTower();
      const started_ms = performance.now();
      const back_ms = (await stateIs(world, from, to, 'established', 2 * back_ms_max)) - started_ms;
      for (const { name } of fleet.nodes) await fleet.established(name, fleet.tower.name, back_ms_max);
      const figures = { degraded_ms: Math.round(degraded_ms), echoes_degraded, back_ms: Math.round(back_ms) };
      return judge(figures, [
        [`not before the tower has been away for ${limits.tower_away_ms} ms`, degraded_ms >= limits.tower_away_ms],
        ['echoes pass between the nodes without the tower', echoes_degraded > 0],
        [`as before within ${back_ms_max} ms of the tower's start`, back_ms <= back_ms_max],
      ]);
    } finally {
      pings.stop();
      await pings.ended.catch(() => undefined);
    }
  },
);

/** When the channel was in that state. @throws lab_failed */
async function stateIs(world: World, node: string, peer: string, state: ChannelStatus['state'], within_ms: number): Promise<number> {
  const until_ms = performance.now() + within_ms;
  for (;;) {
    const found = (await world.fleet().channels(node)).find(({ name }) => name === peer)?.state;
    const now_ms = performance.now();
    if (found === state) return now_ms;
    if (now_ms > until_ms) throw new SelvedgeError('lab_failed', { why: `${node} to ${peer} is ${found ?? 'no channel'} after ${within_ms} ms, not ${state}` });
    await pause(POLL_MS, undefined, { signal: world.signal });
  }
}
