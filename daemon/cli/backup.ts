/** `selvedge tower backup`: the tower writes a file beside the one that is named, this program checks it, and only then it has its name. */
import { existsSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { SelvedgeError } from '../../src/base/errors.ts';
import { checkBackup } from '../../src/tower/backup/backup.ts';
import { printJson, printLine } from './output.ts';
import { askTower, type TowerFlags } from './tower-call.ts';

export async function backup(name: string, flags: TowerFlags): Promise<void> {
  const file = resolve(name);
  if (existsSync(file)) throw new SelvedgeError('file_exists', { path: file });
  const partial = `${file}.part`;
  // What an earlier one left when it was killed.
  await rm(partial, { force: true });
  await askTower(flags, 'POST', '/v1/backups', { body: { file: partial } });
  const { cluster, version, rows, at_ms } = checkBackup(partial);
  await rename(partial, file);
  const directory = await open(dirname(file), 'r');
  await directory.sync().finally(() => directory.close());
  if (flags.json) printJson({ file, cluster, version, rows, at_ms });
  else printLine(`cluster ${cluster} at version ${version} is in ${file}, checked: its pages, ${rows} rows of its audit log, its secrets (sealed)`);
}
