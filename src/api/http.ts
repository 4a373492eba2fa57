/**
 * What every HTTP API of this product shares, the tower's public one and those of local sockets: a server within bounds, one way of checking
 * a request, one way of answering an error. No route is here.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import swagger from '@fastify/swagger';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import fastify, { type FastifyBaseLogger, type FastifyError, type FastifyInstance, type RawServerDefault, type RouteOptions } from 'fastify';
import { Type } from 'typebox';
import { asSelvedgeError, type ErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { type Access, anyScope, guard } from './access.ts';
import { TakenAnswers } from './taken-answers.ts';

export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>;

/** Who hears of what is no refusal but a bug or a broken store; the answer itself says only `internal_error` or the code. */
export type FailureListener = (error: unknown, where: string) => void;

export interface ApiOptions {
  readonly title: string;
  readonly onFailure?: FailureListener;
  /** Who may ask what; absent where the socket itself says that, and every caller is the same. Judged before anything of a request but its head was read. */
  readonly access?: Access;
  readonly routes: (scope: FastifyInstance) => void;
  /** Told of each route that there is, for whoever walks the table. */
  readonly onRoute?: (route: RouteOptions) => void;
  /** For tests; `limits.api_answer_ms_max` unless told. */
  readonly answer_ms_max?: number;
}

export const ErrorSchema = Type.Object({
  code: Type.String(),
  message: Type.String(),
  remedy: Type.String(),
  facts: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean(), Type.Null()])),
});

/** A server of these routes, ready: listen on it, or hand it sockets with `api.server.emit('connection', socket)`. */
export async function makeApi({ title, onFailure, access, routes, onRoute, answer_ms_max = limits.api_answer_ms_max }: ApiOptions): Promise<Api> {
  const api: Api = fastify({
    serverFactory: (handler) => boundedServer(handler, answer_ms_max),
    // Fastify's own would destroy the socket while the answer is still being written.
    clientErrorHandler: refuseGarbage,
    bodyLimit: limits.api_body_bytes_max,
    forceCloseConnections: true,
    routerOptions: { maxParamLength: 64 },
    // What is asked is what is declared, and nothing beside it.
    exposeHeadRoutes: false,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: false } },
  }).withTypeProvider<TypeBoxTypeProvider>();
  if (onRoute !== undefined) api.addHook('onRoute', onRoute);
  if (access !== undefined) guard(api, access);
  api.addHook('onRequest', async ({ headers }) => {
    if (headers.host === undefined) throw new SelvedgeError('request_invalid', { path: '/headers/host', why: 'missing' });
  });
  api.setErrorHandler(async (error: FastifyError, request, reply) => {
    const refusal = asRefusal(error);
    const where = `${request.method} ${request.routeOptions.url ?? '/'}`;
    if (statusOf(refusal.code) >= 500) onFailure?.(error, where);
    // Whoever asks is not told why; whoever runs the tower is.
    if (refusal.code === 'host_refused' && refusal.cause !== undefined) onFailure?.(refusal.cause, where);
    if (statusOf(refusal.code) === 401) reply.header('www-authenticate', 'Bearer realm="selvedge"');
    if (refusal.code === 'rate_limited') reply.header('retry-after', Math.ceil(Number(refusal.facts.ms) / 1_000));
    return await reply.code(statusOf(refusal.code)).send(refusal.toJSON());
  });
  api.setNotFoundHandler(async (request) => {
    throw new SelvedgeError('not_found', { what: 'route', name: `${request.method} ${request.url.slice(0, 128)}` });
  });
  // Fastify closes only what it was itself asked to listen with.
  api.addHook('onClose', async ({ server }) => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  await api.register(swagger, { openapi: { openapi: '3.1.0', info: { title, version: '1' } } });
  await api.register((scope, _options, done) => {
    try {
      routes(scope);
      scope.get('/v1/openapi.json', { ...anyScope, schema: { hide: true } }, async () => api.swagger());
      done();
    } catch (error) {
      done(asSelvedgeError(error, 'internal_error', { what: 'the routes of an API' }));
    }
  });
  await api.ready();
  return api;
}

/** HTTP status of each code that an API can answer with; what is not here is a failure of ours. */
const statuses: Partial<Record<ErrorCode, number>> = {
  request_invalid: 400,
  argument_invalid: 400,
  csr_invalid: 400,
  unauthorized: 401,
  session_invalid: 401,
  scope_denied: 403,
  certificate_invalid: 403,
  operator_exists: 409,
  operator_revoked: 409,
  bundle_invalid: 403,
  bundle_expired: 403,
  bundle_redeemed: 403,
  wrong_cluster: 403,
  wrong_node: 403,
  token_invalid: 403,
  token_expired: 403,
  token_exhausted: 403,
  token_revoked: 403,
  certificate_revoked: 403,
  peer_disabled: 403,
  proof_disabled: 403,
  proof_invalid: 403,
  proof_expired: 403,
  proof_exhausted: 403,
  proof_revoked: 403,
  proof_replayed: 403,
  nonce_invalid: 403,
  host_refused: 403,
  host_unknown: 403,
  source_denied: 403,
  key_unseen: 403,
  jwt_invalid: 403,
  jwt_expired: 403,
  platform_unmatched: 403,
  jwt_keys_unavailable: 503,
  platform_unavailable: 503,
  rotation_refused: 409,
  grant_exists: 409,
  not_found: 404,
  unseal_generation_unknown: 404,
  not_member: 404,
  namespace_missing: 404,
  timeout: 408,
  name_taken: 409,
  limit_reached: 409,
  app_network_exists: 409,
  address_pool_full: 409,
  subnet_overlaps: 409,
  policy_denied: 403,
  resource_exists: 409,
  file_exists: 409,
  resource_in_use: 409,
  changed_meanwhile: 412,
  body_too_large: 413,
  rate_limited: 429,
  handle_closed: 503,
  shutting_down: 503,
  disk_full: 507,
};

export function statusOf(code: ErrorCode): number {
  return statuses[code] ?? 500;
}

function asRefusal(error: FastifyError | SelvedgeError): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  if (error.validation !== undefined) {
    const [first] = error.validation;
    const path = `/${error.validationContext ?? 'body'}${first?.instancePath ?? ''}`;
    const allowed = first?.params.allowedValues;
    const why = Array.isArray(allowed) ? `one of ${allowed.join(', ')}` : (first?.message ?? 'does not fit its schema');
    return new SelvedgeError('request_invalid', { path, why });
  }
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new SelvedgeError('body_too_large', { max: limits.api_body_bytes_max });
  if (error.statusCode !== undefined && error.statusCode < 500) return new SelvedgeError('request_invalid', { path: '/', why: error.message });
  return new SelvedgeError('internal_error', { what: 'the daemon' }, { cause: error });
}

/**
 * Node's own server with every bound set. Sockets may be handed to it that it never accepted, so it counts them itself, and the check of
 * its timeouts, which `listen` would start, is started here.
 */
function boundedServer(handler: (request: IncomingMessage, response: ServerResponse) => void, answer_ms_max: number): Server {
  const answers = new TakenAnswers(answer_ms_max);
  const server = createServer(
    {
      maxHeaderSize: limits.api_header_bytes_max,
      headersTimeout: limits.api_request_ms_max,
      requestTimeout: limits.api_request_ms_max,
      keepAliveTimeout: limits.api_request_ms_max,
      connectionsCheckingInterval: limits.api_request_ms_max / 4,
      // Checked with the rest, so that its refusal has a code as well.
      requireHostHeader: false,
    },
    (request, response) => {
      if (answers.admit(request, response)) handler(request, response);
    },
  );
  server.timeout = limits.api_request_ms_max;
  server.maxHeadersCount = 64;
  server.maxRequestsPerSocket = limits.api_requests_per_connection_max;
  // Node says `connection: close` with the last answer, and then answers whoever asks on with 503, for ever.
  server.on('dropRequest', (_request, socket) => socket.destroy());
  const open = new Set<Socket>();
  server.prependListener('connection', (socket: Socket) => {
    if (open.size >= limits.api_connections_max) {
      socket.destroy();
      return;
    }
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  server.emit('listening');
  return server;
}

/** Bytes that are no HTTP request, or too slow or large a head of one. */
function refuseGarbage(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const late = error.code === 'ERR_HTTP_REQUEST_TIMEOUT';
  const refusal = late
    ? new SelvedgeError('timeout', { what: 'the request', ms: limits.api_request_ms_max })
    : new SelvedgeError('request_invalid', {
        path: '/',
        why: error.code === 'HPE_HEADER_OVERFLOW' ? `head larger than ${limits.api_header_bytes_max} bytes` : 'not HTTP',
      });
  const body = JSON.stringify(refusal.toJSON());
  const status = late ? '408 Request Timeout' : '400 Bad Request';
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`, () =>
    socket.destroy(),
  );
}
