/** The daemon's end of the tunnel's carry socket: says whose packets the stream carries, and hands it over once the tunnel has agreed. */
import type { Socket } from 'node:net';
import { Type } from 'typebox';
import { isErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Timers } from '../transport/system.ts';
import { connectTunnel, unreachable } from './tunnel-socket.ts';
import { checker, TUNNEL_PROTOCOL } from './tunnel-wire.ts';

const checkAnswer = checker(
  Type.Object({
    ok: Type.Optional(Type.Literal(true)),
    error: Type.Optional(Type.Object({ code: Type.String({ maxLength: 64 }), message: Type.String({ maxLength: 1_024 }) })),
  }),
);
const NEWLINE = 0x0a;

/** Paused: whoever takes it reads. What came behind the answer is in the socket. @throws tunnel_unreachable, permission_denied, timeout, what the tunnel says */
export async function openCarrySocket(path: string, node: string, timers: Timers): Promise<Socket> {
  const socket = await connectTunnel(path);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const patience_ms = limits.tunnel_answer_ms_max;
  const cancel = timers.after(patience_ms, () => reject(new SelvedgeError('timeout', { what: 'the answer of the carry socket', ms: patience_ms })));
  let held: Buffer = Buffer.alloc(0);
  const onData = (chunk: Buffer) => {
    held = held.length === 0 ? chunk : Buffer.concat([held, chunk]);
    const end = held.indexOf(NEWLINE);
    if (end < 0 && held.length <= limits.carry_answer_bytes_max) return;
    socket.pause();
    socket.off('data', onData);
    try {
      checkYes(end < 0 ? '' : held.toString('utf8', 0, end), path);
      if (held.length > end + 1) socket.unshift(held.subarray(end + 1));
      resolve();
    } catch (error) {
      reject(error);
    }
  };
  socket.on('data', onData);
  const onEnd = (error?: unknown) => reject(unreachable(path, error ?? new Error('it closed the connection')));
  socket.once('error', onEnd).once('close', onEnd);
  socket.write(`${JSON.stringify({ version: TUNNEL_PROTOCOL, node })}\n`);
  try {
    await promise;
    return socket;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    cancel();
    socket.off('close', onEnd).off('error', onEnd);
  }
}

/** @throws tunnel_answer_invalid, what the tunnel says */
function checkYes(line: string, path: string): void {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new SelvedgeError('tunnel_answer_invalid', { why: `no line of JSON at ${path}` });
  }
  const { ok, error } = checkAnswer(value);
  if (ok) return;
  const { code, message } = error ?? { code: '', message: 'neither yes nor no' };
  if (isErrorCode(code)) throw new SelvedgeError(code, { why: message, what: 'peer of the tunnel', name: message });
  throw new SelvedgeError('tunnel_refused', { what: 'the carry socket', why: message });
}
