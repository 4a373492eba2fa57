/** The routes by which the CLI asks a daemon what it sees of itself: metrics, events, and all of one channel. On local sockets alone. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { management } from '../api/access.ts';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { EventRing, SeenEvent } from '../observe/event-ring.ts';
import type { Metrics } from '../observe/metrics.ts';
import type { ChannelDetail } from '../peering/channel-detail.ts';
import { streamLines } from './stream-lines.ts';

export interface Observed {
  readonly events: EventRing;
  readonly metrics: Metrics;
  /** By id or name. @throws not_found */
  readonly show: (node: string) => ChannelDetail;
}

const EventsBody = Type.Object(
  { since: Type.Optional(Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER })), follow: Type.Optional(Type.Boolean()) },
  { additionalProperties: false },
);
const ShowParams = Type.Object({ node: Type.String({ minLength: 1, maxLength: 63, pattern: '^[a-z0-9][a-z0-9-]*$' }) });

export function registerObserved(scope: FastifyInstance, { events, metrics, show }: Observed): void {
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  api.get('/v1/metrics', management, async () => ({ metrics: await metrics.json(), text: await metrics.text() }));
  api.get('/v1/channels/:node', { ...management, schema: { params: ShowParams } }, async ({ params }) => {
    const channel = show(params.node);
    return { ...channel, failures: events.failuresOf(channel.name, limits.channel_detail_failures_max) };
  });
  api.post('/v1/events', { ...management, schema: { body: EventsBody } }, (request, reply) => {
    const { since = 0, follow = false } = request.body;
    return streamLines(request, reply, async (signal, emit) => {
      const past = events.since(since);
      for (const event of past.events) refuseSlow(emit(event));
      if (follow) await following(events, signal, emit);
      return { done: true, last: events.last, missed: past.missed };
    });
  });
}

/** Until the reader leaves. @throws limit_reached for one that does not keep up, or one too many */
function following(events: EventRing, signal: AbortSignal, emit: (event: SeenEvent) => boolean): Promise<void> {
  if (events.following >= limits.event_followers_max)
    throw new SelvedgeError('limit_reached', { limit: 'event_followers_max', max: limits.event_followers_max });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const end = events.follow((event) => {
    const isTaken = emit(event);
    if (!isTaken) reject(tooSlow());
    return isTaken;
  });
  signal.addEventListener('abort', () => resolve(), { once: true });
  if (signal.aborted) resolve();
  return promise.finally(end);
}

function refuseSlow(isTaken: boolean): void {
  if (!isTaken) throw tooSlow();
}

function tooSlow(): SelvedgeError {
  return new SelvedgeError('limit_reached', { limit: 'control_backlog_bytes_max', max: limits.control_backlog_bytes_max });
}
