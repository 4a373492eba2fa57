/** The API's routes of grants other than tokens and hosts: call-home certificates, authorities. Checked by schema, passed on to grants.ts. */
import { Type } from 'typebox';
import { management } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { limits } from '../../base/limits.ts';
import { proofKinds } from '../../enroll/proof.ts';
import { Label } from '../../enroll/shapes.ts';
import { bytesOf, CertificateText, CsrText } from '../../enroll/wire.ts';
import { toBase64 } from '../../identity/base64.ts';
import type { GrantView } from './granting.ts';
import type { Tower } from '../tower.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const maybe = <Schema extends Parameters<typeof Type.Optional>[0]>(schema: Schema) => Type.Union([schema, Type.Null()]);
const closed = { additionalProperties: false } as const;

const GrantId = Type.String({ minLength: 1, maxLength: limits.grant_id_chars_max });
const Bounds = {
  site: Type.Optional(Label),
  tenant: Type.Optional(maybe(Label)),
  sources: Type.Optional(Type.Array(Type.String({ maxLength: 43 }), { maxItems: limits.grant_sources_max, description: 'networks from which it may be used' })),
};
const Shared = { ...Bounds, uses: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.token_uses_max })) };
const NewCallHome = Type.Object(
  {
    csr: CsrText,
    binding: Type.Optional(Type.Enum(['host-id', 'site'])),
    host: Type.Optional(Type.String({ maxLength: limits.host_id_chars_max })),
    name: Type.Optional(Label),
    days: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.call_home_days_max })),
    ...Shared,
  },
  closed,
);
const NewAuthority = Type.Object({ certificate: CertificateText, crl_file: Type.Optional(Type.String({ minLength: 1, maxLength: 4_096 })), ...Shared }, closed);

const Shown = Type.Object({
  kind: Type.Enum([...proofKinds]),
  id: GrantId,
  tenant: maybe(Label),
  site: maybe(Label),
  name: maybe(Label),
  node: maybe(Type.String()),
  uses: Type.Integer(),
  uses_max: Type.Integer(),
  sources: Type.Array(Type.String()),
  detail: Type.Record(Type.String(), Type.String()),
  expires_ms: maybe(Time),
  revoked_ms: maybe(Time),
  created_ms: Time,
});
const Issued = Type.Object({ grant: Shown, chain: Type.Array(Type.String()) });
const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
const answers = { 200: Shown, ...errors };
const pages = { 200: pageOf(Shown), ...errors };

export function grantRoutes(api: Api, { grants }: Tower): void {
  api.get('/v1/call-home-certs', { ...management, schema: { querystring: PageQuery, response: pages } }, async ({ query }) =>
    readPage(
      query,
      (request) => grants.page('x509', request),
      (row) => row.id,
      shown,
    ),
  );
  api.post('/v1/call-home-certs', { ...management, schema: { body: NewCallHome, response: { 200: Issued, ...errors } } }, async ({ body, caller }) => {
    const { csr, ...request } = body;
    const { grant, chain } = await grants.issueCallHome(bytesOf(csr, limits.csr_bytes_max, '/body/csr'), request, caller.actor);
    return { grant: shown(grant), chain: chain.map(toBase64) };
  });
  api.post('/v1/call-home-certs/authorities', { ...management, schema: { body: NewAuthority, response: answers } }, async ({ body, caller }) => {
    const { certificate, crl_file, ...request } = body;
    const der = bytesOf(certificate, limits.certificate_bytes_max, '/body/certificate');
    return shown(await grants.trustAuthority({ certificate: der, ...request, ...(crl_file !== undefined && { crlFile: crl_file }) }, caller.actor));
  });
  const params = Type.Object({ id: Type.String({ pattern: '^[0-9a-f]{12}$' }) });
  api.delete('/v1/call-home-certs/:id', { ...management, schema: { params, response: answers } }, async ({ params: { id }, caller }) =>
    shown(await grants.revoke('x509', id, caller.actor)),
  );
}

/** Certificates in the detail are public, but long, and nobody reads them here. */
function shown({ usesMax, purpose: _purpose, sources, detail: { certificate: _certificate, chain: _chain, ...detail }, ...grant }: GrantView) {
  return { ...grant, uses_max: usesMax, sources: [...sources], detail: detail as Record<string, string> };
}
