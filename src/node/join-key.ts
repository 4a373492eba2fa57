/** The key of a node's sealed store while it joins: of a new store, of one that an earlier attempt left, or of a node that returns (spec 2.1, 3.1). */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { JOINING_KEY_FILE } from '../enroll/joining.ts';
import { stateFiles } from '../enroll/state.ts';
import { loadOrCreateUnsealKey, type UnsealKey } from '../identity/unseal.ts';
import { startKey, type StartKeyOptions } from './start-key.ts';

export interface JoinKeyOptions extends StartKeyOptions {
  /** The store is to be sealed with the site's token, which nobody has before the tower has answered. */
  readonly isSiteSealed: boolean;
}

/** @throws as `startKey`, argument_invalid, permission_denied */
export async function joinKey({ isSiteSealed, ...options }: JoinKeyOptions): Promise<UnsealKey> {
  const { state, source } = options;
  const keyFile = join(state, JOINING_KEY_FILE);
  const isMade = existsSync(join(state, stateFiles.sealed));
  if (isMade ? existsSync(keyFile) : isSiteSealed) return await loadOrCreateUnsealKey({ keyFile });
  return isMade ? await startKey(options) : await loadOrCreateUnsealKey(source);
}
