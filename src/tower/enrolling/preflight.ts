/**
 * Pre-flight (spec 2.3), the tower's end: an installer registers a node before its daemon runs. A token of that purpose is used, id and names are settled, and the
 * installer gets a call-home certificate for a key of its own that is good for this one node. The daemon finishes with it by a proof of kind x509, with
 * a key that only it has. The same token and request again give the same answer.
 */
import { SelvedgeError } from '../../base/errors.ts';
import { toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import { judgeToken } from '../../enroll/proofs/token.ts';
import { bytesOf, type PreflightAnswer, type PreflightRequest, type Snapshot } from '../../enroll/wire.ts';
import { fromBase64, toBase64 } from '../../identity/base64.ts';
import { checkGrant, DEFAULT_SITE, NODE_ID_BYTES, sha256 } from './enrollment.ts';
import { checkSite } from './granting.ts';
import { type GrantsParts, issueCallHomeChain } from './grants.ts';

/** For so long may the daemon take to start. */
const DAYS = 7;

/** @throws token_…, source_denied, proof_disabled, wrong_cluster, csr_invalid, name_taken, argument_invalid, limit_reached */
export async function preflight(
  parts: GrantsParts & { readonly trust: Snapshot['trust'] },
  { token, csr: text, name, site }: PreflightRequest,
  peer: string,
): Promise<PreflightAnswer> {
  const { cluster, store, clock, random, trust } = parts;
  if (site !== undefined) checkSite(site);
  const csr = bytesOf(text, limits.csr_bytes_max, '/body/csr');
  const { grant: from } = await judgeToken({ token }, { cluster, records: store });
  checkGrant(from, 'preflight', peer);
  const home = site ?? from.site ?? DEFAULT_SITE;
  const { allowed } = await store.siteProofs(home);
  if (!allowed.includes('token')) throw new SelvedgeError('proof_disabled', { kind: 'token', site: home });
  const id = toHex(random.bytes(NODE_ID_BYTES));
  const node = toHex(random.bytes(NODE_ID_BYTES));
  const { chain, expires_ms } = await issueCallHomeChain(parts, { id, csr, days: DAYS });
  const detail = { binding: 'host-id', origin: 'preflight', token: from.id, chain: chain.map(toBase64).join(' ') };
  const made = { hash: null, purpose: 'enroll' as const, usesMax: 1, sources: [], detail, expires_ms };
  const drawn = { kind: 'x509' as const, id, tenant: from.tenant, site: home, name: name ?? node, node, ...made };
  const grant = await store.preflight(from, sha256(csr), drawn, Math.floor(clock.wall()));
  const called = { node: grant.node ?? '', name: grant.name ?? '', site: grant.site ?? '' };
  return {
    ...called,
    tenant: grant.tenant,
    cluster,
    host: `${called.name}.${called.site}.${cluster}`,
    pool: `${called.site}.${cluster}`,
    // Of a request that was answered before: what was issued then.
    chain: (grant.detail.chain ?? '').split(' ').filter((one) => fromBase64(one, limits.certificate_bytes_max) !== null),
    expires_ms: grant.expires_ms ?? 0,
    trust,
  };
}
