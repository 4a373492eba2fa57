/**
 * Logins by JWT: which issuers are believed, for which audience, and what that allows. All of it is the tower's configuration; a token chooses no more
 * than by whom it is judged.
 */
import type { Scope } from '../../api/access.ts';
import { SelvedgeError } from '../../base/errors.ts';
import type { Begun } from './sessions.ts';

/** What is needed of `JwtIssuer` (identity/jwt.ts). */
export interface JwtVerifier {
  readonly issuer: string;
  /** @throws jwt_invalid, jwt_expired, jwt_keys_unavailable */
  verify(token: string, expected: { readonly audience: string }): Promise<{ readonly subject: string; readonly expires_ms: number }>;
}

export interface Login {
  /** In the actor of its callers: `jwt:NAME:SUBJECT`. */
  readonly name: string;
  readonly verifier: JwtVerifier;
  readonly audience: string;
  readonly scopes: readonly Scope[];
  /** Its sessions see what is this tenant's, and no more; of scope client alone. */
  readonly tenant?: string;
  /** Who may log in; absent: whoever the issuer gives a token for this audience. */
  readonly subjects?: readonly string[];
}

export class Logins {
  readonly #logins: readonly Login[];

  /** @throws argument_invalid where a tenant's login allows more than a tenant may see */
  constructor(logins: readonly Login[]) {
    const wide = logins.find(({ tenant, scopes }) => tenant !== undefined && scopes.some((scope) => scope !== 'client'));
    if (wide !== undefined) throw new SelvedgeError('argument_invalid', { name: `login ${wide.name}`, why: 'of a tenant: its scopes may be client alone' });
    this.#logins = logins;
  }

  /** Whose view the sessions of an issuer have. */
  tenantOf(name: string): string | undefined {
    return this.#logins.find((login) => login.name === name)?.tenant;
  }

  has(name: string): boolean {
    return this.#logins.some((login) => login.name === name);
  }

  /**
   * Several may be of one issuer, each with its audience; the first that takes the token counts.
   * @throws unauthorized, jwt_invalid, jwt_expired, jwt_keys_unavailable
   */
  async begunBy(token: string): Promise<Begun> {
    const issuer = claimedIssuer(token);
    let refusal = new SelvedgeError('unauthorized', { why: 'the issuer of the JWT is not one that is configured' });
    for (const login of this.#logins.filter(({ verifier }) => verifier.issuer === issuer)) {
      try {
        return await begun(login, token);
      } catch (error) {
        if (!(error instanceof SelvedgeError)) throw error;
        refusal = error;
      }
    }
    throw refusal;
  }
}

async function begun({ name, verifier, audience, scopes, subjects }: Login, token: string): Promise<Begun> {
  const { subject, expires_ms } = await verifier.verify(token, { audience });
  if (subjects !== undefined && !subjects.includes(subject))
    throw new SelvedgeError('unauthorized', { why: `${subject} is not among the subjects of ${name}` });
  return { actor: `jwt:${name}:${subject}`, scopes: new Set(scopes), issuer: name, until_ms: expires_ms };
}

/** Read before anything is verified: it chooses who judges, and who judges compares it again. Null where there is none. */
function claimedIssuer(token: string): string | null {
  try {
    const claims: unknown = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());
    return typeof claims === 'object' && claims !== null && 'iss' in claims && typeof claims.iss === 'string' ? claims.iss : null;
  } catch {
    return null;
  }
}
