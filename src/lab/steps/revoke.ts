/** `revoke`: an operator takes a node out of the cluster; how soon every channel with it is closed, and what it meets when it tries again. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import type { ChannelStatus } from '../fleet.ts';
import { nameOf } from '../schema.ts';
import { round } from '../units.ts';
import { defineStep, judge, type World } from './step.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'the node that is revoked; it stays so')),
    cut_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
  },
  { additionalProperties: false, description: 'node, cut_ms_max' },
);

const POLL_MS = 5;
const READY_MS = 20_000;
/** It dials again by itself, after a pause that grows. */
const REFUSED_MS = 15_000;

export const revoke = defineStep(
  'revoke',
  'a node is revoked: its channels close everywhere, its next handshake is refused, and so is the proof that it came with',
  parameters,
  async (world, { node = 'e', cut_ms_max = 200 }) => {
    const fleet = world.fleet();
    await fleet.admit(node);
    const { site } = world.lab.topology.hosts.get(node) ?? {};
    const peers = fleet.nodes.filter((host) => host.site === site && host.name !== node).map((host) => host.name);
    for (const peer of [fleet.tower.name, ...peers]) await fleet.established(node, peer, READY_MS);
    const before_ms = performance.now();
    await fleet.ask(fleet.tower.name, 'DELETE', `/v1/nodes/${node}`);
    const closed_ms = await Promise.all([fleet.tower.name, ...peers].map((host) => closedAt(world, host, node, before_ms + READY_MS)));
    const cut_ms = Math.max(...closed_ms) - before_ms;
    world.say(`${node} is cut off after ${round(cut_ms)} ms: by ${closed_ms.length} hosts`);
    const refused = await refusedCode(world, node);
    const again = await fleet.join(node, fleet.tokenFileOf(node), node, site ?? 'none', `${fleet.stateOf(node)}-again`);
    const others = await Promise.all(fleet.nodes.map(async ({ name }) => isUp(await fleet.channels(name), fleet.tower.name)));
    return judge({ cut_ms: round(cut_ms), channels_closed: closed_ms.length, refused_code: refused, again_code: again.code ?? 'none' }, [
      [`every channel of ${node} is closed within ${cut_ms_max} ms`, cut_ms <= cut_ms_max],
      ['its next handshake is refused with certificate_revoked', refused === 'certificate_revoked'],
      ['the token that it came with makes no other node', again.code === 'token_exhausted'],
      ['the others have their channel to the tower', others.every(Boolean)],
    ]);
  },
);

const isUp = (channels: readonly ChannelStatus[], name: string): boolean =>
  channels.some((channel) => channel.name === name && channel.state === 'established');

/** When `host` had no live channel with `node` any more. @throws lab_failed */
async function closedAt(world: World, host: string, node: string, until_ms: number): Promise<number> {
  for (;;) {
    const { channels } = (await world.fleet().ask(host, 'GET', '/v1/channels')) as { channels: readonly ChannelStatus[] };
    const now_ms = performance.now();
    if (!isUp(channels, node)) return now_ms;
    if (now_ms > until_ms) throw new SelvedgeError('lab_failed', { why: `${host} still has a channel with ${node}, which was revoked` });
    await pause(POLL_MS, undefined, { signal: world.signal });
  }
}

/** With what the node's own daemon says that its last dial ended. */
async function refusedCode(world: World, node: string): Promise<string> {
  const until_ms = performance.now() + REFUSED_MS;
  for (;;) {
    const log = await readFile(join(world.lab.directory, `${node}.log`), 'utf8');
    const refusal = log.split('\n').findLast((line) => line.includes('"dial failed"') && line.includes('certificate_revoked'));
    if (refusal !== undefined) return 'certificate_revoked';
    if (performance.now() > until_ms) return 'none';
    await pause(POLL_MS, undefined, { signal: world.signal });
  }
}
