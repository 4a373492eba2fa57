/** Asks an API on a Unix socket. */
import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';

export interface LocalAnswer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly body: { readonly code?: string; readonly facts?: Record<string, unknown>; readonly [key: string]: unknown };
}

export type Ask = (method: string, path: string, body?: object, headers?: Record<string, string>) => Promise<LocalAnswer>;

export function asker(socketPath: string): Ask {
  return async (method, path, body, headers = {}) => {
    const text = body === undefined ? undefined : JSON.stringify(body);
    const content = text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    const request = httpRequest({ socketPath, method, path, headers: { ...content, ...headers }, agent: false });
    request.end(text);
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const chunks: Buffer[] = [];
    for await (const chunk of response) chunks.push(chunk as Buffer);
    return { status: response.statusCode ?? 0, headers: response.headers, body: JSON.parse(Buffer.concat(chunks).toString()) as LocalAnswer['body'] };
  };
}
