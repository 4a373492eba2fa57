/**
 * What callers of scope client may discover: exactly what the snapshot of the node that asks says, cut by the same function, so that there is no second
 * opinion of who may know whom. Who is no node is told nothing here.
 */
import { Type } from 'typebox';
import { type Caller, client } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { ServiceRule } from '../../enroll/rule-wire.ts';
import { Label, NodeId } from '../../enroll/shapes.ts';
import type { Snapshot } from '../../enroll/wire.ts';
import type { Tower } from '../tower.ts';

const PeerSchema = Type.Object({ id: NodeId, name: Label, site: Label });
const { name, protocol } = ServiceRule.properties;
const ServiceSchema = Type.Object({ name, protocol, hosted: Type.Boolean({ description: 'whether the node that asks is a host of it' }) });

export function clientRoutes(api: Api, tower: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const known = async ({ node }: Caller): Promise<Snapshot | null> => (node === undefined ? null : await tower.known(node));
  const peers = { summary: 'nodes that the caller may know', querystring: PageQuery, response: { 200: pageOf(PeerSchema), ...errors } };
  api.get('/v1/client/peers', { ...client, schema: peers }, async ({ query, caller }) =>
    readPage(
      query,
      pageIn((await known(caller))?.peers ?? [], ({ id }) => id),
      ({ id }) => id,
      ({ id, name, site }) => ({ id, name, site }),
    ),
  );
  const services = { summary: 'services that the caller may dial, or hosts', querystring: PageQuery, response: { 200: pageOf(ServiceSchema), ...errors } };
  api.get('/v1/client/services', { ...client, schema: services }, async ({ query, caller }) =>
    readPage(
      query,
      pageIn((await known(caller))?.rules?.services ?? [], ({ name }) => name),
      ({ name }) => name,
      // Hosts alone are told the target, and they have it from their snapshot.
      ({ name, protocol, target }) => ({ name, protocol, hosted: target !== undefined }),
    ),
  );
}

/** A page of what is at hand, in the order of its keys. */
function pageIn<Item>(all: readonly Item[], keyOf: (item: Item) => string) {
  return async ({ after, limit }: { readonly after: string | null; readonly limit: number }): Promise<readonly Item[]> =>
    all.filter((item) => after === null || keyOf(item) > after).slice(0, limit);
}
