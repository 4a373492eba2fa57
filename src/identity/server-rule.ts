/**
 * Whether a dialer may leave a server's certificate unverified, decided by the address alone (spec 4.4): an IP address or a name with a dot never, a single-label
 * name (a container's service name) only under the explicit development flag.
 */
import { isIP } from 'node:net';

export function mayBeUnverified(host: string): boolean {
  return isIP(host) === 0 && /^[A-Za-z0-9_-]+$/.test(host);
}
