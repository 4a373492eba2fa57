/**
 * Call-home, the tower's end, the same for every kind of proof: request checked, evidence judged, the site's switches and the grant's limits, a leaf made, then
 * one transaction that takes the use and makes the node. The leaf is made before the use is taken, so that no kill can leave a use without a node; a leaf
 * whose use was refused never leaves here.
 */
import { createHash } from 'node:crypto';
import { type ErrorCode, SelvedgeError } from '../../base/errors.ts';
import { TOWER_SITE, toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/seam.ts';
import { checkBootRequest } from '../../enroll/boot-request.ts';
import { challengeDigest, type Claim, type Grant, type Proof, type ProofKind } from '../../enroll/proof.ts';
import { bytesOf, type Check, checkEndpointsSize, checker, type EnrollRequest } from '../../enroll/wire.ts';
import { type Authority, issueChain } from '../../identity/authority.ts';
import { toBase64 } from '../../identity/base64.ts';
import { parseCsr } from '../../identity/csr.ts';
import { fingerprint } from '../../identity/fingerprint.ts';
import type { Nonces } from './nonces.ts';
import type { NewNode, ProofStore, Requested } from '../store/proof-store.ts';
import { liesIn } from '../app/subnet.ts';
import type { NodeRow } from '../store/store.ts';
import type { Unsealing } from '../unseal/unsealing.ts';

/** Site of a node that names none, with a grant that names none. */
export const DEFAULT_SITE = 'default';
export const NODE_ID_BYTES = 6;

export interface EnrollmentParts {
  readonly cluster: string;
  readonly store: ProofStore;
  readonly authority: () => Authority;
  /** DER of the cluster's roots. */
  readonly roots: () => readonly Uint8Array[];
  readonly nonces: Nonces;
  readonly clock: Clock;
  readonly random: Random;
  readonly proofs: readonly Proof[];
  /** Makes the boot identity that a node to be asks for (unseal/unsealing.ts). */
  readonly newBoot: Unsealing['newBoot'];
}

interface Judge {
  readonly proof: Proof;
  readonly check: Check<unknown>;
}

/** What a request amounts to: the node that it made or made before. */
export interface Enrolled {
  readonly node: NodeRow;
  /** SPKI (DER) of the key that it asked with. */
  readonly publicKey: Uint8Array;
  /** False: the answer of before, once more. */
  readonly isNew: boolean;
}

export class Enrollment {
  readonly #parts: EnrollmentParts;
  readonly #judges = new Map<ProofKind, Judge>();

  constructor(parts: EnrollmentParts) {
    this.#parts = parts;
    for (const proof of parts.proofs) this.#judges.set(proof.kind, { proof, check: checker(proof.evidence) });
  }

  get nonces(): Nonces {
    return this.#parts.nonces;
  }

  /**
   * `peer`: the IP address of whoever asks.
   * @throws proof_…, token_…, host_refused, nonce_invalid, wrong_cluster, csr_invalid, name_taken, request_invalid, limit_reached, source_denied
   */
  async enroll(request: EnrollRequest, peer: string): Promise<Enrolled> {
    checkRequest(request);
    const csr = bytesOf(request.csr, limits.csr_bytes_max, '/csr');
    const { publicKey } = await parseCsr(csr);
    const boot = request.boot === undefined ? null : await checkBootRequest(request.boot, csr, publicKey);
    const site = request.site ?? null;
    const claim = await this.#judge(request, { csr, publicKey, peer, site });
    try {
      return await this.#admit(claim, { request, publicKey, hashes: { csrHash: sha256(csr), spkiHash: sha256(publicKey) }, site, peer, boot });
    } catch (error) {
      throw request.proof.kind === 'host-id' ? untold(error) : error;
    }
  }

  /** Of evidence that is good: whether it may be used now, here and from there; then the node. */
  async #admit(claim: Claim, asked: Omit<Asked, 'site'> & { readonly site: string | null }): Promise<Enrolled> {
    const { store, clock } = this.#parts;
    if ('grant' in claim) checkGrant(claim.grant, 'enroll', asked.peer);
    const admission = await store.admit(claim, asked.hashes, asked.site, clock.wall());
    if (admission.answered !== null) return { node: admission.answered, isNew: false, publicKey: asked.publicKey };
    const site = admission.site ?? DEFAULT_SITE;
    await this.#checkSwitch(switchOf(claim), site);
    const leaf = await this.#issue(claim, { ...asked, site });
    return { node: await store.enroll(claim, leaf, clock.wall()), isNew: true, publicKey: asked.publicKey };
  }

  async close(): Promise<void> {
    for (const { proof } of this.#judges.values()) await proof.close?.();
  }

  async #judge(
    { proof: { kind, nonce, ...evidence } }: EnrollRequest,
    { csr, publicKey, peer, site }: { csr: Uint8Array; publicKey: Uint8Array; peer: string; site: string | null },
  ): Promise<Claim> {
    const { cluster, store, nonces, clock, roots } = this.#parts;
    const judge = this.#judges.get(kind);
    if (judge === undefined) throw new SelvedgeError('proof_disabled', { kind, site: site ?? 'any site' });
    // Nothing is judged for a site that would not take it anyway.
    if (site !== null) await this.#checkSwitch(kind, site, kind === 'x509' ? 'token' : kind);
    const { proof, check } = judge;
    if (proof.isBound && nonce === undefined)
      throw new SelvedgeError('request_invalid', { path: '/body/proof/nonce', why: `a proof of kind ${kind} needs one` });
    if (proof.isBound && nonce !== undefined) nonces.check(nonce);
    const csrHash = createHash('sha256').update(csr).digest();
    const claim = await proof.judge(checkEvidence(check, evidence), {
      cluster,
      nonce: proof.isBound ? (nonce ?? null) : null,
      challenge: proof.isBound && nonce !== undefined ? challengeDigest(kind, cluster, nonce, csrHash) : '',
      csrHash,
      publicKey,
      peer,
      site,
      now_ms: clock.wall(),
      roots: roots(),
      records: store,
    });
    // After the judgement, which may take its time: of two that come with one nonce, one passes here.
    if (proof.isBound && nonce !== undefined) nonces.spend(nonce);
    return claim;
  }

  /** `or`: what would do as well. */
  async #checkSwitch(kind: ProofKind, site: string, or: ProofKind = kind): Promise<void> {
    const { allowed } = await this.#parts.store.siteProofs(site);
    if (!allowed.includes(kind) && !allowed.includes(or)) throw new SelvedgeError('proof_disabled', { kind, site });
  }

  async #issue(claim: Claim, { request, publicKey, hashes, site, peer, boot }: Asked): Promise<NewNode> {
    const { cluster, random, clock, authority, newBoot } = this.#parts;
    const settled = 'returning' in claim ? { node: claim.returning.id, name: null } : claim.grant;
    const id = settled.node ?? toHex(random.bytes(NODE_ID_BYTES));
    const [leaf] = await issueChain(authority(), { identity: { cluster, site, node: id }, publicKey, now_ms: clock.wall(), random });
    if (leaf === undefined) throw new Error('an issued chain begins with its leaf');
    return {
      id,
      name: settled.name ?? request.name,
      site,
      fingerprint: toHex(fingerprint(leaf)),
      leaf: toBase64(leaf),
      ...hashes,
      endpoints: request.listen,
      facts: request.facts ?? null,
      peer,
      ...(boot !== null && { boot: await newBoot({ node: id, site }, boot) }),
    };
  }
}

/** Of a request that has passed: what its leaf is made of. */
interface Asked {
  readonly request: EnrollRequest;
  readonly publicKey: Uint8Array;
  readonly hashes: Requested;
  readonly site: string;
  readonly peer: string;
  /** The request for a boot identity; null: none. */
  readonly boot: Uint8Array | null;
}

/** What would tell of a host id that it is registered, and where. */
const telling: ReadonlySet<ErrorCode> = new Set([
  'proof_disabled',
  'proof_invalid',
  'proof_expired',
  'proof_revoked',
  'proof_exhausted',
  'source_denied',
  'name_taken',
  'csr_invalid',
] as const);

/** An id is no secret, and can be tried: whoever only tries learns nothing from how he is refused. The reason goes to the tower's log, as the cause. */
function untold(error: unknown): unknown {
  return error instanceof SelvedgeError && telling.has(error.code) ? new SelvedgeError('host_refused', {}, { cause: error }) : error;
}

function checkRequest({ site, listen }: EnrollRequest): void {
  if (site === TOWER_SITE) throw new SelvedgeError('request_invalid', { path: '/site', why: `'${TOWER_SITE}' is the tower's own` });
  checkEndpointsSize(listen);
}

function checkEvidence(check: Check<unknown>, evidence: unknown): never {
  try {
    return check(evidence) as never;
  } catch (error) {
    if (!(error instanceof SelvedgeError)) throw error;
    throw new SelvedgeError('request_invalid', { ...error.facts, path: `/body/proof${error.facts.path === '/' ? '' : error.facts.path}` });
  }
}

/** What the site must have switched on for this claim: what a pre-flight made stands and falls with tokens, by one of which it was made. */
function switchOf(claim: Claim): ProofKind {
  if ('returning' in claim) return 'fingerprint';
  return claim.grant.detail.origin === 'preflight' ? 'token' : claim.grant.kind;
}

/** What of a grant does not depend on how much of it is used: that is the transaction's. @throws token_invalid, source_denied */
export function checkGrant({ kind, purpose, sources }: Grant, needed: Grant['purpose'], peer: string): void {
  if (purpose !== needed) throw new SelvedgeError('token_invalid', { why: `it is for ${purpose}, not for ${needed}` });
  if (sources.length > 0 && !sources.some((network) => liesIn(peer, network))) throw new SelvedgeError('source_denied', { kind, peer });
}

export function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
