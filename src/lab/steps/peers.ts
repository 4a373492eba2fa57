/** `peers`: the nodes of one site hold a direct channel. */
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { nameOf } from '../schema.ts';
import { percentile } from '../measure.ts';
import { round } from '../units.ts';
import { defineStep, judge } from './step.ts';

const parameters = Type.Object(
  {
    from: Type.Optional(nameOf('node', 'a node')),
    to: Type.Optional(nameOf('node', 'a node of the same site')),
    rtt_ms_max: Type.Optional(Type.Number({ minimum: 0, description: 'milliseconds that the median may take' })),
  },
  { additionalProperties: false, description: 'from, to, rtt_ms_max' },
);

export const peers = defineStep(
  'peers',
  'two nodes of one site hold a direct channel, not by way of the tower',
  parameters,
  async (world, { from, to, rtt_ms_max = 10 }) => {
    const fleet = world.fleet();
    const pair = fleet.nodes.flatMap((left) =>
      fleet.nodes.filter((right) => right !== left && right.site === left.site).map((right) => [left.name, right.name] as const),
    );
    const [first, second] = pair.find(([left, right]) => left === (from ?? left) && right === (to ?? right)) ?? [];
    if (first === undefined || second === undefined) throw new SelvedgeError('lab_failed', { why: 'no two nodes share a site' });
    const channel = await fleet.established(first, second, 20_000);
    world.say(`${first} and ${second} are connected on ${channel.transport}`);
    const samples = await fleet.ping(first, second, { count: 50, interval_ms: 20 }).ended;
    const rtt_ms_p50 = round(
      percentile(
        samples.map((sample) => sample.rtt_ms),
        0.5,
      ),
      2,
    );
    world.say(`${rtt_ms_p50} ms there and back`);
    return judge({ rtt_ms_p50, transport: channel.transport }, [[`the median round trip is within ${rtt_ms_max} ms`, rtt_ms_p50 <= rtt_ms_max]]);
  },
);
