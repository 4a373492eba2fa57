/**
 * Renewing nodes' leaves (spec 1.1), the tower's end: gives out a successor, sees it used, takes the old one away. A request that is repeated is answered
 * with the same certificate, so that a lost answer costs nothing.
 */
import { createHash } from 'node:crypto';
import { SelvedgeError } from '../../base/errors.ts';
import { type NodeIdentity, TOWER_ID, toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock, Random } from '../../base/seam.ts';
import { type Authority, isIssuedBy, issueChain } from '../../identity/authority.ts';
import { fromBase64, toBase64 } from '../../identity/base64.ts';
import { parseCsr } from '../../identity/csr.ts';
import { fingerprint } from '../../identity/fingerprint.ts';
import { checkLive } from '../live.ts';
import type { NodeRow, Store } from '../store/store.ts';

export interface LeafRenewalsParts {
  readonly cluster: string;
  readonly store: Store;
  /** Under which a node's next leaf is. */
  readonly authorityOf: (node: string) => Promise<Authority>;
  readonly clock: Clock;
  readonly random: Random;
  readonly isNext: (identity: NodeIdentity, fingerprint: string) => boolean;
  /** Puts committed rows into the directory, all of them at once, and tells whom they concern. */
  readonly changed: (rows: readonly NodeRow[]) => Promise<void>;
}

export interface RenewalRequest {
  readonly csr: Uint8Array;
  /** SHA-256 of the leaf that the node has on disk, hex. */
  readonly holding: string;
}

export class LeafRenewals {
  readonly #parts: LeafRenewalsParts;

  constructor(parts: LeafRenewalsParts) {
    this.#parts = parts;
  }

  /** The chain of the successor, DER. @throws not_found, certificate_revoked, csr_invalid, signer_unavailable */
  async renew(id: string, { csr, holding }: RenewalRequest): Promise<readonly Uint8Array[]> {
    const { store, authorityOf, cluster, clock, random, changed } = this.#parts;
    const row = await store.node(id);
    if (row === null) throw new SelvedgeError('not_found', { what: 'node', name: id });
    checkLive(row);
    const authority = await authorityOf(id);
    const csrHash = sha256(csr);
    const before = row.renewal?.next;
    const again = before?.csrHash === csrHash && row.fingerprint === holding ? leafOf(before.leaf) : null;
    // Not where the intermediate is another since.
    if (again !== null && isIssuedBy(again, authority.intermediate)) return [again, authority.intermediate];
    const { publicKey } = await parseCsr(csr);
    const [leaf] = await issueChain(authority, { identity: { cluster, site: row.site, node: id }, publicKey, now_ms: clock.wall(), random });
    if (leaf === undefined) throw new Error('an issued chain begins with its leaf');
    const next = { fingerprint: toHex(fingerprint(leaf)), leaf: toBase64(leaf), csrHash, spkiHash: sha256(publicKey) };
    await changed([await store.offerLeaf(id, next, holding, clock.wall())]);
    return [leaf, authority.intermediate];
  }

  /** A node has shown this leaf, and its key, in a handshake. Cheap where nothing changes by it. */
  async seen(identity: NodeIdentity, shown: Uint8Array): Promise<void> {
    const leaf = toHex(shown);
    if (identity.node === TOWER_ID || !this.#parts.isNext(identity, leaf)) return;
    const { store, clock, changed } = this.#parts;
    await changed([await store.useLeaf(identity.node, leaf, clock.wall())]);
  }

  /** Old leaves whose time is over are accepted no more. Called now and then. */
  async retire(): Promise<void> {
    const { store, clock, changed } = this.#parts;
    await changed(await store.retireLeaves(clock.wall()));
  }
}

function leafOf(text: string): Uint8Array {
  const leaf = fromBase64(text, limits.certificate_bytes_max);
  if (leaf === null) throw new Error('a recorded leaf is base64');
  return leaf;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
