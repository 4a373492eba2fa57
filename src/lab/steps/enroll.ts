/** `enroll`: a cluster is made, its nodes join by one token of as many uses, and one more attempt is refused. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import type { Answer } from '../fleet.ts';
import { defineStep, judge } from './step.ts';

const parameters = Type.Object(
  { cluster: Type.Optional(Type.String({ pattern: '^[a-z][a-z0-9-]{0,30}$', description: 'the name of the cluster' })) },
  { additionalProperties: false, description: 'cluster' },
);

export const enroll = defineStep(
  'enroll',
  'makes a cluster; every node joins by one token; one join more is refused',
  parameters,
  async (world, { cluster = 'edge' }) => {
    const fleet = world.fleet();
    required('tower init', await fleet.initTower(cluster));
    world.say(`cluster ${cluster} made, root ${fleet.fingerprint}`);
    await fleet.startTower();
    world.say(`tower listens on ${fleet.towerAddress}:443, TCP and UDP`);

    const token = required('token create', await fleet.createToken(fleet.nodes.length));
    const tokenFile = join(world.lab.directory, 'token');
    await writeFile(tokenFile, `${String(token.facts.token)}\n`, { mode: 0o600 });
    world.say(`a token of ${fleet.nodes.length} uses`);

    let joined = 0;
    for (const node of fleet.nodes) {
      required(`join of ${node.name}`, await fleet.join(node.name, tokenFile, node.name, node.site ?? 'none', fleet.stateOf(node.name)));
      joined += 1;
      world.say(`${node.name} joined site ${node.site}`);
    }
    const [first] = fleet.nodes;
    const once = first ? await fleet.join(first.name, tokenFile, 'one-too-many', first.site ?? 'none', fleet.stateOf('one-too-many')) : null;
    world.say(`one join more: ${once?.code ?? 'was not refused'}`);
    return judge({ nodes: joined, refused_code: once?.code ?? null }, [
      ['the join beyond the limit is refused with token_exhausted', once?.code === 'token_exhausted'],
    ]);
  },
  { essential: true },
);

function required(what: string, answer: Answer): Answer {
  if (!answer.ok) throw new SelvedgeError('lab_failed', { why: `${what}: ${answer.text || answer.code || 'no message'}` });
  return answer;
}
