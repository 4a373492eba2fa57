/**
 * Operators: people and programs that manage the cluster. Each is made with a bundle, redeems it for a certificate of a year, and is cut off in one
 * step: certificate, sessions, live connections, and a bundle that was not redeemed.
 */
import { createHash, X509Certificate } from 'node:crypto';
import type { Scope } from '../../api/access.ts';
import { SelvedgeError } from '../../base/errors.ts';
import { checkLabel, fromHex, type OperatorIdentity, toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/seam.ts';
import { type Bundle, hashOfSecret, makeBundleSecret } from '../../enroll/operator-bundle.ts';
import { bytesOf, type Endpoint, type Envelope } from '../../enroll/wire.ts';
import { type Authority, isIssuedBy } from '../../identity/authority.ts';
import { toBase64 } from '../../identity/base64.ts';
import { issueOperatorLeaf } from '../../identity/ca.ts';
import { parseCsr } from '../../identity/csr.ts';
import { fingerprint, formatFingerprint } from '../../identity/fingerprint.ts';
import type { PageRequest } from '../resources/resource-store.ts';
import type { AccessStore, CutOff, NewLeaf, OperatorRow } from './access-store.ts';
import type { TrustRotation } from '../trust/rotation.ts';
import type { LiveCallers } from './live-callers.ts';

const OPERATOR_ID_BYTES = 6;

export interface OperatorsParts {
  readonly store: AccessStore;
  readonly live: LiveCallers;
  /** What the tower is known by. */
  readonly authority: Authority;
  /** Under which an operator's next leaf is, and the bundle that vouches for it. */
  readonly trust: Pick<TrustRotation, 'operatorLeaves' | 'signedBundle'>;
  readonly cluster: string;
  readonly endpoints: readonly Endpoint[];
  readonly clock: Clock;
  readonly random: Random;
}

export interface NewOperator {
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** How long the bundle may wait to be redeemed. */
  readonly life_ms: number;
}

export interface Redeemed {
  readonly row: OperatorRow;
  /** DER in base64: leaf, intermediate. */
  readonly chain: readonly string[];
  readonly root: string;
}

/** `chain` leads to a root of the bundle, which `root` signs for. */
export interface OperatorRenewed extends Redeemed {
  readonly trust: Envelope;
}

export class Operators {
  readonly #parts: OperatorsParts;

  constructor(parts: OperatorsParts) {
    this.#parts = parts;
  }

  /** The bundle's secret is nowhere but in the answer. @throws operator_exists, limit_reached, argument_invalid */
  async create({ name, scopes, life_ms }: NewOperator, actor: string): Promise<{ row: OperatorRow; bundle: Bundle }> {
    checkLabel('name', name);
    const { random, store } = this.#parts;
    const id = toHex(random.bytes(OPERATOR_ID_BYTES));
    const { secret, at_ms, expires_ms } = this.#newSecret(life_ms);
    const row = await store.createOperator({ id, name, scopes }, { hash: secret.hash, expires_ms }, { actor, at_ms });
    return { row, bundle: this.#bundle(row, secret.text, expires_ms) };
  }

  /** Another bundle for an operator that there is; what it has goes on until this one is redeemed. @throws not_found, operator_revoked, argument_invalid */
  async another(id: string, life_ms: number, actor: string): Promise<{ row: OperatorRow; bundle: Bundle }> {
    const { secret, at_ms, expires_ms } = this.#newSecret(life_ms);
    const row = await this.#parts.store.setBundle(id, { hash: secret.hash, expires_ms }, { actor, at_ms });
    return { row, bundle: this.#bundle(row, secret.text, expires_ms) };
  }

  /**
   * A certificate for the request's key, once for each bundle; a request that was answered before is answered again. As in enrolling, the leaf is made
   * before the bundle is taken, and one that was refused never leaves this function.
   * @throws bundle_invalid, bundle_expired, bundle_redeemed, csr_invalid
   */
  async redeem({ operator, secret, csr }: { readonly operator: string; readonly secret: string; readonly csr: string }): Promise<Redeemed> {
    const { store, clock } = this.#parts;
    const proof = { operator, hash: hashOfSecret(secret) };
    const request = bytesOf(csr, limits.csr_bytes_max, '/csr');
    const csrHash = sha256(request);
    const now_ms = clock.wall();
    const { row, isAnswered } = await store.admit(proof, csrHash, now_ms);
    if (isAnswered) return this.#answer(row);
    return this.#answer(this.#cutOff(await store.redeem(proof, await this.#issue(operator, request, now_ms), now_ms)));
  }

  /**
   * A certificate of another year for whoever shows one that is good: given beside it, and in its place from its first use on, so that a lost answer locks nobody
   * out. The same request is answered the same. @throws not_found, operator_revoked, csr_invalid
   */
  async renew(id: string, csr: string): Promise<OperatorRenewed> {
    const { store, clock, trust } = this.#parts;
    const request = bytesOf(csr, limits.csr_bytes_max, '/csr');
    const { next } = await this.get(id);
    const now_ms = clock.wall();
    const row =
      next?.csrHash === sha256(request)
        ? await this.get(id)
        : await store.renewOperator(id, await this.#issue(id, request, now_ms, trust.operatorLeaves), now_ms);
    return { ...this.#answer(row, row.next?.leaf ?? null), trust: await trust.signedBundle() };
  }

  /** A leaf of this fingerprint was shown, and passed: the one that it renews is none from here on. @throws not_found */
  async shown(id: string, leaf: Uint8Array): Promise<OperatorRow> {
    const row = await this.get(id);
    if (row.next?.fingerprint === toHex(leaf)) await this.#parts.store.useNextLeaf(id, row.next.fingerprint, this.#parts.clock.wall());
    return row;
  }

  /** @throws not_found */
  async revoke(id: string, actor: string): Promise<OperatorRow> {
    return this.#cutOff(await this.#parts.store.revokeOperator(id, { actor, at_ms: this.#parts.clock.wall() }));
  }

  async page(page: PageRequest): Promise<readonly OperatorRow[]> {
    return await this.#parts.store.operators(page);
  }

  /** @throws not_found */
  async get(id: string): Promise<OperatorRow> {
    const row = await this.#parts.store.operator(id);
    if (row === null) throw new SelvedgeError('not_found', { what: 'operator', name: id });
    return row;
  }

  /** For `verifyOperator`, always the state of now. */
  readonly recordedFingerprint = async ({ operator }: OperatorIdentity): Promise<readonly Uint8Array[] | 'unknown' | 'revoked'> => {
    const row = await this.#parts.store.operator(operator);
    if (row === null) return 'unknown';
    if (row.fingerprint === null) return 'revoked';
    return [row.fingerprint, ...(row.next === null ? [] : [row.next.fingerprint])].map((hex) => fromHex(hex) ?? new Uint8Array());
  };

  /** After the change is on disk: whoever asks now is refused, and whoever is being answered is cut. */
  #cutOff({ row, ended }: CutOff): OperatorRow {
    this.#parts.live.cut([`operator:${row.id}`, ...ended.map((id) => `session:${id}`)]);
    return row;
  }

  async #issue(operator: string, request: Uint8Array, now_ms: number, authority = this.#parts.authority): Promise<NewLeaf> {
    const { cluster, random } = this.#parts;
    const { publicKey } = await parseCsr(request);
    const { intermediate: issuer, signer } = authority;
    const leaf = await issueOperatorLeaf({ identity: { cluster, operator }, publicKey, issuer, signer, now_ms, random });
    return {
      fingerprint: toHex(fingerprint(leaf)),
      leaf: toBase64(leaf),
      spkiHash: sha256(publicKey),
      csrHash: sha256(request),
      notAfter_ms: new X509Certificate(leaf).validToDate.getTime(),
    };
  }

  #answer(row: OperatorRow, leaf = row.leaf): Redeemed {
    const { authority, trust } = this.#parts;
    if (leaf === null) throw new SelvedgeError('operator_revoked', { name: row.name });
    const next = trust.operatorLeaves;
    const issuer = isIssuedBy(Buffer.from(leaf, 'base64'), next.intermediate) ? next : authority;
    return { row, chain: [leaf, toBase64(issuer.intermediate)], root: toBase64(authority.root) };
  }

  #newSecret(life_ms: number) {
    if (!(life_ms > 0 && life_ms <= limits.operator_bundle_life_ms_max))
      throw new SelvedgeError('argument_invalid', { name: 'expires', why: 'between now and 30 days from now' });
    const at_ms = this.#parts.clock.wall();
    return { secret: makeBundleSecret(), at_ms, expires_ms: Math.floor(at_ms + life_ms) };
  }

  #bundle({ id, name }: OperatorRow, secret: string, expires_ms: number): Bundle {
    const { cluster, authority, endpoints } = this.#parts;
    const towers = endpoints.map((endpoint) => ({ ...endpoint }));
    return { format: 1, cluster, fingerprint: formatFingerprint(fingerprint(authority.root)), towers, operator: id, name, secret, expires_ms };
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
