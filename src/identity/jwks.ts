/**
 * The public keys of an issuer of JWTs (RFC 7517), from the configuration itself, a file or an HTTPS address. A set is bounded, holds public keys only,
 * and each key serves one algorithm: its own, or the only one of the issuer's that fits it. Keys from outside are kept, fetched anew
 * when they are old or a token names one that is not there, and never more often than `jwks_refetch_ms_min`.
 */
import { open } from 'node:fs/promises';
import { type CryptoKey, importJWK, type JWK } from 'jose';
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Clock } from '../base/seam.ts';
import { type OutboundRules, sendOutbound } from './outbound.ts';

/** Signatures by a private key only. With none that takes a shared secret, a public key can never be taken for one. */
export const jwtAlgorithms = ['ES256', 'ES384', 'ES512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'EdDSA'] as const;
export type JwtAlgorithm = (typeof jwtAlgorithms)[number];

export interface VerifyKey {
  readonly kid: string | null;
  readonly algorithm: JwtAlgorithm;
  readonly key: CryptoKey;
}

export type KeyLocation =
  | { readonly inline: unknown }
  | { readonly file: string }
  /** Rules come from the tower's own configuration, never with the address. */
  | { readonly url: string; readonly rules: OutboundRules };

export interface KeySetOptions {
  readonly issuer: string;
  readonly algorithms: readonly JwtAlgorithm[];
  readonly location: KeyLocation;
  readonly clock: Clock;
}

/** The keys of one issuer. */
export class KeySet {
  readonly #options: KeySetOptions;
  #keys: readonly VerifyKey[] = [];
  #fetched_ms = Number.NEGATIVE_INFINITY;
  #tried_ms = Number.NEGATIVE_INFINITY;
  #failure: SelvedgeError | null = null;
  /** All who ask at once wait for the same fetch. */
  #fetching: Promise<void> | null = null;

  constructor(options: KeySetOptions) {
    this.#options = options;
  }

  /** Keys that are not too old are there afterwards. @throws jwt_keys_unavailable */
  async load(): Promise<void> {
    if (this.#age_ms() >= limits.jwks_fresh_ms_max) await this.#refresh();
    if (this.#age_ms() >= limits.jwks_stale_ms_max) throw this.#unavailable();
  }

  /** The key for a token's header, or null. Without a `kid` there must be but one that fits. @throws jwt_keys_unavailable */
  async find(kid: string | null, algorithm: string): Promise<VerifyKey | null> {
    await this.load();
    const found = this.#among(kid, algorithm);
    if (found !== null || kid === null || this.#keys.some((key) => key.kid === kid)) return found;
    await this.#refresh();
    return this.#among(kid, algorithm);
  }

  #age_ms(): number {
    return this.#options.clock.now() - this.#fetched_ms;
  }

  #among(kid: string | null, algorithm: string): VerifyKey | null {
    const fitting = this.#keys.filter((key) => key.algorithm === algorithm && (kid === null || key.kid === kid));
    return fitting.length === 1 ? (fitting[0] ?? null) : null;
  }

  /** Fetches, unless that was just tried; a failure is kept, and told when no key is left to serve. */
  async #refresh(): Promise<void> {
    const { clock } = this.#options;
    if (this.#fetching === null) {
      if (clock.now() - this.#tried_ms < limits.jwks_refetch_ms_min) return;
      this.#tried_ms = clock.now();
      this.#fetching = this.#fetch().finally(() => {
        this.#fetching = null;
      });
    }
    await this.#fetching;
  }

  async #fetch(): Promise<void> {
    const { issuer, algorithms, location, clock } = this.#options;
    try {
      this.#keys = await readKeySet(await load(location), algorithms);
      this.#fetched_ms = clock.now();
      this.#failure = null;
    } catch (error) {
      this.#failure = asSelvedgeError(error, 'jwt_keys_unavailable', { issuer });
    }
  }

  #unavailable(): SelvedgeError {
    const { issuer } = this.#options;
    const { code, message } = this.#failure ?? { code: null, message: 'they were not fetched yet' };
    if (this.#failure !== null && code === 'jwt_keys_unavailable') return this.#failure;
    return new SelvedgeError('jwt_keys_unavailable', { issuer, why: message }, { cause: this.#failure });
  }
}

async function load(location: KeyLocation): Promise<unknown> {
  if ('inline' in location) return location.inline;
  const bytes = 'file' in location ? await readFileBounded(location.file) : await download(location.url, location.rules);
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
}

async function readFileBounded(path: string): Promise<Uint8Array> {
  await using file = await open(path);
  const buffer = new Uint8Array(limits.jwks_bytes_max + 1);
  let length = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, length);
    length += bytesRead;
    if (length > limits.jwks_bytes_max) throw new SelvedgeError('body_too_large', { max: limits.jwks_bytes_max });
    if (bytesRead === 0) return buffer.subarray(0, length);
  }
}

async function download(url: string, rules: OutboundRules): Promise<Uint8Array> {
  const answer = await sendOutbound(rules, { method: 'GET', url, headers: { accept: 'application/json' }, answer_bytes_max: limits.jwks_bytes_max });
  if (answer.status === 200) return answer.body;
  throw new SelvedgeError('network_unreachable', { peer: URL.parse(url)?.origin ?? url, why: `it answered with HTTP status ${answer.status}` });
}

/**
 * Keys of other kinds than the issuer signs with are passed over: a set may hold some for encryption, or of algorithms to come. What
 * is wrong with a key that would be used refuses the whole set.
 */
export async function readKeySet(set: unknown, algorithms: readonly JwtAlgorithm[]): Promise<VerifyKey[]> {
  const listed = isRecord(set) ? set.keys : undefined;
  if (!Array.isArray(listed)) throw new Error('it is no key set: an object with a list `keys`');
  if (listed.length > limits.jwks_keys_max) throw new Error(`it holds ${listed.length} keys, at most ${limits.jwks_keys_max} are allowed`);
  const keys: VerifyKey[] = [];
  for (const jwk of listed) {
    const key = await readKey(jwk, algorithms);
    if (key === null) continue;
    if (keys.some(({ kid, algorithm }) => kid === key.kid && algorithm === key.algorithm)) throw new Error(`two keys are named ${key.kid ?? 'nothing'}`);
    keys.push(key);
  }
  if (keys.length === 0) throw new Error(`none of its ${listed.length} keys is for ${algorithms.join(', ')}`);
  return keys;
}

async function readKey(jwk: unknown, algorithms: readonly JwtAlgorithm[]): Promise<VerifyKey | null> {
  if (!isRecord(jwk) || typeof jwk.kty !== 'string') throw new Error('a key has no kty');
  if (jwk.kty === 'oct' || 'd' in jwk || 'k' in jwk || 'p' in jwk) throw new Error('a key is not a public one');
  if (jwk.use !== undefined && jwk.use !== 'sig') return null;
  if (Array.isArray(jwk.key_ops) && !jwk.key_ops.includes('verify')) return null;
  const fitting = algorithms.filter((algorithm) => fits(jwk, algorithm) && (jwk.alg === undefined || jwk.alg === algorithm));
  const [algorithm, another] = fitting;
  if (algorithm === undefined) return null;
  if (another !== undefined) throw new Error(`a key serves ${algorithm} and ${another}: name its alg, or one algorithm for the issuer`);
  const { kid = null } = jwk;
  if (kid !== null && (typeof kid !== 'string' || kid.length > limits.jwt_text_chars_max)) throw new Error('a key has a kid that is no text, or too long');
  if (jwk.kty === 'RSA') checkRsa(jwk);
  const key = await importJWK(publicPart(jwk), algorithm);
  if (key instanceof Uint8Array) throw new Error('a key is not a public one');
  return { kid, algorithm, key };
}

const curveOf: Partial<Record<JwtAlgorithm, string>> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521', EdDSA: 'Ed25519' };

function fits(jwk: Readonly<Record<string, unknown>>, algorithm: JwtAlgorithm): boolean {
  if (algorithm.startsWith('ES')) return jwk.kty === 'EC' && jwk.crv === curveOf[algorithm];
  if (algorithm === 'EdDSA') return jwk.kty === 'OKP' && jwk.crv === curveOf[algorithm];
  return jwk.kty === 'RSA';
}

/** A key too short proves nothing; one of a million bits, or with an exponent as long, keeps the tower busy. */
function checkRsa({ n, e }: Readonly<Record<string, unknown>>): void {
  const modulus = typeof n === 'string' ? Buffer.from(n, 'base64url') : Buffer.alloc(0);
  if (modulus.length * 8 < RSA_BITS_MIN || modulus.length * 8 > limits.jwks_key_bits_max)
    throw new Error(`an RSA key has ${modulus.length * 8} bits; allowed: ${RSA_BITS_MIN} to ${limits.jwks_key_bits_max}`);
  if (typeof e !== 'string' || Buffer.from(e, 'base64url').length > RSA_EXPONENT_BYTES_MAX) throw new Error('an RSA key has an exponent of more than 4 octets');
}

const RSA_BITS_MIN = 2_048;
const RSA_EXPONENT_BYTES_MAX = 4;

/** What the key is, without what else may stand beside it. */
function publicPart({ kty, crv, x, y, n, e }: Readonly<Record<string, unknown>>): JWK {
  return Object.fromEntries(Object.entries({ kty, crv, x, y, n, e }).filter(([, value]) => typeof value === 'string')) as JWK;
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
