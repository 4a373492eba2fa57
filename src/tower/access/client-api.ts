/**
 * What callers of scope client may discover: exactly what the snapshot of the node that asks says, cut by the same function, so that there is no second
 * opinion of who may know whom. Who is no node is told nothing here.
 */
import { Type } from 'typebox';
import { client } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { Label, NodeId } from '../../enroll/shapes.ts';
import type { Snapshot } from '../../enroll/wire.ts';
import type { Tower } from '../tower.ts';

const PeerSchema = Type.Object({ id: NodeId, name: Label, site: Label });

export function clientRoutes(api: Api, tower: Tower): void {
  const schema = { querystring: PageQuery, response: { 200: pageOf(PeerSchema), '4xx': ErrorSchema, '5xx': ErrorSchema } };
  api.get('/v1/client/peers', { ...client, schema }, async ({ query, caller }) => {
    const peers: Snapshot['peers'] = caller.node === undefined ? [] : (await tower.known(caller.node)).peers;
    return await readPage(
      query,
      async ({ after, limit }) => peers.filter(({ id }) => after === null || id > after).slice(0, limit),
      ({ id }) => id,
      ({ id, name, site }) => ({ id, name, site }),
    );
  });
}
