/** One request to a daemon's local socket from the lab's own process: for what must be timed to the millisecond, which the start of a program would blur. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { json } from 'node:stream/consumers';
import { SelvedgeError } from '../base/errors.ts';

/** The answer's JSON. @throws lab_failed */
export async function askSocket(socketPath: string, method: 'GET' | 'DELETE', path: string): Promise<Readonly<Record<string, unknown>>> {
  const outgoing = request({ socketPath, method, path, agent: false });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const body = (await json(response)) as Readonly<Record<string, unknown>>;
  if (response.statusCode === 200) return body;
  throw new SelvedgeError('lab_failed', { why: `${method} ${path} at ${socketPath}: ${response.statusCode} ${String(body.message)}` });
}
