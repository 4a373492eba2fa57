/** Whether this node's certificate is to be renewed early because the cluster moves to another root (spec 9.3), and when. Pure but for reading certificates. */
import { fromHex, equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { NodeState } from '../enroll/state.ts';
import { isIssuedBy } from '../identity/authority.ts';
import { fingerprint } from '../identity/fingerprint.ts';

type Known = Pick<NodeState, 'snapshot' | 'trust' | 'credentials'>;

/** DER of the root under which leaves are issued now; null where the snapshot names none, or one that this node does not trust. */
export function reissueRoot({ snapshot, trust }: Omit<Known, 'credentials'>): Uint8Array | null {
  const wanted = fromHex(snapshot.reissue?.root ?? '');
  return (wanted !== null && trust.roots.find((root) => equalBytes(fingerprint(root), wanted))) || null;
}

/** The same root, once the leaf in use is under it: what else is issued to this node follows. */
export function followedRoot(known: Known): Uint8Array | null {
  const root = reissueRoot(known);
  return root !== null && isUnder(known, root) ? root : null;
}

/** When a leaf is to be renewed for the sake of another root: once for each, at a moment of its own. */
export class ReissuePlan {
  #root: string | null = null;
  #due_ms = 0;

  /** Null: it need not be. `unit` is uniform in [0, 1). */
  due_ms(known: Known, now_ms: number, unit: () => number): number | null {
    const root = reissueRoot(known);
    const { reissue } = known.snapshot;
    if (root === null || reissue === undefined || isUnder(known, root)) return null;
    if (this.#root !== reissue.root) {
      this.#root = reissue.root;
      this.#due_ms = now_ms + unit() * reissue.over_ms;
    }
    return this.#due_ms;
  }

  /** It was renewed, and is not under that root yet: the tower has not heard that this node trusts it. */
  later(now_ms: number): void {
    this.#due_ms = Math.max(this.#due_ms, now_ms + limits.leaf_retry_ms_base);
  }
}

function isUnder({ credentials }: Pick<Known, 'credentials'>, root: Uint8Array): boolean {
  const [, intermediate] = credentials.chain;
  return intermediate !== undefined && isIssuedBy(intermediate, root);
}
