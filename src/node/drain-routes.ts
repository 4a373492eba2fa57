/** The routes by which a daemon is emptied and taken back into service: `POST /v1/drain` answers in lines until it is over, `POST /v1/undrain` at once. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { FastifyInstance } from 'fastify';
import { Type } from 'typebox';
import { management } from '../api/access.ts';
import { limits } from '../base/limits.ts';
import type { Drainable } from '../peering/drain.ts';
import type { Timers } from '../transport/system.ts';
import { streamLines } from './stream-lines.ts';

/** What the configuration says of draining, where a request says nothing. */
export interface DrainSettings {
  readonly deadline_ms: number;
  readonly force: boolean;
}

export interface DrainControl {
  readonly host: Drainable;
  readonly settings: DrainSettings;
}

const DrainBody = Type.Object(
  {
    deadline_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.drain_ms_max })),
    force: Type.Optional(Type.Boolean()),
  },
  { additionalProperties: false },
);

/** Between two lines of progress. */
const PROGRESS_MS = 1_000;

/** Who stops listening to a drain does not stop it: `undrain` does. */
export function registerDrain(scope: FastifyInstance, { host, settings }: DrainControl, timers: Timers): void {
  const api = scope.withTypeProvider<TypeBoxTypeProvider>();
  api.post('/v1/drain', { ...management, schema: { body: DrainBody } }, (request, reply) =>
    streamLines(request, reply, async (signal, emit) => {
      const over = host.drain({ ...settings, ...request.body });
      let cancel = (): void => {};
      const tell = (): void => {
        if (signal.aborted) return;
        emit(host.drainStatus);
        cancel = timers.after(PROGRESS_MS, tell);
      };
      tell();
      const settled = await over;
      cancel();
      return { ...settled, done: true };
    }),
  );
  api.post('/v1/undrain', management, async () => {
    host.undrain();
    return host.drainStatus;
  });
}
