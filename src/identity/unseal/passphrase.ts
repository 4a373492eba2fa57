/**
 * Mode `passphrase`: what a person remembers, or another program keeps, made a key by scrypt. It comes from a file, a descriptor or the terminal, never
 * from an argument or the environment, which other processes can read.
 */
import { scrypt } from 'node:crypto';
import { read } from 'node:fs';
import { promisify } from 'node:util';
import { asSelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { type KeyHead, newHead, UNSEAL_KEY_BYTES, type UnsealKey, type UnsealMode } from './mode.ts';
import { invalidSource, readPrivateFile } from './private-file.ts';

/** 32 MiB for some 0.2 s: what OWASP recommends for a machine that cannot spare 128 MiB. */
const SCRYPT_COST = { cost_log2: 15, passes: 3 } as const;
const SCRYPT_BLOCK_FACTOR = 8;
const PASSPHRASE_BYTES_MIN = 8;

export const passphraseMode: UnsealMode = {
  kind: 'passphrase',
  number: 1,
  name: 'passphrase',
  what: 'a passphrase',
  begin: () => newHead(SCRYPT_COST),
  objection({ cost_log2, passes }) {
    const { scrypt_cost_log2_max, scrypt_passes_max } = limits;
    if (cost_log2 >= 1 && cost_log2 <= scrypt_cost_log2_max && passes >= 1 && passes <= scrypt_passes_max) return null;
    return `it asks for an scrypt cost of 2^${cost_log2} × ${passes}, at most 2^${scrypt_cost_log2_max} × ${scrypt_passes_max} allowed`;
  },
  derive: async (key, head) => (key.kind === 'passphrase' ? await stretch(key.passphrase, head) : null),
};

/** @throws unseal_key_invalid */
export async function loadPassphraseFile(path: string): Promise<UnsealKey> {
  return fromBytes(path, await readPrivateFile(path));
}

/** Until its end, as a parent that holds the other end of a pipe writes it. @throws unseal_key_invalid */
export async function loadPassphraseDescriptor(descriptor: number): Promise<UnsealKey> {
  const source = `descriptor ${descriptor}`;
  const bytes = new Uint8Array(limits.unseal_file_bytes_max + 1);
  let length = 0;
  try {
    for (let more = -1; more !== 0 && length < bytes.length; length += more) {
      more = (await promisify(read)(descriptor, bytes, length, bytes.length - length, null)).bytesRead;
    }
  } catch (error) {
    throw asSelvedgeError(error, 'unseal_key_invalid', { path: source });
  }
  if (length > limits.unseal_file_bytes_max) throw invalidSource(source, `it gives more than ${limits.unseal_file_bytes_max} bytes`);
  return fromBytes(source, bytes.subarray(0, length));
}

/** Without showing it. @throws unseal_key_invalid where there is no terminal, or it was given up */
export async function promptPassphrase(prompt: string): Promise<UnsealKey> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY) throw invalidSource('the prompt', 'there is no terminal to ask on: give --passphrase-file or --passphrase-fd');
  // Before it is asked for: what is typed at once is not shown either.
  stdin.setRawMode(true);
  try {
    stderr.write(prompt);
    return fromBytes('the prompt', await readLine(stdin));
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    stderr.write('\n');
  }
}

function stretch(passphrase: Uint8Array, { salt, cost_log2, passes }: KeyHead): Promise<Uint8Array> {
  const cost = 2 ** cost_log2;
  const options = { N: cost, r: SCRYPT_BLOCK_FACTOR, p: passes, maxmem: 2 * 128 * SCRYPT_BLOCK_FACTOR * cost };
  return new Promise((resolve, reject) => {
    scrypt(passphrase, salt, UNSEAL_KEY_BYTES, options, (error, key) => (error ? reject(error) : resolve(new Uint8Array(key))));
  });
}

function fromBytes(source: string, bytes: Uint8Array): UnsealKey {
  // An editor ends the last line; that is not part of the passphrase.
  let length = bytes.length;
  while (length > 0 && (bytes[length - 1] === NEWLINE || bytes[length - 1] === RETURN)) length--;
  if (length < PASSPHRASE_BYTES_MIN) throw invalidSource(source, `its passphrase has ${length} bytes, at least ${PASSPHRASE_BYTES_MIN} are needed`);
  const passphrase = bytes.slice(0, length);
  bytes.fill(0);
  return { kind: 'passphrase', passphrase };
}

const NEWLINE = 0x0a;
const RETURN = 0x0d;
const INTERRUPT = 0x03;
const BACKSPACE = new Set([0x08, 0x7f]);

/** Raw mode gives each key as it is pressed. */
async function readLine(stdin: NodeJS.ReadStream): Promise<Uint8Array> {
  const line: number[] = [];
  for await (const chunk of stdin.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    for (const octet of chunk) {
      if (octet === INTERRUPT) throw invalidSource('the prompt', 'it was given up');
      if (octet === NEWLINE || octet === RETURN) return Uint8Array.from(line);
      if (BACKSPACE.has(octet)) line.pop();
      else if (line.length < limits.unseal_file_bytes_max) line.push(octet);
    }
  }
  return Uint8Array.from(line);
}
