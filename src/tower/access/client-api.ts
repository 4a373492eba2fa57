/**
 * What callers of scope client may discover, without a word of addresses or sites (spec 13.3). A node: exactly what its snapshot says, cut by the same function, so that
 * there is no second opinion of who may know whom. Who is of a tenant: that tenant's nodes and services. Who is neither is told nothing here.
 */
import { type Static, Type } from 'typebox';
import { type Caller, client } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { ServiceRule } from '../../enroll/rule-wire.ts';
import { Label, NodeId } from '../../enroll/shapes.ts';
import type { Snapshot } from '../../enroll/wire.ts';
import type { PageRequest } from '../resources/resource-store.ts';
import type { NodeRow } from '../store/store.ts';
import type { Tower } from '../tower.ts';

const PeerSchema = Type.Object({ id: NodeId, name: Label });
const { name, protocol } = ServiceRule.properties;
const ServiceSchema = Type.Object({ name, protocol, hosted: Type.Boolean({ description: 'whether the node that asks is a host of it' }) });

export function clientRoutes(api: Api, tower: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const known = async ({ node }: Caller): Promise<Snapshot | null> => (node === undefined ? null : await tower.known(node));
  const peers = { summary: 'nodes that the caller may know', querystring: PageQuery, response: { 200: pageOf(PeerSchema), ...errors } };
  api.get('/v1/client/peers', { ...client, schema: peers }, async ({ query, caller }) =>
    readPage(
      query,
      (page) => peersOf(caller, page),
      ({ id }) => id,
      ({ id, name }) => ({ id, name }),
    ),
  );
  const services = { summary: 'services that the caller may dial, or hosts', querystring: PageQuery, response: { 200: pageOf(ServiceSchema), ...errors } };
  api.get('/v1/client/services', { ...client, schema: services }, async ({ query, caller }) =>
    readPage(
      query,
      pageIn(await servicesOf(caller), ({ name }) => name),
      ({ name }) => name,
      (service) => service,
    ),
  );

  async function peersOf(caller: Caller, page: PageRequest): Promise<readonly Pick<NodeRow, 'id' | 'name'>[]> {
    if (caller.tenant !== undefined) return await tower.nodePage({ ...page, tenant: caller.tenant });
    return await pageIn((await known(caller))?.peers ?? [], ({ id }) => id)(page);
  }

  async function servicesOf(caller: Caller): Promise<readonly Static<typeof ServiceSchema>[]> {
    if (caller.tenant !== undefined)
      return (await tower.rules()).services.filter(({ tenant }) => tenant === caller.tenant).map(({ name, protocol }) => ({ name, protocol, hosted: false }));
    // Hosts alone are told the target, and they have it from their snapshot.
    return ((await known(caller))?.rules?.services ?? []).map(({ name, protocol, target }) => ({ name, protocol, hosted: target !== undefined }));
  }
}

/** A page of what is at hand, in the order of its keys. */
function pageIn<Item>(all: readonly Item[], keyOf: (item: Item) => string) {
  return async ({ after, limit }: { readonly after: string | null; readonly limit: number }): Promise<readonly Item[]> =>
    all.filter((item) => after === null || keyOf(item) > after).slice(0, limit);
}
