/** The key of a store that is there: from where the command line says, else from where the store's own head says. */
import { SealedStore } from './sealed-store.ts';
import { loadUnsealKey, namesSource, type UnsealKey, type UnsealSource } from './unseal.ts';

/** Null: it is sealed with the site's token, which nobody on this host can say. @throws unseal_key_invalid, not_found, store_damaged, store_format_unknown */
export async function loadStoreKey(path: string, source: UnsealSource): Promise<UnsealKey | null> {
  const { kind } = (await SealedStore.head(path)).mode;
  if (kind !== 'site') return await loadUnsealKey(source, kind);
  return namesSource(source) ? await loadUnsealKey(source) : null;
}
