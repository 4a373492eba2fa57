/**
 * How the tower recognizes who asks on its public port: by a token in the request's head, else by the certificate of the connection, judged by the decisions
 * of `identity`. No other header names a caller, whatever a proxy writes into it. What was recognized holds for one request: the next is judged anew.
 */
import { X509Certificate } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { Access, Caller } from '../../api/access.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { parseOperatorUri, toHex, TOWER_ID } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { verifyOperator } from '../../identity/verify-operator.ts';
import { verifyPeer } from '../../identity/verify.ts';
import { addressGroup } from '../../transport/address-group.ts';
import { chainOf } from '../../transport/peer-chain.ts';
import { systemTimers, type Timers } from '../../transport/system.ts';
import { RateLimit } from '../../api/rate-limit.ts';
import type { Tower } from '../tower.ts';
import { Logins } from './logins.ts';
import { openRoutes } from './open-routes.ts';
import { type Begun, SESSION_PREFIX } from './sessions.ts';
import { SERVICE_PREFIX, type ServiceTokens } from './service-tokens.ts';

export interface PublicAccessOptions {
  readonly clock: Clock;
  readonly timers?: Timers;
  readonly services?: ServiceTokens;
  readonly logins?: Logins;
  /** For tests; `limits.api_enroll_per_address_per_minute_max` unless told. */
  readonly per_minute_max?: number;
  /** For tests; `limits.api_open_per_minute_max` unless told. */
  readonly open_per_minute_max?: number;
  /** For tests; `limits.api_client_per_minute_max` unless told. */
  readonly client_per_minute_max?: number;
}

/** A caller, how long what it has shown is good, and by which names its connection is cut. */
interface Recognized {
  readonly caller: Caller;
  readonly until_ms: number;
  readonly names: readonly string[];
  /** It is the connection itself that was recognized, not one request on it. */
  readonly isConnection: boolean;
}

/** Longest delay of a timer; a connection does not last so long. */
const DELAY_MS_MAX = 2 ** 31 - 1;

export class PublicAccess implements Access {
  readonly openRoutes = openRoutes;
  readonly #tower: Tower;
  readonly #options: PublicAccessOptions;
  readonly #timers: Timers;
  readonly #byAddress: RateLimit;
  readonly #inAll: RateLimit;
  readonly #managers: RateLimit;
  readonly #clients: RateLimit;
  /** Connections that are held for their certificate's owner already. */
  readonly #held = new WeakSet<Socket>();

  constructor(tower: Tower, options: PublicAccessOptions) {
    const { clock, per_minute_max = limits.api_enroll_per_address_per_minute_max, open_per_minute_max = limits.api_open_per_minute_max } = options;
    const { client_per_minute_max = limits.api_client_per_minute_max } = options;
    this.#tower = tower;
    this.#options = options;
    this.#timers = options.timers ?? systemTimers;
    this.#byAddress = new RateLimit({ clock, per_minute: per_minute_max });
    this.#inAll = new RateLimit({ clock, per_minute: open_per_minute_max, names_max: 1 });
    this.#managers = new RateLimit({ clock, per_minute: limits.api_manager_per_minute_max });
    this.#clients = new RateLimit({ clock, per_minute: client_per_minute_max });
  }

  /** The address first, so that one of many requests takes nothing of what is everybody's. */
  admit(address: string): void {
    this.#byAddress.take(addressGroup(address));
    this.#inAll.take('strangers');
  }

  /** Whoever is refused has asked like a stranger, and is counted as one. @throws as the judgement, and rate_limited */
  async authenticate(request: IncomingMessage, response: ServerResponse): Promise<Caller> {
    const caller = await this.#judged(request, response).catch((error: unknown) => {
      this.admit(request.socket.remoteAddress ?? '');
      throw error;
    });
    (caller.scopes.has('management') ? this.#managers : this.#clients).take(caller.actor);
    return caller;
  }

  async #judged(request: IncomingMessage, response: ServerResponse): Promise<Caller> {
    const { live } = this.#tower.access;
    for (;;) {
      const { epoch } = live;
      const recognized = await this.#recognize(request);
      // Somebody was cut off while this one was looked up; it may be this one.
      if (live.epoch !== epoch) continue;
      this.#hold(recognized, request.socket, response);
      return recognized.caller;
    }
  }

  /** Who begins a session: whoever the JWT names, else the owner of the connection's certificate. @throws as `authenticate`, and for a JWT as `Logins` */
  async begunBy(socket: Socket, jwt: string | undefined): Promise<Begun> {
    if (jwt !== undefined) return await (this.#options.logins ?? new Logins([])).begunBy(jwt);
    const { begun } = await this.#byCertificate(socket);
    return begun;
  }

  async #recognize({ headers: { authorization }, socket }: IncomingMessage): Promise<Recognized> {
    return authorization === undefined ? await this.#byCertificate(socket) : await this.#byToken(authorization);
  }

  /** The prefix says which kind it is of; a token that is wrong is not made up for by a certificate that is right. */
  async #byToken(authorization: string): Promise<Recognized> {
    const text = /^Bearer ([A-Za-z0-9_-]+)$/i.exec(authorization)?.[1] ?? '';
    if (text.length <= limits.api_token_chars_max && text.startsWith(SESSION_PREFIX)) return await this.#bySession(text);
    const service = text.length <= limits.api_token_chars_max && text.startsWith(SERVICE_PREFIX) ? await this.#options.services?.find(text) : undefined;
    if (service == null) throw new SelvedgeError('session_invalid', { why: 'the token is of no session and of no service' });
    const caller: Caller = { actor: `service:${service.name}`, scopes: service.scopes };
    return { caller, until_ms: Number.POSITIVE_INFINITY, names: [], isConnection: false };
  }

  async #bySession(text: string): Promise<Recognized> {
    const { id, actor, scopes, operator, node, issuer, expires_ms } = await this.#tower.access.sessions.find(text);
    if (issuer !== null && this.#options.logins?.has(issuer) !== true)
      throw new SelvedgeError('session_invalid', { why: `its issuer ${issuer} is not configured any more` });
    const tenant = issuer === null ? undefined : this.#options.logins?.tenantOf(issuer);
    const owned = { ...(operator !== null && { operator }), ...(node !== null && { node }), ...(tenant !== undefined && { tenant }) };
    const caller: Caller = { actor, scopes: new Set(scopes), session: id, ...owned };
    const owner = operator !== null ? [`operator:${operator}`] : node !== null ? [`node:${node}`] : [];
    return { caller, until_ms: expires_ms, names: [`session:${id}`, ...owner], isConnection: false };
  }

  async #byCertificate(socket: Socket): Promise<Recognized & { readonly begun: Begun }> {
    const chain = chainOf(socket);
    const [leaf] = chain;
    if (leaf === undefined) throw new SelvedgeError('unauthorized', { why: 'neither a client certificate nor a session was shown' });
    const { roots, cluster } = this.#tower;
    const input = { chain, roots, cluster, now_ms: this.#options.clock.wall() };
    if (claimsOperator(leaf)) {
      const { operators } = this.#tower.access;
      const { operator, fingerprint, notAfter_ms: until_ms } = await verifyOperator({ ...input, recordedFingerprint: operators.recordedFingerprint });
      const scopes = new Set((await operators.shown(operator, fingerprint)).scopes);
      const actor = `operator:${operator}`;
      const begun = { actor, scopes, operator: { id: operator, fingerprint: toHex(fingerprint) }, until_ms };
      return { caller: { actor, scopes, operator }, until_ms, names: [actor], isConnection: true, begun };
    }
    const { identity, notAfter_ms: until_ms } = verifyPeer({ ...input, usage: 'client', recordedFingerprint: this.#tower.recordedFingerprint });
    if (identity.node === TOWER_ID) throw new SelvedgeError('unauthorized', { why: 'a tower asks no tower' });
    const actor = `node:${identity.node}`;
    const scopes = new Set(['client'] as const);
    const begun = { actor, scopes, node: identity.node, until_ms };
    return { caller: { actor, scopes, node: identity.node }, until_ms, names: [actor], isConnection: true, begun };
  }

  /** Until the answer is out, or the connection is over; and no longer than what was shown is good. */
  #hold({ names, until_ms, isConnection }: Recognized, socket: Socket, response: ServerResponse): void {
    const { live } = this.#tower.access;
    const left_ms = until_ms - this.#options.clock.wall();
    const cancel = left_ms < DELAY_MS_MAX ? this.#timers.after(left_ms, () => socket.destroy()) : () => undefined;
    response.once('close', cancel);
    if (isConnection && this.#held.has(socket)) return;
    if (isConnection) this.#held.add(socket);
    const releases = names.map((name) => live.hold(name, socket));
    (isConnection ? socket : response).once('close', () => {
      for (const release of releases) release();
    });
  }
}

/** Which decision is to judge the leaf. It reads the name again, from what it has verified; a wrong guess is refused there. */
function claimsOperator(leaf: Uint8Array): boolean {
  try {
    return parseOperatorUri(/^URI:(\S+)$/.exec(new X509Certificate(leaf).subjectAltName ?? '')?.[1] ?? '') !== null;
  } catch {
    return false;
  }
}
