/** `STATE/tower.json`: which cluster a state directory is of, without a secret. */
import { join } from 'node:path';
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { Label } from '../enroll/shapes.ts';
import { checker, readJson } from '../enroll/wire.ts';
import { readFileBounded, writeFileAtomic } from '../identity/files.ts';
import { stateFiles } from './backup/state-files.ts';

const TowerFileSchema = Type.Object(
  { format: Type.Literal(1), cluster: Label, fingerprint: Type.String({ pattern: '^sha256:[0-9a-f]{64}$' }) },
  { additionalProperties: false },
);
export type TowerFile = Static<typeof TowerFileSchema>;
const checkTowerFile = checker(TowerFileSchema);

/** @throws not_found where no tower was made, store_damaged */
export async function readTowerFile(state: string): Promise<TowerFile> {
  const path = join(state, stateFiles.tower);
  const bytes = await readFileBounded(path, limits.identity_file_bytes_max);
  if (bytes === null) throw new SelvedgeError('not_found', { what: 'tower state', name: state });
  try {
    return readJson(bytes, limits.identity_file_bytes_max, checkTowerFile);
  } catch (error) {
    throw new SelvedgeError('store_damaged', { path, why: asSelvedgeError(error, 'store_damaged').message }, { cause: error });
  }
}

/** `fingerprint`: of the root, `sha256:HEX`. @throws disk_full */
export async function writeTowerFile(state: string, { cluster, fingerprint }: Omit<TowerFile, 'format'>): Promise<void> {
  await writeFileAtomic(join(state, stateFiles.tower), Buffer.from(`${JSON.stringify({ format: 1, cluster, fingerprint }, null, 2)}\n`));
}
