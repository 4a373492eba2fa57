/** One request to a daemon's local socket from the lab's own process: for what must be timed to the millisecond, which the start of a program would blur. */
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { json } from 'node:stream/consumers';
import { SelvedgeError } from '../base/errors.ts';

export interface LocalRequest {
  readonly body?: object;
  readonly headers?: Readonly<Record<string, string>>;
}

/** The answer's JSON. @throws lab_failed */
export async function askSocket(
  socketPath: string,
  method: 'GET' | 'POST' | 'DELETE',
  path: string,
  { body, headers = {} }: LocalRequest = {},
): Promise<Readonly<Record<string, unknown>>> {
  const typed = body === undefined ? headers : { 'content-type': 'application/json', ...headers };
  const outgoing = request({ socketPath, method, path, headers: typed, agent: false });
  outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const answer = (await json(response)) as Readonly<Record<string, unknown>>;
  if (response.statusCode === 200) return answer;
  throw new SelvedgeError('lab_failed', { why: `${method} ${path} at ${socketPath}: ${response.statusCode} ${String(answer.message)}` });
}
