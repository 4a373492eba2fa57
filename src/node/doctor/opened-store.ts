/** The sealed store, opened once for all checks that read in it, beside a daemon that may be at work, and without asking anybody for a passphrase. */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { SelvedgeError } from '../../base/errors.ts';
import { SealedStore } from '../../identity/sealed-store.ts';
import { DEFAULT_KEY_FILE, namesSource, type UnsealSource } from '../../identity/unseal.ts';
import { startKey } from '../start-key.ts';

export type Opened =
  | { readonly kind: 'opened'; readonly store: SealedStore }
  | { readonly kind: 'untried'; readonly why: string }
  | { readonly kind: 'failed'; readonly error: unknown };

/** The first call opens; its signal bounds it for all. */
export type OpenedStore = (signal: AbortSignal) => Promise<Opened>;

export function openedStore(path: string, source: UnsealSource): OpenedStore {
  let opening: Promise<Opened> | null = null;
  return (signal) => (opening ??= open(path, source, signal));
}

async function open(path: string, source: UnsealSource, signal: AbortSignal): Promise<Opened> {
  try {
    const { mode } = await SealedStore.head(path);
    const isNamed = namesSource(source);
    if (mode.kind === 'passphrase' && !isNamed) return { kind: 'untried', why: 'give --passphrase-file or --passphrase-fd to try it' };
    if (mode.kind === 'key' && !isNamed && !existsSync(DEFAULT_KEY_FILE))
      return { kind: 'untried', why: `--key-file was not given, and there is no ${DEFAULT_KEY_FILE}` };
    if (mode.kind === 'credential' && !isNamed && process.env.CREDENTIALS_DIRECTORY === undefined)
      return { kind: 'untried', why: 'systemd gives the credential to the daemon alone' };
    const key = await startKey({ state: dirname(path), source, signal, log: () => undefined });
    return { kind: 'opened', store: await SealedStore.peek(path, key) };
  } catch (error) {
    if (!signal.aborted) return { kind: 'failed', error };
    return { kind: 'failed', error: new SelvedgeError('store_locked', { path, why: 'neither the tower nor a node of the site said its key in time' }) };
  }
}
