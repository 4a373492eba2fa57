/**
 * Mode `credential`: a key that systemd decrypts for this service alone (LoadCredentialEncrypted=), with the TPM where the host has one: the disk alone, in
 * another machine, does not open the store. docs/sealed-store.md has the lines of the unit.
 */
import { join } from 'node:path';
import { newHead, type UnsealKey, type UnsealMode } from './mode.ts';
import { invalidSource, readPrivateKey } from './private-file.ts';

/** Name of the credential in the unit, and of the file that systemd makes of it. */
export const CREDENTIAL_NAME = 'selvedge-unseal';

export const credentialMode: UnsealMode = {
  kind: 'credential',
  number: 3,
  name: 'credential',
  what: 'a systemd credential',
  begin: () => newHead(),
  objection: () => null,
  // Who has kept a copy of the key elsewhere can give it as a key file, on a host whose TPM is gone.
  derive: async (key) => (key.kind === 'credential' || key.kind === 'key' ? key.key : null),
};

/** @throws unseal_key_invalid */
export async function loadCredential(directory: string | undefined): Promise<UnsealKey> {
  if (directory === undefined || directory === '')
    throw invalidSource(`credential ${CREDENTIAL_NAME}`, 'CREDENTIALS_DIRECTORY is not set: systemd sets it for a service that loads one');
  return { kind: 'credential', key: await readPrivateKey(join(directory, CREDENTIAL_NAME)) };
}
