/**
 * Who a JSON Web Token (RFC 7519, 8725) says its bearer is: its signature by a key of its issuer's set, and every claim that decides
 * whether it is meant for here and now. Nothing in a token chooses how it is judged: the algorithms are the issuer's in the
 * configuration, keys come from the configuration, and a header that brings a key, points at one or asks for extensions is refused.
 */
import { createHash } from 'node:crypto';
import { errors as joseErrors, type JWTPayload, jwtVerify, type ProtectedHeaderParameters } from 'jose';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Clock } from '../base/seam.ts';
import { type JwtAlgorithm, type KeyLocation, KeySet } from './jwks.ts';

export interface JwtIssuerOptions {
  /** Exactly what the claim `iss` must say. */
  readonly issuer: string;
  readonly algorithms: readonly JwtAlgorithm[];
  readonly keys: KeyLocation;
  readonly clock: Clock;
  /** From `iat` to `exp`; `limits.jwt_life_s_max` unless told. */
  readonly life_s_max?: number;
  /** For issuers that never say `nbf`: their tokens are valid from `iat`. */
  readonly without_not_before?: boolean;
}

export interface VerifiedJwt {
  readonly issuer: string;
  readonly subject: string;
  readonly issued_ms: number;
  readonly expires_ms: number;
  readonly claims: Readonly<Record<string, unknown>>;
  /**
   * SHA-256 of what was signed, hex: the token's identity for whoever lets it be used once. The text of a token is none, since
   * another signature over the same claims can be made of an ECDSA signature without the key.
   */
  readonly id: string;
}

export interface JwtExpectation {
  readonly audience: string;
  /** Refuses a token that is for others as well. */
  readonly soleAudience?: boolean;
}

/** Parameters that say which key signed, and what kind of token this is; `x5t` is but another name of the key. All others are refused. */
const HEADER_ALLOWED: ReadonlySet<string> = new Set(['alg', 'kid', 'typ', 'x5t', 'x5t#S256']);
/** Tokens of another `typ` (a logout, a security event, a proof of possession) are never an identity, however well signed. */
const TYPES_ALLOWED: ReadonlySet<string> = new Set(['jwt', 'at+jwt']);
const COMPACT = /^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$/;
/** The end of the year 9999: later times are no times. */
const TIME_S_MAX = 253_402_300_799;

/** One issuer that the configuration names. */
export class JwtIssuer {
  readonly issuer: string;
  readonly #options: JwtIssuerOptions;
  readonly #keys: KeySet;

  constructor(options: JwtIssuerOptions) {
    const { issuer, algorithms, keys: location, clock } = options;
    if (issuer === '') throw new SelvedgeError('argument_invalid', { name: 'issuer', why: 'it is empty' });
    if (algorithms.length === 0) throw new SelvedgeError('argument_invalid', { name: 'algorithms', why: 'there is none' });
    this.issuer = issuer;
    this.#options = options;
    this.#keys = new KeySet({ issuer, algorithms, location, clock });
  }

  /** Fetches the keys, so that a wrong configuration is told at the start. @throws jwt_keys_unavailable */
  async load(): Promise<void> {
    await this.#keys.load();
  }

  /** @throws jwt_invalid, jwt_expired, jwt_keys_unavailable */
  async verify(token: string, { audience, soleAudience = false }: JwtExpectation): Promise<VerifiedJwt> {
    if (audience === '') throw new SelvedgeError('argument_invalid', { name: 'audience', why: 'it is empty' });
    const { algorithms, clock, without_not_before = false } = this.#options;
    const signed = signedPart(token);
    let claims: JWTPayload;
    try {
      const verified = await jwtVerify(token, (header) => this.#keyFor(header), {
        algorithms: [...algorithms],
        issuer: this.issuer,
        audience,
        clockTolerance: limits.jwt_skew_s_max,
        currentDate: new Date(clock.wall()),
        requiredClaims: ['sub', 'iat', 'exp', ...(without_not_before ? [] : ['nbf'])],
      });
      claims = verified.payload;
    } catch (error) {
      throw refusalOf(error);
    }
    if (soleAudience && claims.aud !== audience && !(Array.isArray(claims.aud) && claims.aud.length === 1)) throw invalid('it is for other audiences too');
    const { issued_s, expires_s } = this.#times(claims);
    return {
      issuer: this.issuer,
      subject: subjectOf(claims),
      issued_ms: issued_s * 1_000,
      expires_ms: expires_s * 1_000,
      claims,
      id: createHash('sha256').update(signed).digest('hex'),
    };
  }

  async #keyFor(header: ProtectedHeaderParameters) {
    const surplus = Object.keys(header).find((name) => !HEADER_ALLOWED.has(name));
    if (surplus !== undefined) throw invalid(`its header has ${surplus}`);
    const { kid, typ, alg } = header;
    if (typ !== undefined && (typeof typ !== 'string' || !TYPES_ALLOWED.has(typ.toLowerCase()))) throw invalid(`it is of type ${String(typ)}`);
    if (kid !== undefined && (typeof kid !== 'string' || kid.length > limits.jwt_text_chars_max)) throw invalid('its kid is no text, or too long');
    const found = await this.#keys.find(kid ?? null, String(alg));
    if (found === null) throw invalid(kid === undefined ? 'it names no key, and not one key alone fits' : `its issuer has no key ${kid} for ${alg}`);
    return found.key;
  }

  #times({ iat, nbf, exp }: JWTPayload): { issued_s: number; expires_s: number } {
    const now_s = this.#options.clock.wall() / 1_000;
    const issued_s = timeOf('iat', iat);
    const expires_s = timeOf('exp', exp);
    if (nbf !== undefined) timeOf('nbf', nbf);
    const life_s_max = this.#options.life_s_max ?? limits.jwt_life_s_max;
    if (issued_s > now_s + limits.jwt_skew_s_max) throw new SelvedgeError('jwt_expired', { why: `it was issued ${Math.round(issued_s - now_s)} s from now` });
    if (expires_s <= issued_s) throw invalid('it expires before it was issued');
    if (expires_s - issued_s > life_s_max) throw invalid(`it lives for ${expires_s - issued_s} s, at most ${life_s_max} are allowed`);
    return { issued_s, expires_s };
  }
}

/** The issuers that the configuration names; a token is judged by the one that it claims to be of, and by that one alone. */
export class JwtIssuers {
  readonly #byName: ReadonlyMap<string, JwtIssuer>;

  constructor(issuers: readonly JwtIssuer[]) {
    this.#byName = new Map(issuers.map((issuer) => [issuer.issuer, issuer]));
  }

  /** @throws jwt_invalid, jwt_expired, jwt_keys_unavailable */
  async verify(token: string, expected: JwtExpectation): Promise<VerifiedJwt> {
    const issuer = this.#byName.get(claimedIssuer(token));
    if (issuer === undefined) throw invalid('its issuer is not among those of the configuration');
    return await issuer.verify(token, expected);
  }
}

/** Read before anything is verified: it chooses who judges, and that one compares it again. */
function claimedIssuer(token: string): string {
  const payload = signedPart(token).split('.')[1] ?? '';
  try {
    const claims: unknown = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const { iss } = claims as { iss?: unknown };
    if (typeof iss === 'string') return iss;
  } catch {
    // The one refusal below covers it.
  }
  throw invalid('its claims name no issuer');
}

function signedPart(token: string): string {
  if (token.length > limits.jwt_bytes_max) throw invalid(`it has more than ${limits.jwt_bytes_max} octets`);
  if (!COMPACT.test(token)) throw invalid('it is not of the form HEADER.CLAIMS.SIGNATURE');
  return token.slice(0, token.lastIndexOf('.'));
}

function subjectOf({ sub }: JWTPayload): string {
  if (typeof sub !== 'string' || sub === '' || sub.length > limits.jwt_text_chars_max) throw invalid('its subject (sub) is no text, or too long');
  return sub;
}

function timeOf(name: string, value: unknown): number {
  if (typeof value !== 'number' || !(value > 0 && value <= TIME_S_MAX)) throw invalid(`its ${name} is no time`);
  return value;
}

const invalid = (why: string): SelvedgeError => new SelvedgeError('jwt_invalid', { why });

/** jose's errors name claim and reason, and hold nothing of the token; any other is not for whoever sent it. */
function refusalOf(error: unknown): SelvedgeError {
  if (error instanceof SelvedgeError) return error;
  if (error instanceof joseErrors.JWTExpired) return new SelvedgeError('jwt_expired', { why: 'it has expired (exp)' });
  if (error instanceof joseErrors.JWTClaimValidationFailed) {
    if (error.claim === 'nbf' && error.reason === 'check_failed') return new SelvedgeError('jwt_expired', { why: 'it is not valid yet (nbf)' });
    return invalid(`its ${error.claim} is ${error.reason === 'missing' ? 'missing' : 'not what is expected'}`);
  }
  if (error instanceof joseErrors.JOSEAlgNotAllowed) return invalid('its algorithm is not one of its issuer');
  if (error instanceof joseErrors.JWSSignatureVerificationFailed) return invalid('its signature is not by that key');
  return new SelvedgeError('jwt_invalid', { why: 'it cannot be parsed' }, { cause: error });
}
