/** A Unix socket that only its owner may open: its file mode is the authorization of everything behind it. */
import { once } from 'node:events';
import { chmod, lstat, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { SelvedgeError } from '../base/errors.ts';
import type { Api } from './http.ts';

/** `sun_path` of Linux has 108 octets, the last of them 0. */
const SOCKET_PATH_BYTES_MAX = 107;

/** Lets a ready API listen; closes it if it cannot. @throws state_in_use, file_exists, argument_invalid, permission_denied */
export async function listenOnSocket(api: Api, path: string): Promise<Api> {
  try {
    if (Buffer.byteLength(path) > SOCKET_PATH_BYTES_MAX) {
      throw new SelvedgeError('argument_invalid', {
        name: 'state',
        why: `the path of ${path} is longer than the ${SOCKET_PATH_BYTES_MAX} octets that the system allows`,
      });
    }
    await removeStale(path);
    await listenPrivately(api, path);
    return api;
  } catch (error) {
    await api.close();
    throw error;
  }
}

/** For whoever is about to start on the state that this socket is of: before it takes channels away from the daemon that runs there. @throws state_in_use */
export async function refuseIfInUse(path: string): Promise<void> {
  if (await answers(path)) throw new SelvedgeError('state_in_use', { path });
}

/** The socket is its owner's alone from its first moment: it is bound inside `listen`, under the narrow umask. */
async function listenPrivately(api: Api, path: string): Promise<void> {
  const listening = once(api.server, 'listening');
  const umask = process.umask(0o177);
  try {
    api.server.listen({ path });
  } finally {
    process.umask(umask);
  }
  try {
    await listening;
    await chmod(path, 0o600);
  } catch (error) {
    throw new SelvedgeError('permission_denied', { what: `listening on ${path}: ${error instanceof Error ? error.message : error}` }, { cause: error });
  }
}

/** A socket file on which nobody listens is what a killed daemon leaves behind. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => null);
  if (found === null) return;
  if (!found.isSocket()) throw new SelvedgeError('file_exists', { path });
  if (await answers(path)) throw new SelvedgeError('state_in_use', { path });
  await unlink(path);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (yes: boolean) => {
      socket.destroy();
      resolve(yes);
    };
    socket.once('connect', () => done(true)).once('error', () => done(false));
  });
}
