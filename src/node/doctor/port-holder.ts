/** Which process holds a port, as /proc tells it: a hint for people, null where this user may not see it. */
import { readdir, readFile, readlink } from 'node:fs/promises';

export interface Holder {
  readonly pid: number;
  readonly name: string;
}

const TCP_LISTEN = '0A';

export async function holderOf(proto: 'tcp' | 'udp', port: number): Promise<Holder | null> {
  const inodes = new Set<string>();
  for (const table of [proto, `${proto}6`])
    for (const line of (await readFile(`/proc/net/${table}`, 'utf8').catch(() => '')).split('\n').slice(1)) {
      // sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode
      const [, local = '', , state, , , , , , inode] = line.trim().split(/\s+/);
      const isBound = proto === 'udp' || state === TCP_LISTEN;
      if (isBound && inode !== undefined && Number.parseInt(local.split(':').at(-1) ?? '', 16) === port) inodes.add(`socket:[${inode}]`);
    }
  if (inodes.size === 0) return null;
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name)))
    if (await holdsOne(pid, inodes)) return { pid: Number(pid), name: (await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?')).trim() };
  return null;
}

async function holdsOne(pid: string, inodes: ReadonlySet<string>): Promise<boolean> {
  for (const descriptor of await readdir(`/proc/${pid}/fd`).catch(() => []))
    if (inodes.has(await readlink(`/proc/${pid}/fd/${descriptor}`).catch(() => ''))) return true;
  return false;
}
