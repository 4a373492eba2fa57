/**
 * The tower's API, described by its schemas, and mounted twice: on the public port over TLS, where access/ says who asks, and on a Unix
 * socket, whose file mode is its authorization. Routes only check and pass on; what they mean is in tower.ts.
 */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { anyScope, localAccess, management } from '../api/access.ts';
import { type Api, type ApiOptions, ErrorSchema, makeApi } from '../api/http.ts';
import { PageQuery, pageOf, readPage } from '../api/pages.ts';
import { PROGRAM_VERSION } from '../api/program.ts';
import { listenOnSocket } from '../api/local-socket.ts';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { Label } from '../enroll/shapes.ts';
import { unsealRoute } from '../enroll/unseal-route.ts';
import {
  ChallengeAnswerSchema,
  EndpointsSchema,
  EnrollAnswerSchema,
  EnrollRequestSchema,
  PreflightAnswerSchema,
  PreflightRequestSchema,
} from '../enroll/wire.ts';
import { formatFingerprint } from '../identity/fingerprint.ts';
import { PublicAccess, type PublicAccessOptions } from './access/access.ts';
import { clientRoutes } from './access/client-api.ts';
import { openRoutes } from './access/open-routes.ts';
import { operatorRoutes } from './access/operator-api.ts';
import { type Beginner, sessionRoutes } from './access/session-api.ts';
import { appRoutes } from './app/api.ts';
import { auditRoutes } from './audit/api.ts';
import { backupRoutes } from './backup/api.ts';
import { grantRoutes } from './enrolling/grant-api.ts';
import type { GrantView } from './enrolling/granting.ts';
import { hostRoutes } from './enrolling/host-api.ts';
import { nodeRoutes } from './node-api.ts';
import { resourceRoutes } from './resource-api.ts';
import { trustRoutes } from './trust/api.ts';
import type { Tower } from './tower.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const MINUTE_MS = 60_000;
const DEFAULT_TOKEN_LIFE_MS = 24 * 60 * MINUTE_MS;

const HealthSchema = Type.Object({ ok: Type.Literal(true), cluster: Label });

const Purpose = Type.Union([Type.Literal('enroll'), Type.Literal('preflight')]);
const TokenId = Type.String({ pattern: '^[0-9a-f]{12}$' });
const TokenSchema = Type.Object({
  id: TokenId,
  uses: Type.Integer(),
  uses_max: Type.Integer(),
  site: Type.Union([Label, Type.Null()]),
  tenant: Type.Union([Label, Type.Null()]),
  purpose: Purpose,
  sources: Type.Array(Type.String()),
  expires_ms: Time,
  revoked_ms: Type.Union([Time, Type.Null()]),
  created_ms: Time,
});
const NewTokenSchema = Type.Object(
  {
    uses: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.token_uses_max })),
    life_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.token_life_ms_max })),
    site: Type.Optional(Label),
    tenant: Type.Optional(Label),
    purpose: Type.Optional(Purpose),
    sources: Type.Optional(Type.Array(Type.String({ maxLength: 43 }), { maxItems: limits.grant_sources_max })),
  },
  { additionalProperties: false },
);
const StatusSchema = Type.Object({
  cluster: Label,
  fingerprint: Type.String(),
  version: Type.Integer(),
  endpoints: EndpointsSchema,
  nodes: Type.Integer(),
  tokens: Type.Integer(),
  certificate_not_after_ms: Time,
});

export interface TowerApiOptions extends Pick<ApiOptions, 'onFailure' | 'onRoute'> {
  /** Further routes, such as those of the mesh. */
  readonly register?: (routes: FastifyInstance) => void;
  /** Whether a session carries the tower's channel with this node now; without a mesh none does. */
  readonly reaches?: (node: string) => boolean;
}

export type PublicApiOptions = TowerApiOptions & PublicAccessOptions;

/** Ready for sockets: `api.server.emit('connection', tlsSocket)`. Close it with `api.close()`. */
export async function publicApi(tower: Tower, { onFailure, onRoute, register, reaches, ...options }: PublicApiOptions): Promise<Api> {
  const access = new PublicAccess(tower, options);
  const routes = towerRoutes(tower, (socket, jwt) => access.begunBy(socket, jwt), { register, reaches });
  return await makeApi({ title: 'Selvedge tower', routes, access, ...(onFailure && { onFailure }), ...(onRoute && { onRoute }) });
}

/** Listens on the Unix socket, which only its owner may open. @throws state_in_use, argument_invalid, permission_denied, file_exists */
export async function adminApi(tower: Tower, socketPath: string, { register, reaches, ...told }: TowerApiOptions = {}): Promise<Api> {
  const noSessions: Beginner = async () => {
    throw new SelvedgeError('unauthorized', { why: 'who may open this socket needs no session' });
  };
  const local = (routes: FastifyInstance) => {
    backupRoutes(routes.withTypeProvider<TypeBoxTypeProvider>(), tower);
    register?.(routes);
  };
  const api = await makeApi({
    title: 'Selvedge tower',
    routes: towerRoutes(tower, noSessions, { register: local, reaches }),
    access: localAccess(openRoutes),
    ...told,
  });
  return await listenOnSocket(api, socketPath);
}

/** The same on both, but for making backups: who may ask what is said by each route's scope. */
function towerRoutes(
  tower: Tower,
  begunBy: Beginner,
  { register, reaches = () => false }: { readonly [Key in 'register' | 'reaches']: TowerApiOptions[Key] | undefined },
): ApiOptions['routes'] {
  return (scope) => {
    const api = scope.withTypeProvider<TypeBoxTypeProvider>();
    api.addHook('preHandler', async ({ routeOptions, caller }) => {
      const { view } = routeOptions.config;
      if (view !== undefined) await tower.views.read(view, caller.actor);
    });
    strangerRoutes(api, tower);
    adminRoutes(api, tower);
    nodeRoutes(api, tower, reaches);
    auditRoutes(api, tower);
    trustRoutes(api, tower);
    appRoutes(api, tower);
    hostRoutes(api, tower);
    resourceRoutes(api, tower);
    grantRoutes(api, tower);
    operatorRoutes(api, tower.access);
    sessionRoutes(api, tower.access, begunBy);
    clientRoutes(api, tower);
    versionRoute(api);
    register?.(scope);
  };
}

/** What stands in `openRoutes`, beside logging in and redeeming (access/). */
function strangerRoutes(api: Api, tower: Tower): void {
  api.get('/v1/health', { schema: { response: { 200: HealthSchema } } }, async () => ({ ok: true as const, cluster: tower.cluster }));
  const schema = { body: EnrollRequestSchema, response: { 200: EnrollAnswerSchema, '4xx': ErrorSchema, '5xx': ErrorSchema } };
  api.post('/v1/enroll', { schema }, ({ body, ip }) => tower.enroll(body, ip));
  const challenge = { response: { 200: ChallengeAnswerSchema, '4xx': ErrorSchema, '5xx': ErrorSchema } };
  const preflight = { body: PreflightRequestSchema, response: { 200: PreflightAnswerSchema, '4xx': ErrorSchema, '5xx': ErrorSchema } };
  api.post('/v1/preflight', { schema: preflight }, ({ body, ip }) => tower.preflight(body, ip));
  api.post('/v1/enroll/challenge', { schema: challenge }, async () => tower.challenge());
  unsealRoute(api, tower.unsealing.helper);
}

/** For every known caller: parts of one cluster that are of different versions are told apart by it (`selvedge doctor`). */
function versionRoute(api: Api): void {
  const response = { 200: Type.Object({ version: Type.String() }), '4xx': ErrorSchema, '5xx': ErrorSchema };
  api.get('/v1/version', { ...anyScope, schema: { response } }, async () => ({ version: PROGRAM_VERSION }));
}

function adminRoutes(api: Api, tower: Tower): void {
  const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };
  const created = Type.Object({
    text: Type.String({ description: 'the token: shown here only' }),
    token: TokenSchema,
    fingerprint: Type.String({ description: 'of the root by which the tower is known now: who joins pins it' }),
  });
  api.post('/v1/tokens', { ...management, schema: { body: NewTokenSchema, response: { 200: created, ...errors } } }, async ({ body, caller }) => {
    const { uses = 1, life_ms = DEFAULT_TOKEN_LIFE_MS, ...more } = body;
    const { text, token } = await tower.createToken({ uses, life_ms, ...more }, caller.actor);
    return { text, token: tokenJson(token), fingerprint: formatFingerprint(tower.rootFingerprint) };
  });
  const listed = { querystring: PageQuery, response: { 200: pageOf(TokenSchema), ...errors } };
  api.get('/v1/tokens', { ...management, schema: listed }, async ({ query }) =>
    readPage(
      query,
      (request) => tower.tokenPage(request),
      (row) => row.id,
      tokenJson,
    ),
  );
  const byId = { params: Type.Object({ id: TokenId }), response: { 200: TokenSchema, ...errors } };
  api.delete('/v1/tokens/:id', { ...management, schema: byId }, async ({ params, caller }) => tokenJson(await tower.revokeToken(params.id, caller.actor)));
  api.get('/v1/status', { ...management, schema: { response: { 200: StatusSchema, ...errors } } }, async () => {
    const { endpoints, ...status } = await tower.status();
    return { ...status, endpoints: [...endpoints] };
  });
}

function tokenJson({ id, uses, usesMax, site, tenant, purpose, sources, expires_ms, revoked_ms, created_ms }: GrantView) {
  return { id, uses, uses_max: usesMax, site, tenant, purpose, sources: [...sources], expires_ms: expires_ms ?? 0, revoked_ms, created_ms };
}
