/** The API's routes of what is recorded of hosts at platforms. Checked by schema, passed on to platform-hosts.ts. */
import { Type } from 'typebox';
import { management } from '../api/access.ts';
import { type Api, ErrorSchema } from '../api/http.ts';
import { limits } from '../base/limits.ts';
import { Label } from '../enroll/shapes.ts';
import type { GrantView } from './granting.ts';
import type { Tower } from './tower.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const Kind = Type.Enum(['aws', 'google', 'kubernetes'], { description: 'the platform' });
const Facts = Type.Record(Type.String({ pattern: '^[a-z_]{1,32}$' }), Type.String({ minLength: 1, maxLength: 256 }), {
  maxProperties: limits.platform_facts_max,
  description: 'what must hold of a host, by name; docs/enrollment/ tells the names',
});
const New = Type.Object(
  {
    kind: Kind,
    facts: Facts,
    site: Type.Optional(Label),
    tenant: Type.Optional(Label),
    name: Type.Optional(Label),
    uses: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.token_uses_max })),
    life_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.token_life_ms_max })),
    sources: Type.Optional(
      Type.Array(Type.String({ maxLength: 43 }), { maxItems: limits.grant_sources_max, description: 'networks from which it may be used' }),
    ),
  },
  { additionalProperties: false },
);
const maybe = <Schema extends Parameters<typeof Type.Optional>[0]>(schema: Schema) => Type.Union([schema, Type.Null()]);
const Shown = Type.Object({
  kind: Kind,
  id: Type.String(),
  facts: Facts,
  site: maybe(Label),
  tenant: maybe(Label),
  name: maybe(Label),
  uses: Type.Integer(),
  uses_max: Type.Integer(),
  sources: Type.Array(Type.String()),
  expires_ms: maybe(Time),
  revoked_ms: maybe(Time),
  created_ms: Time,
});

export function platformRoutes(api: Api, { platformHosts }: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const one = { 200: Shown, ...errors };
  api.get('/v1/platform-hosts', { ...management, schema: { response: { 200: Type.Array(Shown), ...errors } } }, async () =>
    (await platformHosts.list()).map(shown),
  );
  api.post('/v1/platform-hosts', { ...management, schema: { body: New, response: one } }, async ({ body, caller }) =>
    shown(await platformHosts.add(body, caller.actor)),
  );
  const params = Type.Object({ kind: Kind, id: Type.String({ pattern: '^[0-9a-f]{12}$' }) });
  api.post('/v1/platform-hosts/:kind/:id/revoke', { ...management, schema: { params, response: one } }, async ({ params: { kind, id }, caller }) =>
    shown(await platformHosts.revoke(kind, id, caller.actor)),
  );
  api.delete('/v1/platform-hosts/:kind/:id', { ...management, schema: { params, response: one } }, async ({ params: { kind, id }, caller }) =>
    shown(await platformHosts.remove(kind, id, caller.actor)),
  );
}

function shown({ kind, id, detail, site, tenant, name, uses, usesMax, sources, expires_ms, revoked_ms, created_ms }: GrantView) {
  const platform = kind as 'aws' | 'google' | 'kubernetes';
  return { kind: platform, id, facts: { ...detail }, site, tenant, name, uses, uses_max: usesMax, sources: [...sources], expires_ms, revoked_ms, created_ms };
}
