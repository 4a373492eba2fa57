/**
 * Static tokens of services that cannot do better (spec 12.4), from a file of the tower's host: `NAME SCOPES TOKEN` on each line. What is shown is compared with
 * every token there is, by hashes of one length and in constant time, whatever it is and wherever it fits. The file is read again when it has changed,
 * so that removing a line ends what it allowed.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { type Scope, scopes as allScopes } from '../../api/access.ts';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { isLabel } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import { readFileBounded } from '../../identity/files.ts';

export const SERVICE_PREFIX = 'svk_';
/** At least 256 bits as hex or base64url. */
const TOKEN = /^svk_[A-Za-z0-9_-]{43,120}$/;

export interface Service {
  readonly name: string;
  readonly scopes: ReadonlySet<Scope>;
}

type Entry = Service & { readonly hash: Uint8Array };

export class ServiceTokens {
  readonly #path: string;
  #entries: readonly Entry[] = [];
  #stamp = '';

  private constructor(path: string) {
    this.#path = path;
  }

  /** @throws service_tokens_invalid, permission_denied */
  static async open(path: string): Promise<ServiceTokens> {
    const tokens = new ServiceTokens(path);
    await tokens.#refresh();
    return tokens;
  }

  /** Null for none of them. @throws service_tokens_invalid when the file has become unusable: then nobody passes */
  async find(text: string): Promise<Service | null> {
    await this.#refresh();
    const hash = sha256(text);
    let found: Service | null = null;
    // To the end in any case.
    for (const entry of this.#entries) if (timingSafeEqual(entry.hash, hash)) found = { name: entry.name, scopes: entry.scopes };
    return found;
  }

  async #refresh(): Promise<void> {
    const stamp = await stampOf(this.#path);
    if (stamp === this.#stamp) return;
    this.#entries = [];
    this.#stamp = '';
    const bytes = await readFileBounded(this.#path, limits.service_token_file_bytes_max).catch((error: unknown) => {
      throw refused(this.#path, asSelvedgeError(error, 'internal_error').message);
    });
    this.#entries = parse(this.#path, new TextDecoder().decode(bytes ?? new Uint8Array()));
    this.#stamp = stamp;
  }
}

/** Changes with the file. @throws service_tokens_invalid where others may read it */
async function stampOf(path: string): Promise<string> {
  const facts = await stat(path, { bigint: true }).catch((error: unknown) => {
    throw refused(path, asSelvedgeError(error, 'internal_error').message);
  });
  if ((facts.mode & 0o077n) !== 0n) throw refused(path, 'others may read or write it; its mode must be 0600');
  return `${facts.ino} ${facts.size} ${facts.mtimeNs} ${facts.ctimeNs}`;
}

/** Comments begin with #. No message repeats a token. */
function parse(path: string, text: string): readonly Entry[] {
  const lines = text.split('\n').map((line) => line.trim());
  const entries = lines.flatMap((line, index) => (line === '' || line.startsWith('#') ? [] : [parseLine(path, line, index + 1)]));
  if (entries.length > limits.service_tokens_max) throw refused(path, `${entries.length} tokens, at most ${limits.service_tokens_max} allowed`);
  const twice = entries.find(({ name }, index) => entries.findIndex((one) => one.name === name) !== index);
  if (twice !== undefined) throw refused(path, `${twice.name} is there twice`);
  return entries;
}

function parseLine(path: string, line: string, number: number): Entry {
  const [name = '', scopeText = '', token = '', ...surplus] = line.split(/\s+/);
  const scopes = scopeText.split(',');
  const isScope = (text: string): text is Scope => allScopes.some((scope) => scope === text);
  if (!isLabel(name)) throw refused(path, `line ${number}: the first word is no name`);
  if (!scopes.every(isScope)) throw refused(path, `line ${number}: the second word is not of ${allScopes.join(',')}`);
  if (!TOKEN.test(token) || surplus.length > 0) throw refused(path, `line ${number}: the third word is not svk_ and at least 43 letters and digits`);
  return { name, scopes: new Set(scopes), hash: sha256(token) };
}

function refused(path: string, why: string): SelvedgeError {
  return new SelvedgeError('service_tokens_invalid', { path, why });
}

function sha256(text: string): Uint8Array {
  return createHash('sha256').update(text).digest();
}
