/** `unseal`: a node whose store is sealed with the site's token is killed while the tower is away, and comes back with its site's help; revoked, it does not. */
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { nameOf } from '../schema.ts';
import { defineStep, judge, type World } from './step.ts';

const parameters = Type.Object(
  {
    node: Type.Optional(nameOf('node', 'the node that is killed; in the end it is revoked')),
    peer: Type.Optional(nameOf('node', 'a node of its site that listens, to which its channel comes back')),
    back_ms_max: Type.Optional(Type.Integer({ minimum: 1, description: 'milliseconds' })),
  },
  { additionalProperties: false, description: 'node, peer, back_ms_max' },
);

const READY_MS = 20_000;
const REFUSED_MS = 10_000;

export const unseal = defineStep(
  'unseal',
  'the tower is away and a node is killed: it comes back with the help of its site, and once revoked it does not',
  parameters,
  async (world, { node = 'd', peer = 'a', back_ms_max = 10_000 }) => {
    const fleet = world.fleet();
    const tower = fleet.tower.name;
    await fleet.admit(node);
    await fleet.established(node, peer, READY_MS);
    await fleet.holdsSiteToken(node, READY_MS);
    await fleet.resealToSite(node);
    const first = await fleet.restart(node);
    world.say(`${node} is sealed with its site's token; unsealed by ${first.unsealed_by} after ${first.after_ms} ms`);
    await fleet.established(node, peer, READY_MS);
    await fleet.holdsSiteToken(peer, READY_MS);

    await fleet.kill(tower);
    await fleet.kill(node);
    const killed = performance.now();
    const second = await fleet.restart(node);
    await fleet.established(node, peer, back_ms_max);
    const back_ms = Math.round(performance.now() - killed);
    const helper = await nameOfNode(world, peer, second.unsealed_by);
    world.say(`tower away: ${node} is unsealed by ${helper}, its channel to ${peer} is back after ${back_ms} ms`);

    await fleet.startTower();
    await fleet.established(node, tower, READY_MS);
    await fleet.established(peer, tower, READY_MS);
    const revoked = await fleet.atTower(['node', 'revoke', node]);
    if (!revoked.ok) throw new SelvedgeError('lab_failed', { why: `node revoke ${node}: ${revoked.text}` });
    await fleet.forgets(peer, node, READY_MS);
    await fleet.kill(node);
    const byTower = await fleet.refusedStart(node, tower, REFUSED_MS);
    await fleet.kill(tower);
    const bySite = await fleet.refusedStart(node, null, REFUSED_MS);
    await fleet.startTower();
    await fleet.established(peer, tower, READY_MS);
    world.say(`revoked: ${byTower} by the tower, ${bySite} by its site`);
    return judge({ unsealed_by: helper, back_ms, revoked_by_tower: byTower, revoked_by_site: bySite }, [
      ['with the tower there, the tower says the key', first.unsealed_by === 'tower'],
      ['with the tower away, a node of the site says it', second.unsealed_by !== 'tower' && second.unsealed_by !== ''],
      [`the channel to ${peer} is back within ${back_ms_max} ms`, back_ms <= back_ms_max],
      ['the tower refuses it once it is revoked', byTower === 'certificate_revoked'],
      ['so does its site', bySite === 'certificate_revoked'],
    ]);
  },
);

/** The helper's name, as the peer knows it; the peer itself is not among its own channels. */
async function nameOfNode(world: World, peer: string, id: string): Promise<string> {
  const channels = await world.fleet().channels(peer);
  return channels.find((channel) => channel.peer === id)?.name ?? peer;
}
