/** The API's routes of sessions, and of what callers may know of themselves: checked by schema, passed on to sessions.ts. */
import type { Socket } from 'node:net';
import { Type } from 'typebox';
import { anyScope, management } from '../../api/access.ts';
import { type Api, ErrorSchema } from '../../api/http.ts';
import { PageQuery, pageOf, readPage } from '../../api/pages.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { NodeId } from '../../enroll/shapes.ts';
import type { SessionRow } from './access-store.ts';
import { ScopeList } from './operator-api.ts';
import type { Begun, SessionRequest } from './sessions.ts';
import type { TowerAccess } from './tower-access.ts';

const Time = Type.Number({ description: 'milliseconds since the epoch' });
const SessionSchema = Type.Object({ id: NodeId, actor: Type.String(), scopes: Type.Array(Type.String()), created_ms: Time, expires_ms: Time });
const errors = { '4xx': ErrorSchema, '5xx': ErrorSchema };

const LoginBody = Type.Object(
  {
    /** Without one, the certificate of the connection counts. */
    jwt: Type.Optional(Type.String({ minLength: 1, maxLength: limits.jwt_login_chars_max })),
    scopes: Type.Optional(ScopeList),
    life_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.api_session_life_ms_max })),
  },
  { additionalProperties: false },
);

/** Who begins a session, by what the connection or the JWT shows. */
export type Beginner = (socket: Socket, jwt: string | undefined) => Promise<Begun>;

export function sessionRoutes(api: Api, { sessions }: TowerAccess, begunBy: Beginner): void {
  const begun = Type.Object({ token: Type.String({ description: 'shown here only' }), session: SessionSchema });
  api.post('/v1/sessions', { schema: { body: LoginBody, response: { 200: begun, ...errors } } }, async (request) => {
    const { jwt, ...asked } = request.body;
    const { text, row } = await sessions.begin(await begunBy(request.raw.socket, jwt), asked as SessionRequest);
    return { token: text, session: sessionJson(row) };
  });
  api.get('/v1/sessions', { ...management, schema: { querystring: PageQuery, response: { 200: pageOf(SessionSchema), ...errors } } }, async ({ query }) =>
    readPage(
      query,
      (page) => sessions.page(page),
      (row) => row.id,
      sessionJson,
    ),
  );
  const one = { params: Type.Object({ id: NodeId }), response: { 200: SessionSchema, ...errors } };
  api.delete('/v1/sessions/:id', { ...management, schema: one }, async ({ params, caller }) => sessionJson(await sessions.revoke(params.id, caller.actor)));
  const Self = Type.Object({ actor: Type.String(), scopes: Type.Array(Type.String()), session: Type.Union([NodeId, Type.Null()]) });
  api.get('/v1/self', { ...anyScope, schema: { response: { 200: Self, ...errors } } }, async ({ caller: { actor, scopes, session = null } }) => ({
    actor,
    scopes: [...scopes],
    session,
  }));
  // What ends is what asks: no id can be named here.
  api.delete('/v1/sessions/current', { ...anyScope, schema: { response: { 200: SessionSchema, ...errors } } }, async ({ caller, raw }, reply) => {
    if (caller.session === undefined) throw new SelvedgeError('session_invalid', { why: 'this request was not made with one' });
    // The connection ends with its session, once the answer is out.
    reply.header('connection', 'close');
    return sessionJson(await sessions.logout(caller.session, caller.actor, raw.socket));
  });
}

function sessionJson({ id, actor, scopes, created_ms, expires_ms }: SessionRow) {
  return { id, actor, scopes: [...scopes], created_ms, expires_ms };
}
