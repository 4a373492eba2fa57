/** A member's view of its app networks, as its snapshot tells it. Pure. */
import { isIP } from 'node:net';
import { assert } from '../base/errors.ts';
import type { AppEndpoint, AppHost, AppPart } from '../enroll/app-wire.ts';
import type { AppHostRow, AppView } from './app-store.ts';

export function appPart(node: string, { networks, endpoints, hosts }: AppView): AppPart {
  const own = hosts.find((host) => host.node === node);
  assert(own !== undefined && own.vtep !== null, 'a live member of a network has a VTEP');
  const byNetwork = Map.groupBy(endpoints, (endpoint) => endpoint.network);
  return {
    vtep: own.vtep,
    networks: networks.map(({ name, vni, mtu, learning, subnet4, subnet6 }) => {
      const of = (byNetwork.get(name) ?? []).map(
        ({ node, attachment, mac, address4, address6 }): AppEndpoint => ({ node, attachment, mac, address4, address6 }),
      );
      return { name, vni, mtu, learning, subnet4, subnet6, endpoints: of };
    }),
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
  const host = listen.host ?? endpoints.map((endpoint) => endpoint.host).find((one) => isIP(one) !== 0);
  return host === undefined ? null : { host, port: listen.port };
}
