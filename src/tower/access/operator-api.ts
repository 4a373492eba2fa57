/** The API's routes of operators: checked by schema, passed on to operators.ts. */
import { Type } from 'typebox';
import { anyScope, management, scopes } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { BundleSchema, BundleSecret } from '../../enroll/operator-bundle.ts';
import { Label, NodeId } from '../../enroll/shapes.ts';
import { CertificateText, CsrText, EnvelopeSchema } from '../../enroll/wire.ts';
import type { OperatorRow } from './access-store.ts';
import type { TowerAccess } from './tower-access.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const maybe = <Schema extends typeof Time | ReturnType<typeof Type.String>>(schema: Schema) => Type.Union([schema, Type.Null()]);
export const ScopeName = Type.Enum(scopes);
export const ScopeList = Type.Array(ScopeName, { minItems: 1, maxItems: scopes.length, uniqueItems: true });
const Life = Type.Integer({ minimum: 1, maximum: limits.operator_bundle_life_ms_max, description: 'how long the bundle may wait to be redeemed' });
const DEFAULT_LIFE_MS = 24 * 3_600_000;

const OperatorSchema = Type.Object({
  id: NodeId,
  name: Label,
  scopes: Type.Array(Type.String()),
  fingerprint: maybe(Type.String()),
  not_after_ms: maybe(Time),
  bundle_expires_ms: maybe(Time),
  created_ms: Time,
  revoked_ms: maybe(Time),
});
const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
const one = { params: Type.Object({ id: NodeId }) };
const made = { ...errors, 200: Type.Object({ operator: OperatorSchema, bundle: BundleSchema }) };

export function operatorRoutes(api: Api, { operators }: TowerAccess): void {
  const NewOperator = Type.Object({ name: Label, scopes: Type.Optional(ScopeList), life_ms: Type.Optional(Life) }, { additionalProperties: false });
  api.post('/v1/operators', { ...management, schema: { body: NewOperator, response: made } }, async ({ body, caller }) => {
    const { name, scopes: given = scopes, life_ms = DEFAULT_LIFE_MS } = body;
    const { row, bundle } = await operators.create({ name, scopes: scopes.filter((scope) => given.includes(scope)), life_ms }, caller.actor);
    return { operator: operatorJson(row), bundle };
  });
  api.get('/v1/operators', { ...management, schema: { querystring: PageQuery, response: { 200: pageOf(OperatorSchema), ...errors } } }, async ({ query }) =>
    readPage(
      query,
      (page) => operators.page(page),
      (row) => row.id,
      operatorJson,
    ),
  );
  const shown = { ...one, response: { 200: OperatorSchema, ...errors } };
  api.get('/v1/operators/:id', { ...management, schema: shown }, async ({ params }) => operatorJson(await operators.get(params.id)));
  api.delete('/v1/operators/:id', { ...management, schema: shown }, async ({ params, caller }) =>
    operatorJson(await operators.revoke(params.id, caller.actor)),
  );
  const Another = Type.Object({ life_ms: Type.Optional(Life) }, { additionalProperties: false });
  api.post('/v1/operators/:id/bundle', { ...management, schema: { ...one, body: Another, response: made } }, async ({ params, body, caller }) => {
    const { row, bundle } = await operators.another(params.id, body.life_ms ?? DEFAULT_LIFE_MS, caller.actor);
    return { operator: operatorJson(row), bundle };
  });
  const Redeem = Type.Object({ operator: NodeId, secret: BundleSecret, csr: CsrText }, { additionalProperties: false });
  const Redeemed = Type.Object({ operator: OperatorSchema, chain: Type.Array(CertificateText), root: CertificateText });
  api.post('/v1/operators/redeem', { schema: { body: Redeem, response: { 200: Redeemed, ...errors } } }, async ({ body }) => {
    const { row, chain, root } = await operators.redeem(body);
    return { operator: operatorJson(row), chain: [...chain], root };
  });
  const Renew = Type.Object({ csr: CsrText }, { additionalProperties: false });
  const renewed = {
    body: Renew,
    response: { 200: Type.Object({ ...Redeemed.properties, trust: EnvelopeSchema }), ...errors },
    summary: 'another certificate, for the operator whose certificate the connection shows',
  };
  api.post('/v1/operators/current/renew', { ...anyScope, schema: renewed }, async ({ body, caller }) => {
    // A token that leaked is worth its hours, and never a year.
    if (caller.operator === undefined || caller.session !== undefined)
      throw new SelvedgeError('unauthorized', { why: 'an operator renews its certificate by showing it' });
    const { row, chain, root, trust } = await operators.renew(caller.operator, body.csr);
    return { operator: operatorJson(row), chain: [...chain], root, trust };
  });
}

function operatorJson({ id, name, scopes: allowed, fingerprint, notAfter_ms, bundleExpires_ms, created_ms, revoked_ms }: OperatorRow) {
  return { id, name, scopes: [...allowed], fingerprint, not_after_ms: notAfter_ms, bundle_expires_ms: bundleExpires_ms, created_ms, revoked_ms };
}
