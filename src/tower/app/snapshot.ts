/** A member's view of its app networks, as its snapshot tells it. Pure. */
import { assert } from '../../base/errors.ts';
import type { AppHost, AppPart } from '../../enroll/app-wire.ts';
import { isHostAddress } from '../../transport/host-address.ts';
import type { AppHostRow, AppView } from '../store/app-store.ts';

export function appPart(node: string, { networks, hosts }: AppView): AppPart {
  const own = hosts.find((host) => host.node === node);
  assert(own !== undefined && own.vtep !== null, 'a live member of a network has a VTEP');
  return {
    vtep: own.vtep,
    networks: networks.map(({ created_ms: _at, endpoints, ...network }) => ({ ...network, endpoints: [...endpoints] })),
    hosts: hosts.flatMap((host) => (host === own ? [] : [hostPart(host)])),
  };
}

function hostPart(host: AppHostRow): AppHost {
  const { node, name, site, vtep, keys, underlay } = host;
  assert(vtep !== null, 'a member of a network has a VTEP');
  return { node, name, site, vtep, keys: [...keys], endpoint: hostEndpoint(host), underlay };
}

/**
 * Where a host's WireGuard is heard: an address, never a name, since whoever answers for a name could make every host send to a place of their choice. A
 * host that says no address of its own is at the first that it advertises for its channels.
 */
export function hostEndpoint({ listen, endpoints }: AppHostRow): AppHost['endpoint'] {
  if (listen === null) return null;
  const host = listen.host ?? endpoints.map((endpoint) => endpoint.host).find(isHostAddress);
  return host === undefined ? null : { host, port: listen.port };
}
