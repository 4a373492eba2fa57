/** The files of a host: who may read them, whether there is room for more, and whether the sealed store is whole and opens. */
import { stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { remedyOf } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { SealedStore } from '../../identity/sealed-store.ts';
import { SEALED_FORMAT } from '../../identity/sealed-format.ts';
import { type Check, type Finding, fault, faultOf, ok, warning } from './finding.ts';
import type { OpenedStore } from './opened-store.ts';

const GIB = 1024 ** 3;

/** `files`: names in `state` that hold secrets, or what must not be forged. */
export function permissionsCheck(state: string, files: readonly string[]): Check {
  return {
    name: 'permissions',
    run: async () => {
      const expected = `${state} and what is in it are this user's alone (directory 0700, files 0600)`;
      const [directory, found] = await Promise.all([lookAt(state), Promise.all(files.map((file) => lookAt(join(state, file))))]);
      const wrong = [
        ...(directory === null ? [`${state} is missing`] : objections(directory, 0o022)),
        ...found.flatMap((file) => (file === null ? [] : objections(file, 0o077))),
      ];
      if (wrong.length === 0) return [ok('permissions', `${found.filter((file) => file !== null).length} files, nobody else's to read or change`, expected)];
      return [
        fault(
          'permissions',
          wrong.join('; '),
          expected,
          `chmod go-rwx and chown what is named. If others could read a secret, treat this host as lost (docs/operations.md).`,
        ),
      ];
    },
  };
}

interface Seen {
  readonly path: string;
  readonly mode: number;
  readonly uid: number;
}

async function lookAt(path: string): Promise<Seen | null> {
  const facts = await stat(path).catch(() => null);
  return facts === null ? null : { path, mode: facts.mode & 0o777, uid: facts.uid };
}

function objections({ path, mode, uid }: Seen, forbidden: number): string[] {
  const own = process.getuid?.() ?? uid;
  const isOurs = uid === own || own === 0;
  return [...((mode & forbidden) === 0 ? [] : [`${path} has mode 0${mode.toString(8)}`]), ...(isOurs ? [] : [`${path} belongs to user ${uid}, not to ${own}`])];
}

export function diskCheck(state: string): Check {
  return {
    name: 'disk',
    run: async () => {
      const { bavail, bsize } = await statfs(state);
      const free_bytes = bavail * bsize;
      const [found, expected] = [`${(free_bytes / GIB).toFixed(1)} GiB free`, `at least ${(limits.doctor_disk_bytes_warn / GIB).toFixed(0)} GiB free`];
      if (free_bytes >= limits.doctor_disk_bytes_warn) return [ok('disk', found, expected)];
      return [(free_bytes < limits.doctor_disk_bytes_min ? fault : warning)('disk', found, expected, remedyOf('disk_full', undefined))];
    },
  };
}

/** Two findings: what the store says of itself, and whether it opens. A daemon that runs has opened it. */
export function storeCheck(path: string, opened: OpenedStore, isRunning: boolean): Check {
  return {
    name: 'store',
    run: async (signal) => {
      const expected = `a whole store of format ${SEALED_FORMAT}`;
      try {
        const { format, mode } = await SealedStore.head(path);
        const whole = `whole, format ${format}, sealed with ${mode.what}`;
        const own =
          format === SEALED_FORMAT ? ok('store', whole, expected) : warning('store', whole, expected, 'Nothing: the next write makes it the newest format.');
        return [own, await unsealed(mode.what, opened, isRunning, signal)];
      } catch (error) {
        return [faultOf('store', error, expected)];
      }
    },
  };
}

const UNTRIED = 'Name the key of the store, as its daemon is told it: --key-file, --passphrase-file or --config.';

async function unsealed(what: string, opened: OpenedStore, isRunning: boolean, signal: AbortSignal): Promise<Finding> {
  const expected = `${what} that opens it`;
  const result = await opened(signal);
  if (result.kind === 'untried' && isRunning) return ok('unseal', 'the daemon that runs has opened it', expected);
  if (result.kind === 'untried') return warning('unseal', `not tried: ${result.why}`, expected, UNTRIED);
  if (result.kind === 'failed') return faultOf('unseal', result.error, expected);
  return ok('unseal', `${what} opens it: ${result.store.keys().length} secrets`, expected);
}
