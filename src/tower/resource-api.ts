/** The API's routes of the simple resources, the same five for each kind: checked by its schema, passed on to resources.ts. */
import { Type } from 'typebox';
import { management, platformView } from '../api/access.ts';
import { etagOf, IfMatch, matchOf } from '../api/etag.ts';
import { type Api, ErrorSchema } from '../api/http.ts';
import { PageQuery, pageOf, readPage } from '../api/pages.ts';
import { Label } from '../enroll/shapes.ts';
import { givenProperties, type KindName, kindNames, kinds, type Specs } from './resources/kinds.ts';
import type { ResourceRow } from './resources/resource-store.ts';
import type { Said } from './resources/resources.ts';
import type { Tower } from './tower.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });

export function resourceRoutes(api: Api, tower: Tower): void {
  for (const kind of kindNames) routesOf(api, tower, kind);
}

function routesOf(api: Api, { resources }: Tower, name: KindName): void {
  const kind = kinds[name];
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const Shown = Type.Object({ name: Label, ...kind.spec.properties, revision: Type.Integer(), created_ms: Time, changed_ms: Time });
  const Given = Type.Object(givenProperties(kind), { additionalProperties: false });
  const New = Type.Object({ name: Label, ...Given.properties }, { additionalProperties: false });
  const params = Type.Object({ name: Label });
  const base = { tags: [kind.plural], response: { 200: Shown, ...errors } };
  const path = `/v1/${kind.plural}`;
  // How the cluster is laid out; the rest says what is allowed.
  const reading = name === 'site' || name === 'route' ? platformView(kind.plural) : management;

  api.get(
    path,
    { ...reading, schema: { ...base, summary: kind.what, querystring: PageQuery, response: { 200: pageOf(Shown), ...errors } } },
    async ({ query }) =>
      readPage(
        query,
        (request) => resources.page(name, request),
        (row) => row.name,
        shown,
      ),
  );
  api.post(path, { ...management, schema: { ...base, body: New } }, async (request, reply) => {
    const { name: called, ...said } = request.body as { name: string } & Said<KindName>;
    return answer(await resources.create(name, called, said, request.caller.actor), reply);
  });
  api.get(`${path}/:name`, { ...reading, schema: { ...base, params } }, async ({ params: { name: called } }, reply) =>
    answer(await resources.get(name, called), reply),
  );
  api.put(`${path}/:name`, { ...management, schema: { ...base, params, headers: IfMatch, body: Given } }, async (request, reply) =>
    answer(await resources.change(name, request.params.name, request.body as Said<KindName>, matchOf(request.headers), request.caller.actor), reply),
  );
  api.delete(`${path}/:name`, { ...management, schema: { ...base, params, headers: IfMatch } }, async (request) =>
    shown(await resources.delete(name, request.params.name, matchOf(request.headers), request.caller.actor)),
  );
}

function shown({ name, spec, revision, created_ms, changed_ms }: ResourceRow<Specs[KindName]>) {
  return { name, ...spec, revision, created_ms, changed_ms };
}

function answer(row: ResourceRow<Specs[KindName]>, reply: { header: (name: string, value: string) => unknown }) {
  reply.header('etag', etagOf(row.revision));
  return shown(row);
}
