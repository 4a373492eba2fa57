/** The API's routes of rotating the root: checked by schema, passed on to rotation.ts. */
import { Type } from 'typebox';
import { management } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { limits } from '../../base/limits.ts';
import { Label, NodeId } from '../../enroll/shapes.ts';
import type { Tower } from '../tower.ts';
import { trustPhases } from './phases.ts';
import { lacks, type Missing, type TrustStatus } from './status.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const Count = Type.Integer({ minimum: 0 });
const Percent = Type.Integer({ minimum: 1, maximum: 100, description: 'of the nodes that are neither disabled nor revoked: how many have to be ready' });
const Place = Type.String({ minLength: 1, maxLength: 1_024, description: 'sealed, pkcs11:… or kms:…; needed where the key in use is not sealed' });
const MissingSchema = Type.Object(
  {
    nodes: Type.Array(Type.Object({ id: NodeId, name: Label, site: Label, why: Type.Enum([...lacks]) }), { maxItems: limits.trust_missing_listed_max }),
    nodes_total: Count,
    operators: Type.Array(Type.Object({ id: NodeId, name: Label }), { maxItems: limits.trust_missing_listed_max }),
    operators_total: Count,
  },
  { description: 'whom retiring the old root would cut off: the first of them by name, and how many they are' },
);
const StatusFields = {
  phase: Type.Enum([...trustPhases]),
  since_ms: Time,
  version: Type.Integer({ description: 'of the trust bundle' }),
  threshold_percent: Percent,
  roots: Type.Array(Type.Object({ role: Type.Enum(['current', 'next']), fingerprint: Type.String(), not_before_ms: Time, not_after_ms: Time })),
  nodes: Type.Object({ enabled: Count, holding: Count, ready: Count }),
  operators: Type.Object({ enabled: Count, ready: Count }),
  is_ready: Type.Boolean({ description: 'whether the old root can be retired without force' }),
  missing: MissingSchema,
};

export function trustRoutes(api: Api, { trust }: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const shown = { 200: Type.Object(StatusFields), ...errors };
  api.get('/v1/trust', { ...management, schema: { tags: ['trust'], response: shown } }, async () => statusJson(await trust.status()));
  const Rotate = Type.Object(
    { threshold_percent: Type.Optional(Percent), root_signer: Type.Optional(Place), signer: Type.Optional(Place) },
    { additionalProperties: false },
  );
  const rotate = { tags: ['trust'], body: Rotate, response: shown, summary: 'makes another root, and tells everybody of both' };
  api.post('/v1/trust/rotate', { ...management, schema: rotate }, async ({ body, caller }) => statusJson(await trust.rotate(body, caller.actor)));
  const abandon = { tags: ['trust'], response: shown, summary: 'lets go of the root that was to follow, while nothing was issued under it' };
  api.post('/v1/trust/abandon', { ...management, schema: abandon }, async ({ caller }) => statusJson(await trust.abandon(caller.actor)));
  const Retire = Type.Object(
    {
      force: Type.Optional(Type.Boolean({ description: 'cut off whoever is missing' })),
      cut_off_operators: Type.Optional(Type.Boolean({ description: 'cut off the operators that are missing; as `force`, unless told' })),
    },
    { additionalProperties: false },
  );
  const retired = { 200: Type.Object({ ...StatusFields, cut_off: MissingSchema }), ...errors };
  const retire = { tags: ['trust'], body: Retire, response: retired, summary: 'lets go of the old root' };
  api.post('/v1/trust/retire', { ...management, schema: retire }, async ({ body, caller }) => {
    const done = await trust.retire(body, caller.actor);
    return { ...statusJson(done), cut_off: missingJson(done.cut_off) };
  });
}

function statusJson({ roots, missing, ...status }: TrustStatus) {
  return { ...status, roots: [...roots], missing: missingJson(missing) };
}

function missingJson({ nodes, operators, ...totals }: Missing) {
  return { ...totals, nodes: [...nodes], operators: [...operators] };
}
