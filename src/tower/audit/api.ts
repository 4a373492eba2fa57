/** The API's routes of the audit log: its rows in pages, and where it ends. Walking the chain is the reader's, who need not take the tower's word for it. */
import { Type } from 'typebox';
import { management } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { EnvelopeSchema } from '../../enroll/wire.ts';
import { AuditHeadSchema } from './head.ts';
import type { Tower } from '../tower.ts';

const RowSchema = Type.Object({
  seq: Type.Integer(),
  version: Type.Integer(),
  at_ms: Type.Number({ description: 'milliseconds since the epoch' }),
  actor: Type.String(),
  action: Type.String(),
  subject: Type.String(),
  detail: Type.String({ description: 'JSON' }),
  previous: Type.String({ description: 'hash of the row before' }),
  hash: Type.String({ description: 'SHA-256 of this row and `previous`' }),
});
const After = Type.Object(
  { limit: PageQuery.properties.limit, after: Type.Optional(Type.String({ pattern: '^[0-9]{1,15}$', description: '`next` of the page before' })) },
  { additionalProperties: false },
);
const HeadSchema = Type.Object({
  ...AuditHeadSchema.properties,
  signed: Type.Object(EnvelopeSchema.properties, { description: 'the same, signed by the cluster’s authority: to be kept elsewhere' }),
  kept: Type.Union([AuditHeadSchema, Type.Null()], { description: 'the head that the tower keeps beside its database; null: none yet' }),
});

export function auditRoutes(api: Api, tower: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  api.get('/v1/audit', { ...management, schema: { tags: ['audit'], querystring: After, response: { 200: pageOf(RowSchema), ...errors } } }, async ({ query }) =>
    readPage(
      query,
      ({ after, limit }) => tower.audit(Number(after ?? 0), limit),
      (row) => String(row.seq),
      (row) => ({ ...row }),
    ),
  );
  api.get('/v1/audit/head', { ...management, schema: { tags: ['audit'], response: { 200: HeadSchema, ...errors } } }, () => tower.auditHead());
}
