/** The grants of a tower as an operator makes, sees and ends them: call-home certificates, authorities whose certificates are taken. */
import { X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../../base/errors.ts';
import { toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/seam.ts';
import type { ProofKind } from '../../enroll/proof.ts';
import type { Authority } from '../../identity/authority.ts';
import { issueCallHomeLeaf } from '../../identity/ca.ts';
import { parseCsr } from '../../identity/csr.ts';
import { type AuthorityRequest, CALL_HOME_DAYS, type CallHomeRequest, type GrantView, grantView, newAuthority, newCallHome } from './granting.ts';
import type { ProofStore } from '../store/proof-store.ts';
import type { By, PageRequest } from '../resources/resource-store.ts';

export interface GrantsParts {
  readonly cluster: string;
  readonly store: ProofStore;
  readonly authority: () => Authority;
  readonly clock: Clock;
  readonly random: Random;
}

const GRANT_ID_BYTES = 6;

export class Grants {
  readonly #parts: GrantsParts;

  constructor(parts: GrantsParts) {
    this.#parts = parts;
  }

  async page(kind: ProofKind, request: PageRequest): Promise<readonly GrantView[]> {
    return (await this.#parts.store.grantPage(kind, request)).map(grantView);
  }

  /**
   * A certificate for the key of the request, whose private half the tower never sees. @throws csr_invalid, argument_invalid, name_taken, not_found (the tenant),
   * limit_reached
   */
  async issueCallHome(csr: Uint8Array, request: CallHomeRequest, actor: string): Promise<{ grant: GrantView; chain: readonly Uint8Array[] }> {
    const { days = CALL_HOME_DAYS } = request;
    if (!(Number.isInteger(days) && days >= 1 && days <= limits.call_home_days_max))
      throw new SelvedgeError('argument_invalid', { name: 'days', why: `1 to ${limits.call_home_days_max}` });
    const id = toHex(this.#parts.random.bytes(GRANT_ID_BYTES));
    const { chain, expires_ms } = await issueCallHomeChain(this.#parts, { id, csr, days });
    return { grant: grantView(await this.#parts.store.createGrant(newCallHome(id, request, expires_ms), this.#by(actor))), chain };
  }

  /** @throws argument_invalid, grant_exists, unauthorized (a file is named by somebody who is not on this host) */
  async trustAuthority(request: AuthorityRequest, actor: string): Promise<GrantView> {
    if (request.crlFile !== undefined && actor !== 'local')
      throw new SelvedgeError('unauthorized', { why: 'which file the tower reads is for whoever is on its host to say' });
    return grantView(await this.#parts.store.createGrant(newAuthority(request), this.#by(actor)));
  }

  /** Effective at the next attempt. @throws not_found */
  async revoke(kind: ProofKind, id: string, actor: string): Promise<GrantView> {
    return grantView(await this.#parts.store.revokeGrant(kind, id, this.#by(actor)));
  }

  #by(actor: string): By {
    return { actor, at_ms: Math.floor(this.#parts.clock.wall()) };
  }
}

/** Certificate and intermediate of a grant to be. @throws csr_invalid */
export async function issueCallHomeChain(
  { cluster, authority, clock, random }: Omit<GrantsParts, 'store'>,
  { id, csr, days }: { readonly id: string; readonly csr: Uint8Array; readonly days: number },
): Promise<{ chain: readonly Uint8Array[]; expires_ms: number }> {
  const { publicKey } = await parseCsr(csr);
  const { intermediate, signer } = authority();
  const name = { cluster, grant: id };
  const leaf = await issueCallHomeLeaf({ name, publicKey, issuer: intermediate, signer, days, now_ms: clock.wall(), random });
  return { chain: [leaf, intermediate], expires_ms: new X509Certificate(leaf).validToDate.getTime() };
}
