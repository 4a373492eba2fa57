/** Answers in lines of JSON (NDJSON) as things happen, for routes whose work takes a while. */
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { asSelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

/**
 * Answers with a line for each value that `work` emits, and one for its result or error. The caller's end of the connection is its
 * interruption. An error before anything was emitted is an ordinary error answer.
 */
export async function streamLines(
  request: FastifyRequest,
  reply: FastifyReply,
  work: (signal: AbortSignal, emit: (value: object) => void) => Promise<object>,
): Promise<FastifyReply> {
  const interruption = new AbortController();
  const lines = new Readable({ read() {} });
  const { promise: begun, resolve: begin, reject: refuse } = Promise.withResolvers<void>();
  const emit = (value: object) => {
    begin();
    // Whoever does not read loses lines, not this daemon its memory.
    if (!lines.destroyed && lines.readableLength < limits.control_backlog_bytes_max) lines.push(`${JSON.stringify(value)}\n`);
  };
  const over = () => interruption.abort();
  reply.raw.once('close', over);
  // A quiet stretch of a ping or transfer is not a dead client.
  request.raw.socket.setTimeout(0);
  work(interruption.signal, emit)
    .then(emit, (error: unknown) => {
      const known = asSelvedgeError(error, 'internal_error', { what: 'the daemon' });
      refuse(known);
      emit({ error: known.toJSON() });
    })
    .finally(() => {
      reply.raw.off('close', over);
      if (!lines.destroyed) lines.push(null);
    });
  await begun;
  return reply.type('application/x-ndjson').send(lines);
}
