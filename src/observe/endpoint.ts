/** `GET /metrics` for a scraper on the same host: on a loopback address alone, since it asks nobody who they are. Off unless the configuration has it. */
import { once } from 'node:events';
import { isIP } from 'node:net';
import { makeApi } from '../api/http.ts';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import type { Metrics } from './metrics.ts';

export interface EndpointOptions {
  /** An address of the loopback interface. */
  readonly address: string;
  readonly port: number;
}

/** Listens until closed. @throws argument_invalid, port_in_use, permission_denied */
export async function serveMetrics(metrics: Metrics, { address, port }: EndpointOptions): Promise<{ readonly port: number; close(): Promise<void> }> {
  if (!isLoopback(address)) throw new SelvedgeError('argument_invalid', { name: 'metrics.address', why: `${address} is not an address of this host alone` });
  const api = await makeApi({
    title: 'Selvedge metrics',
    routes: (scope) => {
      scope.get('/metrics', async (request, reply) => {
        refuseOtherName(request.headers.host);
        return await reply.type(metrics.contentType).send(await metrics.text());
      });
    },
  });
  try {
    api.server.listen({ host: address, port });
    await once(api.server, 'listening');
  } catch (error) {
    await api.close();
    const isTaken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    throw isTaken
      ? new SelvedgeError('port_in_use', { proto: 'TCP', port, address }, { cause: error })
      : asSelvedgeError(error, 'permission_denied', { what: `listening on ${address}:${port}` });
  }
  const at = api.server.address();
  return { port: typeof at === 'object' && at !== null ? at.port : port, close: () => api.close() };
}

/** Addresses alone, no names: what a name leads to may change. */
export function isLoopback(address: string): boolean {
  return address === '::1' || (isIP(address) === 4 && address.startsWith('127.'));
}

/** A web page may lead a browser of this host here by a name of its own (DNS rebinding); it is told nothing. */
function refuseOtherName(host: string | undefined): void {
  const name = (host ?? '').replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
  if (name !== 'localhost' && !isLoopback(name)) throw new SelvedgeError('request_invalid', { path: '/headers/host', why: 'not an address of this host' });
}
