/** The API's route of what a node says of itself: for operators, as all that is `management`. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { management } from '../api/access.ts';
import { ErrorSchema } from '../api/http.ts';
import { Label } from '../enroll/shapes.ts';
import { ReportSchema } from '../observe/report.ts';
import type { HealthReports } from './health-reports.ts';
import type { Tower } from './tower.ts';

const HealthSchema = Type.Object({ health: Type.Union([Type.Object({ ...ReportSchema.properties, at_ms: Type.Number() }), Type.Null()]) });

export function registerHealth(scope: FastifyInstance, tower: Pick<Tower, 'findNode'>, reports: Pick<HealthReports, 'of'>): void {
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  const schema = { tags: ['nodes'], params: Type.Object({ node: Label }), response: { 200: HealthSchema, '4xx': ErrorSchema, '5xx': ErrorSchema } };
  api.get('/v1/nodes/:node/health', { ...management, schema }, async ({ params }) => {
    const { id } = await tower.findNode(params.node);
    return { health: reports.of(id) };
  });
}
