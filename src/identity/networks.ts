/**
 * Which IP addresses are public, and sets of networks. Public is what the registries give to hosts of the internet: everything that RFC
 * 6890 and its kin set aside (this host, private, link-local, documentation, multicast, addresses that carry another address) is not.
 */
import { BlockList, isIP } from 'node:net';
import { SelvedgeError } from '../base/errors.ts';

/** A set of networks, in CIDR notation. */
export class Networks {
  readonly #list = new BlockList();

  /** @throws argument_invalid */
  constructor(networks: readonly string[]) {
    for (const network of networks) this.#add(network);
  }

  has(address: string): boolean {
    const family = isIP(address);
    return family !== 0 && this.#list.check(address, family === 4 ? 'ipv4' : 'ipv6');
  }

  #add(network: string): void {
    const [, address = '', digits = ''] = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(network) ?? [];
    const family = isIP(address);
    const bits = Number(digits);
    if (family === 0 || digits === '' || bits > (family === 4 ? 32 : 128))
      throw new SelvedgeError('argument_invalid', { name: 'network', why: `${network} is not of the form ADDRESS/BITS` });
    this.#list.addSubnet(address, bits, family === 4 ? 'ipv4' : 'ipv6');
  }
}

const SET_ASIDE_4 = new Networks([
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24', '192.0.2.0/24'],
  ...['192.88.99.0/24', '192.168.0.0/16', '198.18.0.0/15', '198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/4', '240.0.0.0/4'],
]);

/** Of IPv6 one block is given out at all. Parts of it carry an IPv4 address (Teredo, 6to4) or belong to nobody (documentation, ORCHID). */
const GLOBAL_6 = new Networks(['2000::/3']);
const SET_ASIDE_6 = new Networks(['2001::/23', '2001:db8::/32', '2002::/16', '3fff::/20']);

export function isPublic(address: string): boolean {
  // A zone makes it an address of a link; what no parser of ours knows is not public either.
  if (address.includes('%')) return false;
  const family = isIP(address);
  if (family === 4) return !SET_ASIDE_4.has(address);
  return family === 6 && GLOBAL_6.has(address) && !SET_ASIDE_6.has(address);
}
