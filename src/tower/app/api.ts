/** The API's routes of app networks: checked by schema, passed on to app-networks.ts. */
import { Type } from 'typebox';
import { management, platformView } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { limits } from '../../base/limits.ts';
import { AppEndpointSchema, AppHostSchema, AppMtu, AppName, AppNetworkSchema } from '../../enroll/app-wire.ts';
import { Label, NodeId } from '../../enroll/shapes.ts';
import { hostEndpoint } from './snapshot.ts';
import type { AppEndpointRow, AppHostRow, AppNetworkRow, AppNetworkView } from '../store/app-store.ts';
import type { Tower } from '../tower.ts';

const { name, vni, mtu, learning, subnet4, subnet6 } = AppNetworkSchema.properties;
const { attachment, mac, address4, address6 } = AppEndpointSchema.properties;
const { keys, endpoint, underlay } = AppHostSchema.properties;

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const Subnet = Type.String({ minLength: 1, maxLength: 64 });
const NewNetworkSchema = Type.Object(
  { name: AppName, subnet4: Type.Optional(Subnet), subnet6: Type.Optional(Subnet), mtu: Type.Optional(AppMtu), learning: Type.Optional(Type.Boolean()) },
  { additionalProperties: false },
);
const NetworkSchema = Type.Object({ name, vni, subnet4, subnet6, mtu, learning, created_ms: Time });
const ListedSchema = Type.Object({ ...NetworkSchema.properties, members: Type.Integer(), attachments: Type.Integer() });
const EndpointSchema = Type.Object({ network: AppName, node: NodeId, attachment, mac, address4, address6, created_ms: Time });
const MemberSchema = Type.Object({
  node: NodeId,
  name: Label,
  site: Label,
  live: Type.Boolean({ description: 'neither revoked nor disabled' }),
  vtep: Type.Union([Type.String(), Type.Null()]),
  keys,
  endpoint,
  underlay,
  /** Itself first, then its attachments. */
  endpoints: Type.Array(Type.Object({ attachment, mac, address4, address6 }), { maxItems: limits.app_network_endpoints_max }),
});
const ShownSchema = Type.Object({ ...NetworkSchema.properties, members: Type.Array(MemberSchema) });

export function appRoutes(api: Api, { app }: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const one = { params: Type.Object({ name: AppName }) };
  // A node's name, or its id, which looks like one.
  const member = { params: Type.Object({ name: AppName, node: Label }) };
  api.post('/v1/app/networks', { ...management, schema: { body: NewNetworkSchema, response: { 200: NetworkSchema, ...errors } } }, async ({ body, caller }) =>
    networkJson(await app.create(body, caller.actor)),
  );
  api.get(
    '/v1/app/networks',
    { ...platformView('app networks'), schema: { querystring: PageQuery, response: { 200: pageOf(ListedSchema), ...errors } } },
    async ({ query }) =>
      readPage(
        query,
        (request) => app.list(request),
        (row) => row.name,
        (row) => ({ ...networkJson(row), members: row.members, attachments: row.attachments }),
      ),
  );
  api.get('/v1/app/networks/:name', { ...platformView('app networks'), schema: { ...one, response: { 200: ShownSchema, ...errors } } }, async ({ params }) =>
    shownJson(await app.show(params.name)),
  );
  api.delete('/v1/app/networks/:name', { ...management, schema: { ...one, response: { 200: NetworkSchema, ...errors } } }, async ({ params, caller }) =>
    networkJson(await app.delete(params.name, caller.actor)),
  );
  const changed = { ...member, response: { 200: EndpointSchema, ...errors } };
  api.put('/v1/app/networks/:name/members/:node', { ...management, schema: changed }, async ({ params, caller }) =>
    endpointJson(await app.add(params.name, params.node, caller.actor)),
  );
  api.delete('/v1/app/networks/:name/members/:node', { ...management, schema: changed }, async ({ params, caller }) =>
    endpointJson(await app.remove(params.name, params.node, caller.actor)),
  );
}

function networkJson({ name, vni, subnet4, subnet6, mtu, learning, created_ms }: AppNetworkRow) {
  return { name, vni, subnet4, subnet6, mtu, learning, created_ms };
}

function endpointJson({ network, node, attachment, mac, address4, address6, created_ms }: AppEndpointRow) {
  return { network, node, attachment, mac, address4, address6, created_ms };
}

function shownJson({ network, endpoints, hosts }: AppNetworkView) {
  const byNode = Map.groupBy(endpoints, (row) => row.node);
  const members = hosts.map((host: AppHostRow) => ({
    node: host.node,
    name: host.name,
    site: host.site,
    live: host.isLive,
    vtep: host.vtep,
    keys: [...host.keys],
    endpoint: hostEndpoint(host),
    underlay: host.underlay,
    endpoints: (byNode.get(host.node) ?? []).map(({ attachment, mac, address4, address6 }) => ({ attachment, mac, address4, address6 })),
  }));
  return { ...networkJson(network), members };
}
