/**
 * The routes of the control API, by which the CLI asks a daemon about its channels and has it ping and send: mounted on the node's
 * own socket (control-server.ts), where who may open it may use them, and in the tower's API. They check and pass on.
 *
 * What takes time answers in lines of JSON (NDJSON) as it happens; an error after the first line is a line `{error}`.
 */
import { isAbsolute } from 'node:path';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { management, platformView } from '../api/access.ts';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { type TrafficClass, trafficClassNames } from '../channel/classes.ts';
import type { Mesh } from '../peering/mesh.ts';
import { sendFile } from '../services/file-send.ts';
import { ping } from '../services/ping.ts';
import type { Timers } from '../transport/system.ts';
import { type DrainControl, registerDrain } from './drain-routes.ts';
import { streamLines } from './stream-lines.ts';

export interface Control {
  readonly mesh: Mesh;
  readonly timers: Timers;
  /** Who this daemon is; safe to show. */
  readonly facts: () => Readonly<Record<string, string | number | boolean | null>>;
  /** Where this host can be drained. */
  readonly drain?: DrainControl;
}

const strict = { additionalProperties: false };
const NodeName = Type.String({ minLength: 1, maxLength: 253, pattern: '^[a-z0-9][a-z0-9.-]*$' });
const ClassName = Type.Enum(trafficClassNames);

const PingBody = Type.Object(
  {
    node: NodeName,
    class: Type.Optional(ClassName),
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.ping_count_max })),
    interval_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_600_000 })),
    size_bytes: Type.Optional(Type.Integer({ minimum: 12, maximum: limits.message_bytes_max })),
  },
  strict,
);

const SendBody = Type.Object(
  {
    node: NodeName,
    path: Type.String({ minLength: 1, maxLength: 4_096 }),
    class: Type.Optional(ClassName),
    patience_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: 7 * 86_400_000 })),
  },
  strict,
);

export function registerControl(scope: FastifyInstance, { mesh, timers, facts, drain }: Control): void {
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  if (drain) registerDrain(scope, drain, timers);
  api.get('/v1/channels', platformView('channels'), async () => ({ self: facts(), channels: mesh.status(), drain: drain?.host.drainStatus ?? null }));
  api.get('/v1/peers', platformView('channels'), async () => ({
    peers: mesh.status().map(({ peer, name, site, state, remote }) => ({ peer, name, site, state, remote })),
  }));
  api.post('/v1/ping', { ...management, schema: { body: PingBody } }, (request, reply) => {
    const { node, class: cls = 'input', count = null, interval_ms = 1_000, size_bytes = 64 } = request.body;
    return streamLines(request, reply, async (signal, emit) => {
      const onSample = (sample: object) => emit(sample);
      return { ...(await ping(mesh, timers, { node, class: asClass(cls), count, interval_ms, size_bytes, signal, onSample })), done: true };
    });
  });
}

/** For local sockets alone: it reads whatever file of this host the daemon may read. */
export function registerSend(scope: FastifyInstance, { mesh, timers }: Pick<Control, 'mesh' | 'timers'>): void {
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  api.post('/v1/send', { ...management, schema: { body: SendBody } }, (request, reply) => {
    const { node, path, class: cls = 'file_transfer', patience_ms } = request.body;
    if (!isAbsolute(path))
      throw new SelvedgeError('request_invalid', { path: '/body/path', why: 'must be absolute: the daemon has another working directory' });
    return streamLines(request, reply, async (signal, emit) => {
      const options = { node, path, class: asClass(cls), signal, onProgress: emit, ...(patience_ms !== undefined && { patience_ms }) };
      return { ...(await sendFile(mesh, timers, options)), done: true };
    });
  });
}

/** The schema has checked it; the type provider widens an enumeration to text. */
function asClass(name: string): TrafficClass {
  const found = trafficClassNames.find((one) => one === name);
  if (found === undefined) throw new SelvedgeError('request_invalid', { path: '/body/class', why: `'${name}' is no class` });
  return found;
}
