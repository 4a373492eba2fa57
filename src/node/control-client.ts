/** The CLI's half of the local sockets, node's and tower's, and of a tower's public port: one request, an answer or a stream of lines, and errors of the table. */
import { once } from 'node:events';
import { type ClientRequest, type IncomingMessage, request } from 'node:http';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { isErrorCode, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

export type Json = Readonly<Record<string, unknown>>;

/** A tower that is asked over the network: the connection is one to it and nobody else, and shows who asks. */
export interface Remote {
  connect(): Promise<Socket>;
}

export interface ControlCall {
  /** Of a local daemon; where there is a `remote`, what to call it. */
  readonly socketPath: string;
  readonly remote?: Remote;
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly path: string;
  /** Who has this route, where only one of the two has it. */
  readonly needs?: 'tower' | 'node';
  readonly body?: Json;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** @throws daemon_unreachable, wrong_daemon, or what the daemon answered */
export async function callControl(call: ControlCall): Promise<unknown> {
  const response = await open(call);
  return parse(call, await readWhole(response));
}

/** The objects of an answer in lines, as they come. An `{error}` line is thrown. @throws daemon_unreachable, what the daemon answered, or the reason of `signal` */
export async function* streamControl(call: ControlCall): AsyncGenerator<Json> {
  const response = await open(call);
  let last: Json | null = null;
  try {
    for await (const line of createInterface({ input: response })) {
      if (line === '') continue;
      last = asObject(parse(call, line));
      if ('error' in last) throw errorOf(last.error);
      yield last;
    }
  } catch (error) {
    call.signal?.throwIfAborted();
    throw error instanceof SelvedgeError ? error : unreachable(call, error);
  } finally {
    response.destroy();
  }
  call.signal?.throwIfAborted();
  if (last?.done !== true) throw unreachable(call, new Error('it ended in the middle of its answer'));
}

async function open(call: ControlCall): Promise<IncomingMessage> {
  const body = call.body === undefined ? null : JSON.stringify(call.body);
  const socket = await call.remote?.connect();
  const outgoing: ClientRequest = request({
    // An agent, even none, would make a connection of its own.
    ...(socket === undefined ? { socketPath: call.socketPath, agent: false } : { createConnection: () => socket }),
    method: call.method,
    path: call.path,
    headers: { host: 'localhost', ...call.headers, ...(body !== null && { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }) },
    ...(call.signal && { signal: call.signal }),
  });
  outgoing.end(body ?? undefined);
  let response: IncomingMessage;
  try {
    [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  } catch (error) {
    call.signal?.throwIfAborted();
    throw unreachable(call, error);
  }
  // An abort after the response ends the reading of it, which says so itself.
  outgoing.on('error', () => undefined);
  if ((response.statusCode ?? 500) < 400) return response;
  if (response.statusCode === 503) throw unreachable(call, new Error('it is shutting down'));
  const refusal = errorOf(parse(call, await readWhole(response)));
  if (refusal.code === 'not_found' && refusal.facts.what === 'route' && call.needs !== undefined) await refuseWrongDaemon(call, call.needs);
  throw refusal;
}

/** Both daemons say who they are at the same place. @throws wrong_daemon */
async function refuseWrongDaemon({ socketPath, remote }: ControlCall, expected: string): Promise<void> {
  const { role } = asObject(asObject(await callControl({ socketPath, method: 'GET', path: '/v1/channels', ...(remote && { remote }) })).self);
  if ((role === 'tower' || role === 'node') && role !== expected) throw new SelvedgeError('wrong_daemon', { path: socketPath, found: role, expected });
}

async function readWhole(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > limits.control_answer_bytes_max) throw new SelvedgeError('body_too_large', { max: limits.control_answer_bytes_max });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function parse({ socketPath }: ControlCall, text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    throw new SelvedgeError('daemon_unreachable', { path: socketPath, why: 'what answers there does not speak our protocol' }, { cause: error });
  }
}

function asObject(value: unknown): Json {
  return typeof value === 'object' && value !== null ? (value as Json) : {};
}

/** A daemon's error, as one of ours. */
function errorOf(value: unknown): SelvedgeError {
  const { code, facts, message } = asObject(value);
  if (typeof code === 'string' && isErrorCode(code)) return new SelvedgeError(code, asObject(facts) as SelvedgeError['facts']);
  return new SelvedgeError('internal_error', { what: `the daemon: ${String(message ?? 'no reason given')}` });
}

function unreachable({ socketPath }: ControlCall, cause: unknown): SelvedgeError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  const whys: Record<string, string> = { ENOENT: 'there is no socket', ECONNREFUSED: 'nobody listens', EACCES: 'no permission to open it' };
  const why = (typeof code === 'string' ? whys[code] : undefined) ?? (cause instanceof Error ? cause.message : String(cause));
  return new SelvedgeError('daemon_unreachable', { path: socketPath, why }, { cause });
}
