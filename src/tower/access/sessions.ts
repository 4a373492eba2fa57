/**
 * API sessions: a random token for whoever has shown a certificate or a JWT, short-lived and never longer than what it began with. Only its SHA-256 is
 * kept, by which it is looked up, so that there is nothing to compare octet by octet and nothing to steal from the database.
 */
import { createHash, randomBytes } from 'node:crypto';
import type { Socket } from 'node:net';
import type { Scope } from '../../api/access.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/seam.ts';
import type { PageRequest } from '../resources/resource-store.ts';
import type { AccessStore, SessionRow } from './access-store.ts';
import type { LiveCallers } from './live-callers.ts';

export const SESSION_PREFIX = 'svs_';
const SECRET_BYTES = 32;
const SESSION_ID_BYTES = 6;
const DEFAULT_LIFE_MS = 3_600_000;

/** Whoever begins a session: what it has shown, and what that allows at most. */
export interface Begun {
  readonly actor: string;
  readonly scopes: ReadonlySet<Scope>;
  /** With the leaf that was shown: another one may be recorded meanwhile. */
  readonly operator?: { readonly id: string; readonly fingerprint: string };
  readonly node?: string;
  readonly issuer?: string;
  /** The end of what was shown. */
  readonly until_ms: number;
}

export interface SessionRequest {
  /** Less than all; absent: all that what was shown allows. */
  readonly scopes?: readonly Scope[];
  readonly life_ms?: number;
}

export class Sessions {
  readonly #store: AccessStore;
  readonly #live: LiveCallers;
  readonly #clock: Clock;
  readonly #random: Random;

  constructor(parts: { readonly store: AccessStore; readonly live: LiveCallers; readonly clock: Clock; readonly random: Random }) {
    this.#store = parts.store;
    this.#live = parts.live;
    this.#clock = parts.clock;
    this.#random = parts.random;
  }

  /** The token is nowhere but in the answer. @throws scope_denied, limit_reached, certificate_revoked */
  async begin(begun: Begun, { scopes = [...begun.scopes], life_ms = DEFAULT_LIFE_MS }: SessionRequest): Promise<{ text: string; row: SessionRow }> {
    const { actor, operator = null, node = null, issuer = null } = begun;
    const surplus = scopes.find((scope) => !begun.scopes.has(scope));
    if (surplus !== undefined) throw new SelvedgeError('scope_denied', { actor, scope: surplus, has: [...begun.scopes].join(', ') || 'none' });
    const at_ms = this.#clock.wall();
    const expires_ms = Math.floor(Math.min(at_ms + Math.min(life_ms, limits.api_session_life_ms_max), begun.until_ms));
    const id = toHex(this.#random.bytes(SESSION_ID_BYTES));
    const text = `${SESSION_PREFIX}${randomBytes(SECRET_BYTES).toString('base64url')}`;
    const { row, ended } = await this.#store.createSession(
      { id, hash: hashOf(text), actor, scopes: [...new Set(scopes)], operator, node, issuer, expires_ms },
      { actor, at_ms },
    );
    this.#cut(ended);
    return { text, row };
  }

  /** Whose token this is. Unknown, expired and ended read the same. @throws session_invalid */
  async find(text: string): Promise<SessionRow> {
    const row = await this.#store.session(hashOf(text), this.#clock.wall());
    if (row === null) throw new SelvedgeError('session_invalid', { why: 'there is no such session, or not any more' });
    return row;
  }

  async page(page: PageRequest): Promise<readonly SessionRow[]> {
    return await this.#store.sessions(page, this.#clock.wall());
  }

  /** @throws not_found */
  async revoke(id: string, actor: string): Promise<SessionRow> {
    return await this.#end(id, 'session.revoke', actor);
  }

  /** `asked`: the connection on which it was asked for, which is to see the answer. @throws not_found */
  async logout(id: string, actor: string, asked: Socket): Promise<SessionRow> {
    return await this.#end(id, 'session.logout', actor, asked);
  }

  async #end(id: string, action: 'session.logout' | 'session.revoke', actor: string, asked?: Socket): Promise<SessionRow> {
    const row = await this.#store.endSession(id, action, { actor, at_ms: this.#clock.wall() });
    this.#cut([id], asked);
    return row;
  }

  #cut(ids: readonly string[], asked?: Socket): void {
    const names = ids.map((id) => `session:${id}`);
    this.#live.cut(names, asked);
  }
}

function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
