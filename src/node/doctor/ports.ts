/** The ports on which this host is to listen: free, or held by its own daemon. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, isIPv6 } from 'node:net';
import { remedyOf } from '../../base/errors.ts';
import { type Check, type Finding, fault, ok, warning } from './finding.ts';
import { type Holder, holderOf } from './port-holder.ts';

export interface Listen {
  readonly host: string;
  readonly tcp: number;
  /** Null: no QUIC. */
  readonly udp: number | null;
}

export interface PortsCheck {
  /** Null: this host listens nowhere. */
  readonly listen: Listen | null;
  /** The process of the daemon, where it runs. */
  readonly daemon: number | null;
}

export function portsCheck({ listen, daemon }: PortsCheck): Check {
  return {
    name: 'ports',
    run: async () => {
      if (listen === null) return [ok('port', 'this host listens nowhere: it dials, and others do not dial it', 'as it was started')];
      const { host, tcp, udp } = listen;
      return await Promise.all([one('tcp', host, tcp, daemon), ...(udp === null ? [] : [one('udp', host, udp, daemon)])]);
    },
  };
}

async function one(proto: 'tcp' | 'udp', host: string, port: number, daemon: number | null): Promise<Finding> {
  const [check, place] = [`port ${proto}`, `${proto.toUpperCase()} port ${port} of ${host}`];
  const refused = await tryBind(proto, host, port);
  if (refused === null) {
    if (daemon === null) return ok(check, `${place} is free`, 'free, or held by the daemon of this host');
    return fault(
      check,
      `${place} is free, and the daemon runs (process ${daemon})`,
      'held by the daemon',
      'Name the port that the daemon was given, or restart it.',
    );
  }
  if (refused === 'EADDRINUSE') return inUse(check, place, await holderOf(proto, port), daemon);
  if (refused === 'EADDRNOTAVAIL')
    return fault(check, `${host} is no address of this host`, 'an address of this host', 'Name an address of this host with --listen, or `::` for all.');
  if (refused === 'EACCES') return fault(check, `${place} may not be taken by this user`, 'a port that may be taken', remedyOf('permission_denied', undefined));
  return fault(check, `${place} cannot be taken: ${refused}`, 'a port that can be taken', 'Choose another address or port.');
}

function inUse(check: string, place: string, holder: Holder | null, daemon: number | null): Finding {
  const expected = 'free, or held by the daemon of this host';
  if (holder !== null && holder.pid === daemon) return ok(check, `${place} is held by the daemon (process ${daemon})`, expected);
  if (holder === null && daemon !== null)
    return warning(check, `${place} is held; by whom, this user may not see`, expected, 'Look as root, to be told whether it is the daemon.');
  const by = holder === null ? 'another program' : `${holder.name} (process ${holder.pid})`;
  return fault(check, `${place} is held by ${by}`, expected, remedyOf('port_in_use', undefined));
}

/** The system's code where it refuses; null where the port could be had. Given back at once. */
async function tryBind(proto: 'tcp' | 'udp', host: string, port: number): Promise<string | null> {
  const socket = proto === 'tcp' ? createServer() : createSocket(isIPv6(host) ? 'udp6' : 'udp4');
  try {
    const bound = once(socket, 'listening');
    if (socket instanceof Object && 'listen' in socket) socket.listen({ host, port, exclusive: true });
    else socket.bind({ address: host, port, exclusive: true });
    await bound;
    return null;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  } finally {
    await new Promise<void>((resolve) => {
      try {
        socket.close(() => resolve());
      } catch {
        // It was never open.
        resolve();
      }
    });
  }
}
