/** The API's routes of hosts that may enroll without a token: by their id, or by what their platform says of them. Checked by schema, passed on to hosts.ts. */
import { Type } from 'typebox';
import { management } from '../../api/access.ts';
import { etagOf, IfMatch, matchOf } from '../../api/etag.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { limits } from '../../base/limits.ts';
import { HostIdText } from '../../enroll/proofs/host-id.ts';
import { Label, NodeId } from '../../enroll/shapes.ts';
import type { GrantView } from './granting.ts';
import { type HostKind, hostKinds, hostKey, revisionOf } from './hosts.ts';
import type { Tower } from '../tower.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const Kind = Type.Enum([...hostKinds], { description: 'by what a host is known: its id, or what its platform says of it' });
const Platform = Type.Enum(hostKinds.filter((kind) => kind !== 'host-id'));
const Facts = Type.Record(Type.String({ pattern: '^[a-z_]{1,32}$' }), Type.String({ minLength: 1, maxLength: 256 }), {
  maxProperties: limits.platform_facts_max,
  description: 'what must hold of a host, by name; docs/enrollment/ tells the names',
});
const maybe = <Schema extends Parameters<typeof Type.Optional>[0]>(schema: Schema) => Type.Union([schema, Type.Null()]);
const Bounds = {
  site: Type.Optional(Label),
  tenant: Type.Optional(Label),
  name: Type.Optional(Label),
  life_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.token_life_ms_max })),
  sources: Type.Optional(Type.Array(Type.String({ maxLength: 43 }), { maxItems: limits.grant_sources_max, description: 'networks from which it may be used' })),
};
const GrantId = Type.String({ minLength: 1, maxLength: limits.grant_id_chars_max });
const New = Type.Union([
  Type.Object({ kind: Type.Literal('host-id'), id: GrantId, ...Bounds }, { additionalProperties: false }),
  Type.Object(
    { kind: Platform, facts: Facts, uses: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.token_uses_max })), ...Bounds },
    { additionalProperties: false },
  ),
]);
const Shown = Type.Object({
  kind: Kind,
  id: GrantId,
  facts: Facts,
  site: maybe(Label),
  tenant: maybe(Label),
  name: maybe(Label),
  node: maybe(NodeId),
  uses: Type.Integer(),
  uses_max: Type.Integer(),
  sources: Type.Array(Type.String()),
  expires_ms: maybe(Time),
  revoked_ms: maybe(Time),
  created_ms: Time,
  revision: Type.Integer(),
});

export function hostRoutes(api: Api, { hosts }: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const one = { 200: Shown, ...errors };
  const params = Type.Object({ kind: Kind, id: HostIdText });
  const Query = Type.Object({ ...PageQuery.properties, kind: Type.Optional(Kind) }, { additionalProperties: false });
  api.get('/v1/hosts', { ...management, schema: { querystring: Query, response: { 200: pageOf(Shown), ...errors } } }, async ({ query: { kind, ...query } }) =>
    readPage(query, (request) => hosts.page(kind === undefined ? hostKinds : [kind as HostKind], request), hostKey, shown),
  );
  api.post('/v1/hosts', { ...management, schema: { body: New, response: one } }, async ({ body, caller }, reply) =>
    answer(await hosts.add(body as Parameters<typeof hosts.add>[0], caller.actor), reply),
  );
  api.get('/v1/hosts/:kind/:id', { ...management, schema: { params, response: one } }, async ({ params: { kind, id } }, reply) =>
    answer(await hosts.get(kind as HostKind, id), reply),
  );
  const changed = { params, headers: IfMatch, response: one };
  api.post('/v1/hosts/:kind/:id/revoke', { ...management, schema: changed }, async ({ params: { kind, id }, headers, caller }, reply) =>
    answer(await hosts.revoke(kind as HostKind, id, matchOf(headers), caller.actor), reply),
  );
  api.delete('/v1/hosts/:kind/:id', { ...management, schema: changed }, async ({ params: { kind, id }, headers, caller }) =>
    shown(await hosts.remove(kind as HostKind, id, matchOf(headers), caller.actor)),
  );
}

function answer(host: GrantView, reply: { header: (name: string, value: string) => unknown }) {
  reply.header('etag', etagOf(revisionOf(host)));
  return shown(host);
}

function shown(host: GrantView) {
  const { kind, id, detail, site, tenant, name, node, uses, usesMax, sources, expires_ms, revoked_ms, created_ms } = host;
  const times = { expires_ms, revoked_ms, created_ms, revision: revisionOf(host) };
  return { kind: kind as HostKind, id, facts: { ...detail }, site, tenant, name, node, uses, uses_max: usesMax, sources: [...sources], ...times };
}
