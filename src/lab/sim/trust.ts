/**
 * The roots that a simulated host goes by, and its own leaf under one of them: as an agent follows a trust bundle (spec 9.3). A leaf is issued anew once the tower
 * issues under another root, at a moment of the node's own; what is there moves over to sessions that show it; and what still stands on a root that has left the
 * bundle ends when its time to move over is over.
 */
import { limits } from '../../base/limits.ts';
import type { PeerMesh } from '../../peering/peer-mesh.ts';
import type { Timers } from '../../transport/system.ts';
import type { Agenda } from './agenda.ts';
import { type Directory, judgeChain, type Leaf, type Snapshot } from './directory.ts';

/** Nodes ask for their new leaf over so long, and again after so long where the tower is not reached. */
const REISSUE_MS = 10_000;
const RETRY_MS = 2_000;
/** What it was told is on its disk by then. */
const SYNCED_MS = 100;

export interface TrustOptions {
  readonly node: string;
  readonly isTower: boolean;
  readonly agenda: Agenda;
  readonly directory: Directory;
  readonly timers: Timers;
  readonly known: () => Snapshot;
  /** The leaf on its disk. */
  readonly leaf: () => Leaf;
  readonly keepLeaf: (leaf: Leaf) => void;
  /** Whether it can ask the tower now. */
  readonly reachesTower: () => boolean;
}

export class HostTrust {
  readonly #options: TrustOptions;
  #roots: readonly number[];
  #leaving: { readonly roots: readonly number[]; readonly until: number } = { roots: [], until: 0 };
  #isRenewing = false;
  #isClosed = false;
  #cancelGrace = (): void => {};
  #cancelRenewal = (): void => {};

  constructor(options: TrustOptions) {
    this.#options = options;
    this.#roots = options.known().roots;
  }

  /** What new sessions are judged by. */
  get roots(): readonly number[] {
    return this.#options.known().roots;
  }

  /** What channels that are there are judged by. */
  get liveRoots(): readonly number[] {
    return this.#options.timers.clock.now() < this.#leaving.until ? [...this.#roots, ...this.#leaving.roots] : this.#roots;
  }

  /** Whether a channel stands on what would begin no other. */
  isOutdated(chain: readonly Uint8Array[]): boolean {
    try {
      judgeChain(chain, this.#options.known(), null, this.roots);
      return false;
    } catch {
      return true;
    }
  }

  /** Call it at start, and whenever a newer snapshot holds. */
  follow(mesh: PeerMesh): void {
    if (this.#isClosed) return;
    const { timers, isTower } = this.#options;
    const { roots } = this;
    const gone = this.#roots.filter((root) => !roots.includes(root));
    this.#roots = roots;
    if (gone.length > 0) {
      this.#leaving = { roots: gone, until: timers.clock.now() + limits.trust_grace_ms };
      mesh.moveOver();
      this.#cancelGrace();
      this.#cancelGrace = timers.after(limits.trust_grace_ms, () => mesh.revalidate());
    }
    if (isTower) this.#renewTower(mesh);
    else this.renewLater(mesh);
  }

  /** The tower shows its leaf under the new root once the old one is none any more. */
  #renewTower(mesh: PeerMesh): void {
    const { leaf, keepLeaf } = this.#options;
    const [root] = this.#roots;
    if (root === undefined || this.#roots.includes(leaf().root)) return;
    keepLeaf({ number: leaf().number + 1, root });
    void mesh.refresh();
  }

  renewLater(mesh: PeerMesh): void {
    const { agenda, known, leaf } = this.#options;
    if (this.#isRenewing || leaf().root === known().issuing) return;
    this.#isRenewing = true;
    this.#renewIn(SYNCED_MS + agenda.random.unit() * REISSUE_MS, mesh);
  }

  #renewIn(ms: number, mesh: PeerMesh): void {
    this.#cancelRenewal = this.#options.timers.after(ms, () => this.#renew(mesh));
  }

  /** The tower records the new leaf, and what it recorded reaches the peers, before it is shown. */
  #renew(mesh: PeerMesh): void {
    const { node, directory, timers, reachesTower, keepLeaf } = this.#options;
    const leaf = reachesTower() ? directory.reissue(node) : null;
    if (leaf === null) return this.#renewIn(RETRY_MS, mesh);
    this.#cancelRenewal = timers.after(limits.leaf_publish_ms, () => {
      keepLeaf(leaf);
      this.#isRenewing = false;
      void mesh.refresh();
      this.renewLater(mesh);
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelGrace();
    this.#cancelRenewal();
  }
}
