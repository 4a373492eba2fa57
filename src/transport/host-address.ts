/**
 * Whether a text is the IP address of one host to which packets may be sent. What a node says of itself is asked this before others are told:
 * selvedge-tunnel refuses a state that names any other address, and with it everything else that should change on that host.
 */
import { BlockList, isIP } from 'node:net';

const noHost4 = new BlockList();
noHost4.addSubnet('0.0.0.0', 8, 'ipv4');
/** Multicast, reserved, broadcast. */
noHost4.addSubnet('224.0.0.0', 3, 'ipv4');

const noHost6 = new BlockList();
noHost6.addAddress('::', 'ipv6');
noHost6.addSubnet('ff00::', 8, 'ipv6');
/** An IPv4 address in the clothes of IPv6: two texts for one address. */
noHost6.addSubnet('::ffff:0:0', 96, 'ipv6');

export function isHostAddress(text: string): boolean {
  switch (isIP(text)) {
    case 4:
      return !noHost4.check(text, 'ipv4');
    case 6:
      // A zone is an interface of one host, and means nothing on another.
      return !text.includes('%') && !noHost6.check(text, 'ipv6');
    default:
      return false;
  }
}
