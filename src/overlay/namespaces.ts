/**
 * Network namespaces as a user names them: by name (`ip netns`), by path, or by a process in them. A process's number comes back after a while for another one,
 * which must not get the attachment: so with it goes when it started, and of which boot that is.
 */
import { readFile, stat } from 'node:fs/promises';
import { SelvedgeError } from '../base/errors.ts';

const NETNS_FOLDER = '/run/netns';
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const PID_MAX = 4_194_304;

export interface Namespace {
  /** As the tunnel takes it: an absolute path, or `pid:NUMBER`. */
  readonly netns: string;
  /** Of a process: which one it is, beside its number. Null for a path. */
  readonly birth: string | null;
}

/** What a user wrote, found. @throws argument_invalid, namespace_missing */
export async function findNamespace(text: string): Promise<Namespace> {
  const pid = /^(?:pid:)?(\d{1,7})$/.exec(text)?.[1];
  if (pid !== undefined) {
    const birth = Number(pid) >= 1 && Number(pid) <= PID_MAX ? await birthOf(pid) : null;
    if (birth === null) throw new SelvedgeError('namespace_missing', { name: text, why: 'there is no such process' });
    return { netns: `pid:${Number(pid)}`, birth };
  }
  const netns = text.startsWith('/') ? text : `${NETNS_FOLDER}/${text}`;
  if (text.includes('\0') || text.length > 1_024 || (!text.startsWith('/') && !NAME.test(text)))
    throw new SelvedgeError('argument_invalid', {
      name: 'namespace',
      why: 'it is neither a name of `ip netns`, nor an absolute path, nor the number of a process',
    });
  if (!(await isThere({ netns, birth: null }))) throw new SelvedgeError('namespace_missing', { name: text, why: `there is no ${netns}` });
  return { netns, birth: null };
}

/** Whether it is still the one that was found. */
export async function isThere({ netns, birth }: Namespace): Promise<boolean> {
  if (netns.startsWith('pid:')) return birth !== null && (await birthOf(netns.slice('pid:'.length))) === birth;
  return await stat(netns).then(
    () => true,
    () => false,
  );
}

/** Boot and start time of a process: field 22 of its stat, counted after the name, which may have anything in it. */
async function birthOf(pid: string): Promise<string | null> {
  try {
    const [boot, facts] = await Promise.all([readFile('/proc/sys/kernel/random/boot_id', 'utf8'), readFile(`/proc/${pid}/stat`, 'utf8')]);
    const started = facts.slice(facts.lastIndexOf(')') + 2).split(' ')[19];
    return started === undefined ? null : `${boot.trim()}/${started}`;
  } catch {
    return null;
  }
}
