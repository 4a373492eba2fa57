/** `policy`: a class is denied while flows of it and of another class are under way; how soon the one is cut, and whether the other notices. */
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import type { ChannelStatus, PingRun } from '../fleet.ts';
import { nameOf } from '../schema.ts';
import { round } from '../units.ts';
import { defineStep, judge, type World } from './step.ts';

const parameters = Type.Object(
  {
    from: Type.Optional(nameOf('node', 'a node')),
    to: Type.Optional(nameOf('node', 'a node of the same site')),
    cut_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
    lost_pings_max: Type.Optional(Type.Integer({ minimum: 0, description: 'echoes of the class that stays allowed' })),
  },
  { additionalProperties: false, description: 'from, to, cut_ms_max, lost_pings_max' },
);

const POLICY = 'lab-no-clipboard';
const PINGS = 300;
const INTERVAL_MS = 20;
const READY_MS = 20_000;
const POLL_MS = 5;
/** A turn of the hand between two commands. */
const AGAIN_MS = 100;

export const policy = defineStep(
  'policy',
  'class clipboard is denied while echoes of it and of class input pass between two nodes: the one is cut, the other loses nothing, and allowed again it works again',
  parameters,
  async (world, { from = 'a', to = 'b', cut_ms_max = 500, lost_pings_max = 0 }) => {
    const fleet = world.fleet();
    await fleet.established(from, to, READY_MS);
    const denied = fleet.ping(from, to, { count: 100_000, interval_ms: INTERVAL_MS, class: 'clipboard' });
    const kept = fleet.ping(from, to, { count: PINGS, interval_ms: INTERVAL_MS });
    try {
      await flowing(world, [denied, kept]);
      const before_ms = performance.now();
      const body = { name: POLICY, effect: 'deny', classes: ['clipboard'] };
      await fleet.ask(fleet.tower.name, 'POST', '/v1/policies', { body });
      const cut_ms =
        Math.max(...(await Promise.all([from, to].map((host) => cutAt(world, host, host === from ? to : from, before_ms + READY_MS))))) - before_ms;
      world.say(`clipboard is cut after ${round(cut_ms)} ms`);
      const again = await fleet.atNode(from, ['ping', to, '--class', 'clipboard', '--count', '1']);
      const explained = await fleet.atNode(from, ['policy', 'explain', from, to, 'clipboard']);
      const lost = PINGS - (await kept.ended).length;
      await fleet.ask(fleet.tower.name, 'DELETE', `/v1/policies/${POLICY}`, { headers: { 'if-match': '*' } });
      const allowed_ms = await allowedAfter(world, from, to);
      return judge(
        {
          cut_ms: round(cut_ms),
          lost_pings: lost,
          pings: PINGS,
          refused_code: again.code ?? 'none',
          decided_by: String(explained.facts.name),
          allowed_ms: round(allowed_ms),
        },
        [
          [`the flow of the denied class is cut at both ends within ${cut_ms_max} ms`, cut_ms <= cut_ms_max],
          ['another is refused with channel_class_denied', again.code === 'channel_class_denied'],
          ['the node says which policy did it', explained.facts.name === POLICY && explained.facts.allowed === false],
          [`the other class loses at most ${lost_pings_max} echoes`, lost <= lost_pings_max],
        ],
      );
    } finally {
      denied.stop();
      kept.stop();
    }
  },
);

/** Until each has had its first answer. @throws lab_failed */
async function flowing(world: World, runs: readonly PingRun[]): Promise<void> {
  const until_ms = performance.now() + READY_MS;
  while (!runs.every(({ samples }) => samples.length > 0)) {
    if (performance.now() > until_ms) throw new SelvedgeError('lab_failed', { why: 'no echo comes back before anything is denied' });
    await pause(POLL_MS, undefined, { signal: world.signal });
  }
}

/** When `host` had no flow of the class with its peer any more. @throws lab_failed */
async function cutAt(world: World, host: string, peer: string, until_ms: number): Promise<number> {
  for (;;) {
    const { channels } = (await world.fleet().ask(host, 'GET', '/v1/channels')) as { channels: readonly ChannelStatus[] };
    const now_ms = performance.now();
    if (channels.find(({ name }) => name === peer)?.classes.includes('clipboard') === false) return now_ms;
    if (now_ms > until_ms) throw new SelvedgeError('lab_failed', { why: `${host} still has a flow of class clipboard` });
    await pause(POLL_MS, undefined, { signal: world.signal });
  }
}

/** From when the policy is gone until an echo of the class comes back. @throws lab_failed */
async function allowedAfter(world: World, from: string, to: string): Promise<number> {
  const began_ms = performance.now();
  for (;;) {
    const answer = await world.fleet().atNode(from, ['ping', to, '--class', 'clipboard', '--count', '1']);
    if (answer.ok) return performance.now() - began_ms;
    if (performance.now() - began_ms > READY_MS) throw new SelvedgeError('lab_failed', { why: `class clipboard does not work again: ${answer.text}` });
    await pause(AGAIN_MS, undefined, { signal: world.signal });
  }
}
