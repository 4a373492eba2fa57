/**
 * Where a signing key is, as an operator writes it: `sealed`, a `pkcs11:` URI (RFC 7512), or `kms:` and the key. What is written is kept beside the
 * certificates, so it can hold no secret: a PIN comes from a file or a systemd credential.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Pkcs11Key } from './signer-pkcs11.ts';
import type { Signer } from './signer.ts';

export const SEALED = 'sealed';

/** Checks the form, without looking for the key. @throws argument_invalid */
export function checkSignerPlace(name: string, place: string): void {
  if (place === SEALED || /^kms:[A-Za-z0-9:/_-]{1,256}$/.test(place)) return;
  if (!place.startsWith('pkcs11:')) throw invalid(name, `'${place}' is not sealed, pkcs11:… or kms:…`);
  readPkcs11(name, place);
}

/** A signer of a key that is not sealed here. `make`: a PKCS#11 key that is not there is made. @throws argument_invalid, signer_unavailable */
export async function openPlacedSigner(place: string, { make = false }: { readonly make?: boolean } = {}): Promise<Signer> {
  if (place.startsWith('kms:')) return await (await import('./signer-kms.ts')).openKmsSigner(place.slice('kms:'.length));
  const { createPkcs11Signer, openPkcs11Signer } = await import('./signer-pkcs11.ts');
  const key = readPkcs11('signer', place);
  try {
    return await openPkcs11Signer(key);
  } catch (error) {
    if (make && error instanceof SelvedgeError && error.facts.kind === 'missing') return await createPkcs11Signer(key);
    throw error;
  }
}

/**
 * The same, opened when it is first asked to sign and anew after it could not be: a tower starts, and serves what needs no signature, while its token is away.
 * @throws signer_unavailable from `sign`
 */
export function placedSigner(place: string, publicKey: Uint8Array): Signer {
  let opening: Promise<Signer> | null = null;
  let isClosed = false;
  const open = async (): Promise<Signer> => {
    const signer = await openPlacedSigner(place);
    if (equalBytes(signer.publicKey, publicKey)) return signer;
    await signer.close();
    throw new SelvedgeError('signer_unavailable', { what: place.split('?')[0] ?? '', why: 'the key there is not that of the certificate' });
  };
  return {
    algorithm: 'ES256',
    publicKey,
    async sign(data) {
      if (isClosed) throw new SelvedgeError('handle_closed', { what: 'signer' });
      opening ??= open();
      try {
        return await (await opening).sign(data);
      } catch (error) {
        const failed = opening;
        opening = null;
        await failed?.then((signer) => signer.close()).catch(() => undefined);
        throw error;
      }
    },
    async close() {
      isClosed = true;
      await opening?.then((signer) => signer.close()).catch(() => undefined);
    },
  };
}

function readPkcs11(name: string, uri: string): Pkcs11Key {
  const [path = '', query = ''] = uri.slice('pkcs11:'.length).split('?');
  const parts = new Map([...fields(path, ';'), ...fields(query, '&')]);
  if (parts.has('pin-value')) throw invalid(name, 'a PIN is not written here; give pin-source=FILE or pin-source=credential:NAME');
  const known = ['token', 'object', 'type', 'module-path', 'pin-source'];
  const stranger = [...parts.keys()].find((part) => !known.includes(part));
  if (stranger !== undefined) throw invalid(name, `'${stranger}' is not known in a pkcs11: URI here`);
  const need = (part: string): string => {
    const value = parts.get(part);
    if (value === undefined || value === '') throw invalid(name, `its pkcs11: URI lacks ${part}`);
    return value;
  };
  const source = need('pin-source');
  return { token: need('token'), key: need('object'), module: need('module-path'), pin: () => readPin(source) };
}

function* fields(text: string, separator: string): Generator<[string, string]> {
  for (const field of text.split(separator)) {
    const at = field.indexOf('=');
    if (at > 0) yield [field.slice(0, at), decodeURIComponent(field.slice(at + 1))];
  }
}

/** One line; from systemd's credentials by name, else from a file. @throws signer_unavailable */
async function readPin(source: string): Promise<string> {
  const credential = /^credential:([A-Za-z0-9._-]{1,64})$/.exec(source)?.[1];
  const directory = process.env.CREDENTIALS_DIRECTORY ?? '/run/credentials';
  const path = credential === undefined ? source.replace(/^file:(\/\/)?/, '') : join(directory, credential);
  try {
    const text = (await readFile(path, 'utf8')).replace(/\r?\n$/, '');
    if (text === '' || text.length > limits.pin_chars_max || /[\r\n]/.test(text)) throw new Error('it is not one line');
    return text;
  } catch (error) {
    throw asSelvedgeError(error, 'signer_unavailable', { what: `the PIN in ${path}` });
  }
}

function invalid(name: string, why: string): SelvedgeError {
  return new SelvedgeError('argument_invalid', { name, why });
}
