/** The node's local socket: an HTTP server within bounds, only for the socket's owner, with the control routes and who this node is. */
import { once } from 'node:events';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect } from 'node:net';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import fastify, { type FastifyError } from 'fastify';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { type Control, type ControlApi, registerControl } from './control-routes.ts';

/** `sun_path` of Linux has 108 octets, the last of them 0. */
const SOCKET_PATH_BYTES_MAX = 107;

/** Listens until closed. @throws state_in_use, file_exists, argument_invalid, permission_denied */
export async function controlServer(socketPath: string, control: Control): Promise<{ close(): Promise<void> }> {
  if (Buffer.byteLength(socketPath) > SOCKET_PATH_BYTES_MAX) {
    throw new SelvedgeError('argument_invalid', {
      name: 'state',
      why: `the path of ${socketPath} is longer than the ${SOCKET_PATH_BYTES_MAX} octets that the system allows`,
    });
  }
  const api = makeControlApi();
  api.get('/v1/status', async () => control.facts());
  registerControl(api, control);
  try {
    await api.ready();
    await removeStale(socketPath);
    await listenPrivately(api, socketPath);
  } catch (error) {
    await api.close();
    throw error;
  }
  return { close: () => api.close() };
}

function makeControlApi(): ControlApi {
  const api: ControlApi = fastify({
    serverFactory: (handler) =>
      createServer(
        { maxHeaderSize: limits.api_header_bytes_max, headersTimeout: limits.api_request_ms_max, requestTimeout: limits.api_request_ms_max },
        handler,
      ),
    bodyLimit: limits.api_body_bytes_max,
    forceCloseConnections: true,
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
  }).withTypeProvider<TypeBoxTypeProvider>();
  api.server.maxConnections = limits.control_connections_max;
  // It was not fastify that made the server listen, so it does not close it either.
  api.addHook('onClose', async ({ server }) => {
    server.closeAllConnections();
    await new Promise<void>((resolve) => server.close(() => resolve()));
  });
  api.setErrorHandler(async (error: FastifyError | SelvedgeError, _request, reply) => {
    const refusal = asRefusal(error);
    return await reply.code(refusal.code === 'internal_error' ? 500 : 400).send(refusal.toJSON());
  });
  api.setNotFoundHandler(async (request) => {
    throw new SelvedgeError('not_found', { what: request.method, name: request.url.slice(0, 128) });
  });
  return api;
}

function asRefusal(error: FastifyError | SelvedgeError): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  if (error.validation !== undefined) {
    const [first] = error.validation;
    return new SelvedgeError('request_invalid', {
      path: `/${error.validationContext ?? 'body'}${first?.instancePath ?? ''}`,
      why: first?.message ?? 'does not fit its schema',
    });
  }
  if (error.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return new SelvedgeError('body_too_large', { max: limits.api_body_bytes_max });
  if (error.statusCode !== undefined && error.statusCode < 500) return new SelvedgeError('request_invalid', { path: '/', why: error.message });
  return new SelvedgeError('internal_error', { what: 'the daemon' }, { cause: error });
}

/** The socket is its owner's alone from its first moment: it is bound inside `listen`, under the narrow umask. */
async function listenPrivately(api: ControlApi, path: string): Promise<void> {
  const listening = once(api.server, 'listening');
  const umask = process.umask(0o177);
  try {
    api.server.listen({ path });
  } finally {
    process.umask(umask);
  }
  try {
    await listening;
    await chmod(path, 0o600);
  } catch (error) {
    throw new SelvedgeError('permission_denied', { what: `listening on ${path}: ${error instanceof Error ? error.message : error}` }, { cause: error });
  }
}

/** A socket file on which nobody listens is what a killed daemon leaves behind. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  if (!found.isSocket()) throw new SelvedgeError('file_exists', { path });
  if (await answers(path)) throw new SelvedgeError('state_in_use', { path });
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (yes: boolean) => {
      socket.destroy();
      resolve(yes);
    };
    socket.once('connect', () => done(true)).once('error', () => done(false));
  });
}
