/** What an operator records of hosts at AWS, Google or Kubernetes, by which they may enroll (enroll/platform/grants.ts says what may be recorded). */
import { SelvedgeError } from '../base/errors.ts';
import { checkLabel, toHex } from '../base/ids.ts';
import type { Clock, Random } from '../base/seam.ts';
import { checkFacts, type PlatformKind } from '../enroll/platform/grants.ts';
import { checkSite, type GrantView, grantView, readSources } from './granting.ts';
import type { ProofStore } from './proof-store.ts';

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

const ID_BYTES = 6;

export class PlatformHosts {
  readonly #parts: { readonly store: ProofStore; readonly clock: Clock; readonly random: Random };

  constructor(parts: { readonly store: ProofStore; readonly clock: Clock; readonly random: Random }) {
    this.#parts = parts;
  }

  /** @throws argument_invalid, name_taken, limit_reached, not_found (the tenant) */
  async add(request: PlatformHostRequest, actor: string): Promise<GrantView> {
    const { kind, facts, site = null, tenant = null, name = null, uses = 1, life_ms, sources = [] } = request;
    const { store, clock, random } = this.#parts;
    const at_ms = Math.floor(clock.wall());
    if (site !== null) checkSite(site);
    if (name !== null) checkLabel('name', name);
    if (name !== null && uses !== 1) throw new SelvedgeError('argument_invalid', { name: 'uses', why: 'a record with a name is for one node' });
    const detail = checkFacts(kind, facts);
    const grant = {
      ...{ kind, id: toHex(random.bytes(ID_BYTES)), hash: null, tenant, site, name, node: null, purpose: 'enroll' as const, detail },
      ...{ usesMax: uses, sources: readSources(sources), expires_ms: life_ms === undefined ? null : at_ms + life_ms },
    };
    return grantView(await store.createGrant(grant, { actor, at_ms }));
  }

  /** Oldest first. */
  async list(): Promise<readonly GrantView[]> {
    const { store } = this.#parts;
    const all = await Promise.all((['aws', 'google', 'kubernetes'] as const).map((kind) => store.grants(kind)));
    return all.flat().map(grantView);
  }

  /** It stays to be seen, and refuses whom it matches; effective at the next attempt. @throws not_found */
  async revoke(kind: PlatformKind, id: string, actor: string): Promise<GrantView> {
    return grantView(await this.#parts.store.revokeGrant(kind, id, { actor, at_ms: Math.floor(this.#parts.clock.wall()) }));
  }

  /** As if it had never been; nodes that it enrolled stay. @throws not_found */
  async remove(kind: PlatformKind, id: string, actor: string): Promise<GrantView> {
    return grantView(await this.#parts.store.removeGrant(kind, id, { actor, at_ms: Math.floor(this.#parts.clock.wall()) }));
  }
}
