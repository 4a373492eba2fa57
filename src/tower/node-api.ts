/** The API's routes of nodes: read in pages or by name, what an operator says of one, and revoking it. */
import { type Static, Type } from 'typebox';
import { management, platformView } from '../api/access.ts';
import { etagOf, IfMatch, matchOf } from '../api/etag.ts';
import { type Api, ErrorSchema } from '../api/http.ts';
import { PageQuery, pageOf, readPage } from '../api/pages.ts';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { Label, NodeId } from '../enroll/shapes.ts';
import { EndpointsSchema } from '../enroll/wire.ts';
import type { NodeRow } from './store/store.ts';
import type { Tower } from './tower.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const Tenant = Type.Union([Label, Type.Null()]);
const Roles = Type.Array(Label, { maxItems: limits.node_roles_max, uniqueItems: true });

const NodeSchema = Type.Object({
  id: NodeId,
  name: Label,
  site: Label,
  tenant: Tenant,
  roles: Roles,
  fingerprint: Type.Union([Type.String(), Type.Null()], { description: 'of the leaf that is recorded; null: revoked' }),
  endpoints: EndpointsSchema,
  disabled: Type.Boolean(),
  leaving_ms: Type.Union([Time, Type.Null()], { description: 'when it is to be revoked; null: it is not' }),
  revision: Type.Integer(),
  created_ms: Time,
  seen_ms: Type.Union([Time, Type.Null()]),
  connected: Type.Boolean({ description: 'a session carries its channel with this tower now' }),
});
const ChangeSchema = Type.Object(
  { disabled: Type.Optional(Type.Boolean()), tenant: Type.Optional(Tenant), roles: Type.Optional(Roles) },
  { additionalProperties: false },
);

/** `reaches`: whether a session carries a channel with that node now. */
export function nodeRoutes(api: Api, tower: Tower, reaches: (node: string) => boolean): void {
  const nodeJson = (row: NodeRow) => jsonOf(row, reaches(row.id));
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const base = { tags: ['nodes'], response: { 200: NodeSchema, ...errors } };
  // A node's name, or its id, which looks like one.
  const params = Type.Object({ node: Label });
  const querystring = Type.Object({ ...PageQuery.properties, site: Type.Optional(Label) }, { additionalProperties: false });
  const listed = { ...base, querystring, response: { 200: pageOf(NodeSchema), ...errors } };
  api.get('/v1/nodes', { ...platformView('nodes'), schema: listed }, async ({ query: { site, ...page } }) =>
    readPage(
      page,
      (request) => tower.nodePage({ ...request, ...(site !== undefined && { site }) }),
      (row) => row.id,
      nodeJson,
    ),
  );
  api.get('/v1/nodes/:node', { ...platformView('nodes'), schema: { ...base, params } }, async (request, reply) => {
    const row = await tower.findNode(request.params.node);
    reply.header('etag', etagOf(row.revision));
    return nodeJson(row);
  });
  api.patch('/v1/nodes/:node', { ...management, schema: { ...base, params, headers: IfMatch, body: ChangeSchema } }, async (request, reply) => {
    const { id } = await tower.findNode(request.params.node);
    const row = await tower.setNode(id, request.body, matchOf(request.headers), request.caller.actor);
    reply.header('etag', etagOf(row.revision));
    return nodeJson(row);
  });
  const drain = Type.Object({ drain_ms: Type.Optional(Type.String({ pattern: '^[0-9]{1,8}$', description: 'milliseconds until then, at most a day' })) });
  const revoke = {
    ...base,
    params,
    querystring: drain,
    summary: 'takes the recorded leaf away: channels are closed, the next handshake fails; the node needs a fresh proof',
  };
  api.delete('/v1/nodes/:node', { ...management, schema: revoke }, async (request) => {
    const { id } = await tower.findNode(request.params.node);
    const drain_ms = Number(request.query.drain_ms ?? 0);
    if (drain_ms > limits.drain_ms_max) throw new SelvedgeError('request_invalid', { path: '/querystring/drain_ms', why: `at most ${limits.drain_ms_max}` });
    const { actor } = request.caller;
    return nodeJson(drain_ms > 0 ? await tower.drainNode(id, drain_ms, actor) : await tower.revokeNode(id, actor));
  });
}

function jsonOf(row: NodeRow, connected: boolean): Static<typeof NodeSchema> {
  const { id, name, site, tenant, roles, fingerprint, endpoints, disabled, leaving_ms, revision, created_ms, seen_ms } = row;
  return { id, name, site, tenant, roles: [...roles], fingerprint, endpoints: [...endpoints], disabled, leaving_ms, revision, created_ms, seen_ms, connected };
}
