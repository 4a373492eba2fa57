/**
 * A directory that nobody but this user, and root, can have put anything into: for code that is loaded from it. It is made where it is not there. Whoever may write to
 * the directories above these two can change the programs themselves.
 */
import { chmodSync, lstatSync, mkdirSync, readdirSync, type Stats, statSync } from 'node:fs';
import { dirname, join } from 'node:path';

const ROOT = 0;
const OWNER_ALONE = 0o700;
/** A mode's bits for others than the owner: that let them write, and all of them. */
const OTHERS_WRITE = 0o022;
const OTHERS = 0o077;

/** Whether there is one at `path`, in a directory that need not be there either. Never throws: without room or right to make it there is none. */
export function ownDirectory(path: string): boolean {
  const self = process.geteuid?.();
  if (self === undefined) return false;
  const above = dirname(path);
  try {
    mkdirSync(above, { recursive: true, mode: 0o755 });
    if (!isClosed(lstatSync(above), [ROOT, self, statSync(dirname(above)).uid])) return false;
    mkdirSync(path, { recursive: true, mode: OWNER_ALONE });
    const found = lstatSync(path);
    if (!isClosed(found, [self])) return false;
    if ((found.mode & OTHERS) === 0) return true;
    // Others may look in, so that what is in it could be open to them.
    if (!readdirSync(path).every((name) => isClosed(lstatSync(join(path, name)), [self]))) return false;
    chmodSync(path, OWNER_ALONE);
    return true;
  } catch {
    return false;
  }
}

/** A link is followed by nobody: it says nothing of what it leads to. */
function isClosed(found: Stats, owners: readonly number[]): boolean {
  return found.isDirectory() && owners.includes(found.uid) && (found.mode & OTHERS_WRITE) === 0;
}
