/**
 * Which leaf the tower recorded for whom: the answer that `verifyPeer` asks for at every handshake. Handshakes cannot wait for a
 * database, so this is a copy in memory; the tower changes it in the same step that sees a change committed, before anybody is told of it.
 */
import { fromHex, type NodeIdentity, TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import type { RecordedFingerprint } from '../identity/verify.ts';
import type { End } from '../policy/authorize.ts';
import { otherLeaves } from './renewing/renewal.ts';
import type { NodeRow } from './store/store.ts';

type Recorded = Pick<NodeRow, 'id' | 'site' | 'fingerprint' | 'disabled' | 'renewal' | 'tenant' | 'roles' | 'revision'>;

export class RecordedFingerprints {
  readonly #cluster: string;
  readonly #nodes = new Map<string, Recorded>();
  #tower: Uint8Array;

  constructor(cluster: string, tower: Uint8Array) {
    this.#cluster = cluster;
    this.#tower = tower;
  }

  /** Nodes that there are or were. */
  get count(): number {
    return this.#nodes.size;
  }

  setTower(fingerprint: Uint8Array): void {
    this.#tower = fingerprint;
  }

  /**
   * False, and nothing changes, for a row that is older than the one that is here: whoever committed a change may come to say so after whoever committed
   * the next one, and what was revoked since is to stay revoked.
   */
  set({ id, site, fingerprint, disabled, renewal, tenant, roles, revision }: NodeRow): boolean {
    const known = this.#nodes.get(id);
    if (known !== undefined && known.revision > revision) return false;
    this.#nodes.set(id, { id, site, fingerprint, disabled, renewal, tenant, roles, revision });
    return true;
  }

  /** As rules see it; null for whoever is not, or not there, in this cluster. */
  endOf({ cluster, site, node }: NodeIdentity): End | null {
    const row = this.#nodes.get(node);
    return cluster === this.#cluster && row?.site === site ? endOfRow(cluster, row) : null;
  }

  /** To hand over as it is. `unknown` for whoever is not, or not there, in this cluster; `revoked` for a node without a leaf, `disabled` for one that is to come back. */
  readonly of = (id: NodeIdentity): Exclude<RecordedFingerprint, 'any'> => {
    if (id.cluster !== this.#cluster) return 'unknown';
    if (id.node === TOWER_ID) return id.site === TOWER_SITE ? this.#tower : 'unknown';
    const node = this.#nodes.get(id.node);
    if (node === undefined || node.site !== id.site) return 'unknown';
    const fingerprint = node.fingerprint === null ? null : fromHex(node.fingerprint);
    if (fingerprint === null) return 'revoked';
    if (node.disabled) return 'disabled';
    const others = otherLeaves(node.renewal).map((other) => fromHex(other) ?? new Uint8Array());
    return others.length === 0 ? fingerprint : [fingerprint, ...others];
  };

  /** Whether this leaf is the one that a node was given and has not used yet. */
  isNext({ node, cluster }: NodeIdentity, fingerprint: string): boolean {
    return cluster === this.#cluster && this.#nodes.get(node)?.renewal?.next?.fingerprint === fingerprint;
  }
}

/** A row as rules see it. */
export function endOfRow(
  cluster: string,
  { id, site, tenant, roles, fingerprint, disabled }: Pick<NodeRow, 'id' | 'site' | 'tenant' | 'roles' | 'fingerprint' | 'disabled'>,
): End {
  const gone = fingerprint === null ? 'revoked' : disabled ? 'disabled' : null;
  return { cluster, id, site, tenant, roles, ...(gone !== null && { gone }) };
}
