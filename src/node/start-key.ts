/** The key of a node's sealed store at its start: from where the command line says, else from where the store itself says (spec 3.1). */
import { join } from 'node:path';
import { SelvedgeError } from '../base/errors.ts';
import { BOOT_FILE, BootFile } from '../enroll/boot-file.ts';
import { stateFiles } from '../enroll/state.ts';
import { askForUnsealKey } from '../enroll/unseal-client.ts';
import { loadStoreKey } from '../identity/store-key.ts';
import type { UnsealKey, UnsealSource } from '../identity/unseal.ts';
import { keepSecrets } from '../native.ts';
import { systemRandom, systemTimers } from '../transport/system.ts';

export interface StartKeyOptions {
  readonly state: string;
  readonly source: UnsealSource;
  /** Ends the wait for somebody who says the key. */
  readonly signal: AbortSignal;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

/** @throws unseal_key_invalid, boot_identity_missing, certificate_revoked, store_damaged, not_found, and what ended the wait */
export async function startKey({ state, source, signal, log }: StartKeyOptions): Promise<UnsealKey> {
  const store = join(state, stateFiles.sealed);
  const own = await loadStoreKey(store, source);
  if (own !== null) return own;
  keepSecrets();
  const boot = await BootFile.read(state);
  if (boot === null) throw new SelvedgeError('boot_identity_missing', { path: join(state, BOOT_FILE) });
  const started_ms = systemTimers.clock.now();
  log('the store is sealed: asking tower and site for its key', { helpers: boot.tower.length + boot.peers.length });
  const { key: unsealKey, by } = await askForUnsealKey({
    boot,
    store,
    timers: systemTimers,
    random: systemRandom,
    signal,
    onRefusal: (by: string, { code, message }: SelvedgeError) => log('no key for the store', { by, code, reason: message }),
    onWait: (round, delay_ms) =>
      log('still waiting for somebody who says the key of the store', {
        round,
        again_in_ms: Math.round(delay_ms),
        since_ms: Math.round(systemTimers.clock.now() - started_ms),
      }),
  });
  log('the store is unsealed', { unsealed_by: by, after_ms: Math.round(systemTimers.clock.now() - started_ms) });
  return unsealKey;
}
