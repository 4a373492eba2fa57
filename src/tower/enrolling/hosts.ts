/**
 * Hosts that may enroll without a token: one by its id, or those of which AWS, Google or Kubernetes says what was recorded (enroll/platform/grants.ts says
 * what may be). As an operator records, sees and ends them.
 */
import { SelvedgeError } from '../../base/errors.ts';
import { checkLabel, toHex } from '../../base/ids.ts';
import type { Clock, Random } from '../../base/seam.ts';
import { checkFacts, type PlatformKind } from '../../enroll/platform/grants.ts';
import { checkSite, type GrantView, grantView, type HostRequest, newHost, readSources } from './granting.ts';
import type { NewGrant, ProofStore } from '../store/proof-store.ts';
import type { By, Match, PageRequest } from '../resources/resource-store.ts';

export const hostKinds = ['host-id', 'aws', 'google', 'kubernetes'] as const;
export type HostKind = (typeof hostKinds)[number];

export interface PlatformHostRequest {
  readonly kind: PlatformKind;
  readonly facts: Readonly<Record<string, string>>;
  readonly site?: string;
  readonly tenant?: string;
  /** Of the one node that it is for. */
  readonly name?: string;
  readonly uses?: number;
  readonly life_ms?: number;
  readonly sources?: readonly string[];
}

export type NewHostRequest = (HostRequest & { readonly kind: 'host-id' }) | PlatformHostRequest;

const ID_BYTES = 6;

/** Where a list goes on: kinds in the order of their names, ids within. */
export function hostKey({ kind, id }: Pick<GrantView, 'kind' | 'id'>): string {
  return `${kind}:${id}`;
}

/** An operator makes one and revokes it, nothing else: when that was tells its states apart. */
export function revisionOf({ created_ms, revoked_ms }: Pick<GrantView, 'created_ms' | 'revoked_ms'>): number {
  return Math.floor(revoked_ms ?? created_ms);
}

export class Hosts {
  readonly #parts: { readonly store: ProofStore; readonly clock: Clock; readonly random: Random };

  constructor(parts: { readonly store: ProofStore; readonly clock: Clock; readonly random: Random }) {
    this.#parts = parts;
  }

  /** @throws argument_invalid, grant_exists, name_taken, limit_reached, not_found (the tenant) */
  async add(request: NewHostRequest, actor: string): Promise<GrantView> {
    const by = this.#by(actor);
    const grant = request.kind === 'host-id' ? newHost(request, by.at_ms) : this.#newPlatformHost(request, by.at_ms);
    return grantView(await this.#parts.store.createGrant(grant, by));
  }

  /** `after` of the request: a `hostKey`. */
  async page(kinds: readonly HostKind[], request: PageRequest): Promise<readonly GrantView[]> {
    return (await this.#parts.store.grantsByKind(kinds, request)).map(grantView);
  }

  /** @throws not_found */
  async get(kind: HostKind, id: string): Promise<GrantView> {
    const found = await this.#parts.store.grant(kind, id.toLowerCase());
    if (found === null) throw new SelvedgeError('not_found', { what: `${kind} grant`, name: id });
    return grantView(found);
  }

  /** It stays to be seen, and refuses whom it matches; effective at the next attempt. @throws not_found, changed_meanwhile */
  async revoke(kind: HostKind, id: string, match: Match, actor: string): Promise<GrantView> {
    return grantView(await this.#parts.store.revokeGrant(kind, id.toLowerCase(), this.#by(actor), match));
  }

  /** As if it had never been, so that an id can be added anew; nodes that it enrolled stay. @throws not_found, changed_meanwhile */
  async remove(kind: HostKind, id: string, match: Match, actor: string): Promise<GrantView> {
    return grantView(await this.#parts.store.removeGrant(kind, id.toLowerCase(), this.#by(actor), match));
  }

  /** @throws argument_invalid */
  #newPlatformHost(request: PlatformHostRequest, at_ms: number): NewGrant {
    const { kind, facts, site = null, tenant = null, name = null, uses = 1, life_ms, sources = [] } = request;
    if (site !== null) checkSite(site);
    if (name !== null) checkLabel('name', name);
    if (name !== null && uses !== 1) throw new SelvedgeError('argument_invalid', { name: 'uses', why: 'a record with a name is for one node' });
    return {
      ...{ kind, id: toHex(this.#parts.random.bytes(ID_BYTES)), hash: null, tenant, site, name, node: null, purpose: 'enroll' as const },
      ...{ detail: checkFacts(kind, facts), usesMax: uses, sources: readSources(sources), expires_ms: life_ms === undefined ? null : at_ms + life_ms },
    };
  }

  #by(actor: string): By {
    return { actor, at_ms: Math.floor(this.#parts.clock.wall()) };
  }
}
