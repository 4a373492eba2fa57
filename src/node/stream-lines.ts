/** Answers in lines of JSON (NDJSON) as things happen, for routes whose work takes a while. */
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { asSelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

/**
 * Answers with a line for each value that `work` emits, and one for its result or error. The caller's end of the connection is its
 * interruption. `emit` says whether there was room for the line. An error before anything was emitted is an ordinary error answer.
 */
export async function streamLines(
  request: FastifyRequest,
  reply: FastifyReply,
  work: (signal: AbortSignal, emit: (value: object) => boolean) => Promise<object>,
): Promise<FastifyReply> {
  const interruption = new AbortController();
  const lines = new Readable({ read() {} });
  const { promise: begun, resolve: begin, reject: refuse } = Promise.withResolvers<void>();
  const push = (value: object): void => {
    begin();
    if (!lines.destroyed) lines.push(`${JSON.stringify(value)}\n`);
  };
  const emit = (value: object): boolean => {
    // Whoever does not read loses lines, not this daemon its memory.
    const hasRoom = lines.readableLength < limits.control_backlog_bytes_max;
    if (hasRoom) push(value);
    return hasRoom;
  };
  const over = () => interruption.abort();
  reply.raw.once('close', over);
  // A quiet stretch of a ping or transfer is not a dead client.
  request.raw.socket.setTimeout(0);
  work(interruption.signal, emit)
    .then(push, (error: unknown) => {
      const known = asSelvedgeError(error, 'internal_error', { what: 'the daemon' });
      refuse(known);
      push({ error: known.toJSON() });
    })
    .finally(() => {
      reply.raw.off('close', over);
      if (!lines.destroyed) lines.push(null);
    });
  await begun;
  return reply.type('application/x-ndjson').send(lines);
}
