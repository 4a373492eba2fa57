/** The routes of the node's local socket about app networks: what there is, namespaces that come and go, echoes, and a new key. */
import { isIP } from 'node:net';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { limits } from '../base/limits.ts';
import type { AppNetworks } from '../overlay/app-networks.ts';
import { percentile } from '../services/percentile.ts';
import type { Timers } from '../transport/system.ts';
import { streamLines } from './stream-lines.ts';

const strict = { additionalProperties: false };
const NetworkName = Type.String({ pattern: '^[a-z][a-z0-9-]{0,31}$' });
const AttachmentName = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$' });

const ConnectBody = Type.Object(
  {
    network: NetworkName,
    namespace: Type.String({ minLength: 1, maxLength: 1_024 }),
    name: Type.Optional(AttachmentName),
    interface: Type.Optional(Type.String({ minLength: 1, maxLength: 15 })),
  },
  strict,
);
const DisconnectBody = Type.Object({ network: NetworkName, name: AttachmentName }, strict);
const PingBody = Type.Object(
  {
    network: NetworkName,
    target: Type.String({ minLength: 1, maxLength: 253, pattern: '^[A-Za-z0-9.:/_-]+$' }),
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.ping_count_max })),
    interval_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_600_000 })),
    size_bytes: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.app_ping_bytes_max })),
    timeout_ms: Type.Optional(Type.Integer({ minimum: 1, maximum: limits.app_ping_ms_max })),
  },
  strict,
);

export function registerApps(scope: FastifyInstance, apps: AppNetworks, timers: Timers): void {
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  api.get('/v1/app', async () => ({ app: await apps.status() }));
  api.post('/v1/app/connect', { schema: { body: ConnectBody } }, async ({ body }) => apps.places.connect(body));
  api.post('/v1/app/disconnect', { schema: { body: DisconnectBody } }, async ({ body }) => {
    await apps.places.disconnect(body.network, body.name);
    return { done: true };
  });
  api.post('/v1/app/rotate-key', async () => {
    await apps.rotateKey();
    return { done: true };
  });
  api.post('/v1/app/ping', { schema: { body: PingBody } }, (request, reply) => {
    const { network, target, count = null, interval_ms = 1_000, size_bytes = 56, timeout_ms = 2_000 } = request.body;
    return streamLines(request, reply, async (signal, emit) => {
      const address = isIP(target) === 0 ? apps.addressOf(network, target) : target;
      const echo = () => apps.echo(network, address, size_bytes, timeout_ms);
      return { ...(await echoes({ echo, timers, count, interval_ms, signal, emit, address })), address, done: true };
    });
  });
}

interface Echoes {
  readonly echo: () => Promise<number | null>;
  readonly timers: Timers;
  readonly count: number | null;
  readonly interval_ms: number;
  readonly signal: AbortSignal;
  readonly emit: (value: object) => void;
  readonly address: string;
}

/** One after the other: question k no earlier than k intervals after the start. */
async function echoes({ echo, timers, count, interval_ms, signal, emit, address }: Echoes) {
  const samples: number[] = [];
  const started_ms = timers.clock.now();
  let sent = 0;
  let received = 0;
  while ((count === null || sent < count) && !signal.aborted) {
    await until(timers, started_ms + sent * interval_ms, signal);
    if (signal.aborted) break;
    const sequence = sent++;
    const rtt_ms = await echo();
    emit({ sequence, address, rtt_ms, at_ms: timers.clock.wall() });
    if (rtt_ms === null) continue;
    received++;
    // Endless runs hand each sample on and keep none.
    if (count !== null) samples.push(rtt_ms);
  }
  const at = (part: number) => percentile(samples, part);
  return { sent, received, samples_ms: samples, min_ms: at(0), p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1) };
}

async function until(timers: Timers, due_ms: number, signal: AbortSignal): Promise<void> {
  const left_ms = due_ms - timers.clock.now();
  if (left_ms <= 0) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const cancel = timers.after(left_ms, resolve);
  const stop = () => resolve();
  signal.addEventListener('abort', stop, { once: true });
  await promise;
  cancel();
  signal.removeEventListener('abort', stop);
}
