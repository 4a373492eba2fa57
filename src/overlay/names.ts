/**
 * Names of the devices that an app network has on a host. A device's name has at most 15 octets (IFNAMSIZ less its 0), so it comes from the VNI, which is
 * unique in a cluster, and not from the network's name; what it belongs to stands in its alias. Pure.
 */
import { createHash } from 'node:crypto';

const DEVICE_NAME_CHARS_MAX = 15;
/** What a kernel takes as a name: no slash, no space, no colon, and neither of the two names of directories. */
const DEVICE_NAME = /^(?!\.{1,2}$)[A-Za-z0-9._-]{1,15}$/;
const OURS = /^sv[btv]-/;

export function bridgeName(vni: number): string {
  return `svb-${vni.toString(16)}`;
}

export function tapName(vni: number): string {
  return `svt-${vni.toString(16)}`;
}

/** The host's end of a veth pair. 44 bits of a digest: two of a thousand attachments meet in one of 35 million hosts. */
export function vethName(network: string, attachment: string): string {
  const digest = createHash('sha256').update(`${network}/${attachment}`).digest('hex');
  return `svv-${digest.slice(0, DEVICE_NAME_CHARS_MAX - 4)}`;
}

/** What the interface inside a namespace is called unless the user says: the network's name as far as it fits, and a number as Linux has it. */
export function defaultInterfaceName(network: string): string {
  return `${network.slice(0, DEVICE_NAME_CHARS_MAX - 1)}0`;
}

/** Null if `name` may be that of an interface in a namespace, else why not. */
export function interfaceObjection(name: string): string | null {
  if (!DEVICE_NAME.test(name)) return `'${name}' is not a name of an interface: 1 to ${DEVICE_NAME_CHARS_MAX} letters, digits, dots, hyphens, underscores`;
  return OURS.test(name) ? `'${name}' starts as the devices do that Selvedge makes on the host` : null;
}
