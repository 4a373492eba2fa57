/** `rotate`: nodes get a new certificate while they talk; whether any of their channels notices. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { round } from '../units.ts';
import { defineStep, judge, type World } from './step.ts';

const parameters = Type.Object(
  { lost_pings_max: Type.Optional(Type.Integer({ minimum: 0, description: 'echoes' })) },
  { additionalProperties: false, description: 'lost_pings_max' },
);

const PINGS = 150;
const INTERVAL_MS = 20;
const READY_MS = 20_000;

export const rotate = defineStep(
  'rotate',
  'every node renews its certificate while echoes pass; no channel is dropped',
  parameters,
  async (world, { lost_pings_max = 0 }) => {
    const fleet = world.fleet();
    const names = fleet.nodes.map(({ name }) => name);
    for (const name of names) await fleet.established(name, fleet.tower.name, READY_MS);
    const hosts = [fleet.tower.name, ...names];
    const before = await Promise.all(hosts.map((host) => endedChannels(world, host)));
    const pings = names.map((name) => fleet.ping(name, fleet.tower.name, { count: PINGS, interval_ms: INTERVAL_MS }));
    const began_ms = performance.now();
    const renewed = await Promise.all(names.map((name) => fleet.atNode(name, ['renew'])));
    const renew_ms = performance.now() - began_ms;
    const failed = renewed.find((answer) => !answer.ok);
    if (failed) throw new SelvedgeError('lab_failed', { why: `renew: ${failed.text}` });
    const answered = await Promise.all(pings.map(({ ended }) => ended));
    const after = await Promise.all(hosts.map((host) => endedChannels(world, host)));
    const dropped = after.reduce((sum, count, index) => sum + count - (before[index] ?? 0), 0);
    const lost = answered.reduce((sum, samples) => sum + PINGS - samples.length, 0);
    const fresh = renewed.filter(({ facts }) => facts.before !== facts.now).length;
    return judge({ dropped, lost_pings: lost, pings: names.length * PINGS, renewed: fresh, renew_ms: round(renew_ms) }, [
      ['no channel is dropped', dropped === 0],
      [`at most ${lost_pings_max} echoes are lost`, lost <= lost_pings_max],
      ['every node has another certificate', fresh === names.length],
    ]);
  },
);

/** How many channels of a host have ended so far, by its own log. */
export async function endedChannels(world: World, host: string): Promise<number> {
  const log = await readFile(join(world.lab.directory, `${host}.log`), 'utf8');
  return log.split('\n').filter((line) => /"msg":"(channel ended|channel revalidation failed|session lost)"/.test(line)).length;
}
