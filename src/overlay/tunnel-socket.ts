/** A connection to one of the tunnel's Unix sockets, no word said. Keys and packets go over them, so the socket must be its owner's: this user's or root's. */
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { connect, type OnReadOpts, type Socket } from 'node:net';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';

/** `onread`: as of `net.connect`, for who brings the memory that is read into. @throws tunnel_unreachable, permission_denied */
export async function connectTunnel(path: string, onread?: OnReadOpts): Promise<Socket> {
  const facts = await stat(path).catch((error: unknown) => {
    throw unreachable(path, error);
  });
  if (!facts.isSocket()) throw unreachable(path, new Error('it is not a socket'));
  if (facts.uid !== 0 && facts.uid !== process.getuid?.())
    throw new SelvedgeError('permission_denied', { what: `${path} belongs to user ${facts.uid}, who shall not be given keys` });
  const socket = connect({ path, ...(onread && { onread }) });
  try {
    await once(socket, 'connect');
  } catch (error) {
    socket.destroy();
    throw unreachable(path, error);
  }
  return socket;
}

export function unreachable(path: string, cause: unknown): SelvedgeError {
  return asSelvedgeError(cause, 'tunnel_unreachable', { path });
}
