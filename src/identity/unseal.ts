/** Which way of unsealing is asked for, by the command line or by the store itself, and the key that it gives (spec 3.1). The ways are in unseal/. */
import { SelvedgeError } from '../base/errors.ts';
import { keepSecrets } from '../native.ts';
import { credentialMode, loadCredential } from './unseal/credential.ts';
import { createKeyFile, keyFileMode, loadKeyFile } from './unseal/key-file.ts';
import type { UnsealKey, UnsealKind, UnsealMode } from './unseal/mode.ts';
import { loadPassphraseDescriptor, loadPassphraseFile, passphraseMode, promptPassphrase } from './unseal/passphrase.ts';
import { siteMode } from './unseal/site.ts';

export type { UnsealKey, UnsealKind, UnsealMode };

export const unsealModes: readonly UnsealMode[] = [keyFileMode, passphraseMode, siteMode, credentialMode];

export function unsealModeOf(kind: UnsealKind): UnsealMode {
  const mode = unsealModes.find((one) => one.kind === kind);
  if (mode === undefined) throw new Error(`unseal mode of kind ${kind}`);
  return mode;
}

/** What the command line names; at most one. */
export interface UnsealSource {
  readonly keyFile?: string;
  readonly passphraseFile?: string;
  /** A descriptor that the parent left open. */
  readonly passphraseFd?: number;
}

export const DEFAULT_KEY_FILE = '/etc/selvedge/unseal.key';

/**
 * Reads what `source` names, else what a store of this kind takes. Whoever holds a key keeps it out of core dumps, which on many systems are kept, or sent
 * away, by a program that knows nothing of them. @throws unseal_key_invalid, argument_invalid, native_missing
 */
export async function loadUnsealKey(source: UnsealSource, kind: Exclude<UnsealKind, 'site'> = 'key'): Promise<UnsealKey> {
  checkOne(source);
  keepSecrets();
  if (source.keyFile !== undefined) return await loadKeyFile(source.keyFile);
  if (source.passphraseFile !== undefined) return await loadPassphraseFile(source.passphraseFile);
  if (source.passphraseFd !== undefined) return await loadPassphraseDescriptor(source.passphraseFd);
  if (kind === 'passphrase') return await promptPassphrase('passphrase of the sealed store: ');
  if (kind === 'credential') return await loadCredential(process.env.CREDENTIALS_DIRECTORY);
  return await loadKeyFile(DEFAULT_KEY_FILE);
}

/** As `loadUnsealKey`, but makes the key file where there is none: for `tower init` and `join`. A passphrase is never made up. */
export async function loadOrCreateUnsealKey(source: UnsealSource, kind: Exclude<UnsealKind, 'site'> = 'key'): Promise<UnsealKey> {
  checkOne(source);
  const isPassphrase = source.passphraseFile !== undefined || source.passphraseFd !== undefined;
  if (kind === 'key' && !isPassphrase) await createKeyFile(source.keyFile ?? DEFAULT_KEY_FILE);
  return await loadUnsealKey(source, kind);
}

/** True where the command line says itself where the key is. */
export function namesSource(source: UnsealSource): boolean {
  return source.keyFile !== undefined || source.passphraseFile !== undefined || source.passphraseFd !== undefined;
}

function checkOne({ keyFile, passphraseFile, passphraseFd }: UnsealSource): void {
  const given = [keyFile, passphraseFile, passphraseFd].filter((one) => one !== undefined);
  if (given.length > 1)
    throw new SelvedgeError('argument_invalid', { name: 'passphrase-file', why: 'give a key file or one source of a passphrase, not both' });
}
