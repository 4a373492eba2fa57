/** Snapshots of app networks, for tests: addresses and MACs follow from the order of the places. */
import type { AppHost, AppNetwork, AppSnapshot, Underlay } from '../../../src/overlay/app-snapshot.ts';

/** 32 octets of `fill`, in base64. */
export function key(fill: number): string {
  return Buffer.alloc(32, fill).toString('base64');
}

/** `places` are `NODE/ATTACHMENT`; nothing after the slash is the host itself. */
export function network({ name, vni, places }: { name: string; vni: number; places: readonly string[] }): AppNetwork {
  const endpoints = places.map((place, index) => {
    const [node = '', attachment = ''] = place.split('/');
    return { node, attachment, mac: `02:00:00:00:03:${hex(index)}`, address4: `10.9.0.${index + 1}`, address6: `fd00::${(index + 1).toString(16)}` };
  });
  return { name, vni, mtu: null, learning: false, subnet4: '10.9.0.0/24', subnet6: 'fd00::/64', endpoints };
}

/** The letter of its id says which: b is the second. */
export function host(node: string, underlay: Underlay | null = null): AppHost {
  const number = node.charCodeAt(0) - 'a'.charCodeAt(0) + 1;
  return {
    node,
    name: node.slice(0, 1),
    site: 'harbor',
    vtep: `100.96.0.${number}`,
    keys: [key(number)],
    endpoint: { host: `192.0.2.${number}`, port: 51_820 },
    underlay,
  };
}

export function snapshot({ networks, hosts }: Pick<AppSnapshot, 'networks' | 'hosts'>): AppSnapshot {
  return { vtep: '100.96.0.1', networks, hosts };
}

function hex(number: number): string {
  return number.toString(16).padStart(2, '0');
}
