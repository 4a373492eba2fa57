/**
 * Rotates the cluster's root (spec 9.3), the tower's end: makes another one, counts who holds the bundle of both, has leaves issued under the new one, and lets go of the
 * old one. What the phases mean is in phases.ts. The row decides, in one transaction with its audit row: what a kill leaves in the sealed store is settled by it
 * at the next start (next-authority.ts).
 *
 * Until the old root is retired the tower goes on showing its own leaf under it, and signing by it: so a node that was away still gets the new bundle from somebody it believes.
 */
import { asSelvedgeError, assert, SelvedgeError } from '../../base/errors.ts';
import { toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import type { Envelope, Snapshot } from '../../enroll/wire.ts';
import type { Authority } from '../../identity/authority.ts';
import { fromBase64, toBase64 } from '../../identity/base64.ts';
import { fingerprint } from '../../identity/fingerprint.ts';
import { signDocument } from '../../identity/signed-document.ts';
import { encodeTrustBundle } from '../../identity/trust-bundle.ts';
import type { OwnCertificates } from '../renewing/own-certificates.ts';
import type { Store } from '../store/store.ts';
import { abandoned, firstTrust, isReached, reissued, retired, rotated, type TrustRow } from './phases.ts';
import { type Missing, missingText, type TrustStatus, trustStatus } from './status.ts';

export interface TrustRotationParts {
  readonly store: Pick<Store, 'trust'>;
  readonly own: OwnCertificates;
  /** As the store has it; null: nothing was ever rotated. */
  readonly row: TrustRow | null;
  readonly clock: Clock;
  /** A change is committed: everybody's snapshot differs. */
  readonly changed: () => void;
  /** The old root is retired, and the tower has another leaf (SHA-256). Called before `changed`. */
  readonly onRetired: (towerLeaf: Uint8Array) => void;
  /** Puts on disk, beside keys and rows, what names the root that is now in use. A kill before it is mended at the next start. @throws disk_full */
  readonly keep: () => Promise<void>;
}

export interface RotateRequest {
  readonly threshold_percent?: number;
  /** Where the keys are (identity/signer-place.ts); of keys that are sealed now: sealed, unless told. */
  readonly root_signer?: string;
  readonly signer?: string;
}

export interface RetireRequest {
  readonly force?: boolean;
  readonly cut_off_operators?: boolean;
}

export class TrustRotation {
  readonly #parts: TrustRotationParts;
  #row: TrustRow;
  #roots: readonly Uint8Array[];
  /** When channels that stand on the root before are ended, by the clock that is never set. */
  #graceEnds = Number.NEGATIVE_INFINITY;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(parts: TrustRotationParts) {
    this.#parts = parts;
    this.#row = parts.row ?? firstTrust(toBase64(parts.own.root), limits.trust_threshold_percent, Math.floor(parts.clock.wall()));
    this.#roots = rootsOf(this.#row);
  }

  /** The bundle as snapshots carry it. */
  get bundle(): Snapshot['trust'] {
    return { version: this.#row.version, roots: [...this.#row.roots] };
  }

  get version(): number {
    return this.#row.version;
  }

  /** DER: what new sessions are judged by. */
  get roots(): readonly Uint8Array[] {
    return this.#roots;
  }

  /** And for a while the root before: what channels that are there are judged by. */
  get liveRoots(): readonly Uint8Array[] {
    return this.#parts.clock.now() < this.#graceEnds ? [...this.#roots, ...this.#previous] : this.#roots;
  }

  /** And the root before: what was signed for this tower itself and lies on its disk is opened by it too. */
  get keptRoots(): readonly Uint8Array[] {
    return [...this.#roots, ...this.#previous];
  }

  /** What nodes are told of renewing early, `nodes` of them; absent: nothing. */
  reissue(nodes: number): Snapshot['reissue'] {
    const { next } = this.#parts.own;
    if (this.#row.phase !== 'reissuing' || next === null) return undefined;
    return { root: toHex(fingerprint(next.root)), over_ms: nodes * limits.trust_reissue_per_node_ms };
  }

  /** Under which a node's next leaf is: the new root's, once the node is known to believe it. */
  async leavesOf(node: string): Promise<Authority> {
    const { own, store } = this.#parts;
    const isNext = this.#row.phase === 'reissuing' && own.next !== null && (await store.trust.holds(node, this.#row.version));
    return isNext && own.next !== null ? own.next : own;
  }

  /** Under which an operator's next leaf is: operators are shown the bundle with it. */
  get operatorLeaves(): Authority {
    const { own } = this.#parts;
    return this.#row.phase === 'reissuing' && own.next !== null ? own.next : own;
  }

  /** The bundle, signed by what the tower is known by now. @throws signer_unavailable */
  async signedBundle(): Promise<Envelope> {
    const { payload, signature, chain } = await signDocument(
      'trust-bundle',
      encodeTrustBundle({ version: this.#row.version, roots: this.#roots }),
      this.#parts.own,
    );
    return { payload, signature, chain: [...chain] };
  }

  async status(): Promise<TrustStatus> {
    const { store, own } = this.#parts;
    const [members, operators] = await Promise.all([store.trust.members(), store.trust.operators()]);
    return trustStatus({ row: this.#row, next: this.#row.phase === 'stable' ? null : (own.next?.intermediate ?? null), members, operators });
  }

  /** Makes another root, and tells everybody of it. @throws rotation_refused, argument_invalid, signer_unavailable, disk_full */
  rotate({ threshold_percent = limits.trust_threshold_percent, root_signer, signer }: RotateRequest, actor: string): Promise<TrustStatus> {
    return this.alone(async () => {
      const at_ms = Math.floor(this.#parts.clock.wall());
      // Refused before a key is made.
      rotated(this.#row, '', { threshold_percent, at_ms });
      const places = { ...(root_signer !== undefined && { rootSigner: root_signer }), ...(signer !== undefined && { intermediateSigner: signer }) };
      const { root } = await this.#parts.own.makeNext(places);
      await this.#set(
        rotated(this.#row, toBase64(root), { threshold_percent, at_ms }),
        { action: 'trust.rotate', detail: { root: toHex(fingerprint(root)), threshold_percent } },
        actor,
      );
      await this.#settle();
      return await this.status();
    });
  }

  /**
   * A node says of which bundle it has the roots on its disk. It is believed, as nobody else can know, but for itself alone and of bundles that were told: what it says ahead of
   * its time would count for a rotation to come.
   */
  async held(node: string, version: number): Promise<void> {
    if (version > this.#row.version) return;
    if (await this.#parts.store.trust.hold(node, version)) await this.settle();
  }

  /** Goes on where enough nodes hold the bundle: call it where nodes have changed. */
  async settle(): Promise<void> {
    if (this.#row.phase === 'distributing') await this.alone(() => this.#settle());
  }

  /** Lets go of the root that was to follow, while nothing was issued under it. @throws rotation_refused, disk_full */
  abandon(actor: string): Promise<TrustStatus> {
    return this.alone(async () => {
      const row = abandoned(this.#row, Math.floor(this.#parts.clock.wall()));
      const { next } = this.#parts.own;
      assert(next !== null, 'a root is to follow');
      await this.#set(row, { action: 'trust.abandon', detail: { root: toHex(fingerprint(next.root)) } }, actor);
      await this.#parts.own.dropNext();
      return await this.status();
    });
  }

  /**
   * Lets go of the old root: from now on it is refused, here and wherever the bundle without it has come. `force`: whoever is missing is cut off;
   * `cut_off_operators`: of those that are missing, the operators.
   * @throws rotation_refused, signer_unavailable, disk_full
   */
  retire({ force = false, cut_off_operators = force }: RetireRequest, actor: string): Promise<TrustStatus & { readonly cut_off: Missing }> {
    return this.alone(async () => {
      const { own, clock, onRetired, changed, keep } = this.#parts;
      const row = retired(this.#row, Math.floor(clock.wall()));
      const { missing, ...status } = await this.status();
      const objection = objectionTo(status, { force, cut_off_operators });
      if (objection !== null) throw new SelvedgeError('rotation_refused', { why: `${objection}: ${missingText(missing)}` });
      assert(own.next !== null, 'a root is to follow');
      const [root, leaf] = [fingerprint(own.next.root), fingerprint(await own.prepareNextLeaf())];
      const cluster = { rootFingerprint: toHex(root), towerFingerprint: toHex(leaf) };
      const detail = { root: cluster.rootFingerprint, force, nodes: missing.nodes_total, operators: missing.operators_total };
      await this.#commit(row, { action: 'trust.retire', detail, cluster }, actor);
      own.useNext();
      this.#graceEnds = clock.now() + limits.trust_grace_ms;
      onRetired(leaf);
      changed();
      await own.keepNext();
      await keep();
      return { ...(await this.status()), cut_off: missing };
    });
  }

  /** Nothing of the cluster's trust changes while this is done. */
  alone<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.#turn.then(work);
    this.#turn = done.catch(() => undefined);
    return done;
  }

  async #settle(): Promise<void> {
    const { store, clock } = this.#parts;
    if (this.#row.phase !== 'distributing') return;
    const { nodes, holding } = await store.trust.counts(this.#row.version);
    if (!isReached(holding, nodes, this.#row.threshold_percent)) return;
    await this.#set(reissued(this.#row, Math.floor(clock.wall())), { action: 'trust.reissue', detail: { nodes, holding } }, 'tower');
  }

  async #set(row: TrustRow, change: Parameters<Store['trust']['set']>[1], actor: string): Promise<void> {
    await this.#commit(row, change, actor);
    this.#parts.changed();
  }

  async #commit(row: TrustRow, change: Parameters<Store['trust']['set']>[1], actor: string): Promise<void> {
    await this.#parts.store.trust.set(row, change, { actor, at_ms: this.#parts.clock.wall() });
    this.#row = row;
    this.#roots = rootsOf(row);
  }

  get #previous(): readonly Uint8Array[] {
    const { previous } = this.#row;
    return previous === null ? [] : [derOf(previous)];
  }
}

/** Why the old root is not let go of yet; null: nothing stands against it. */
function objectionTo(
  { phase, nodes, operators, threshold_percent }: Omit<TrustStatus, 'missing'>,
  { force, cut_off_operators }: Required<RetireRequest>,
): string | null {
  const isEnough = phase === 'reissuing' && isReached(nodes.ready, nodes.enabled, threshold_percent);
  if (!isEnough && !force) return `${nodes.ready} of ${nodes.enabled} nodes are ready, ${threshold_percent} % have to be, and the phase is ${phase}`;
  const late = operators.enabled - operators.ready;
  return late > 0 && !cut_off_operators ? `${late} of ${operators.enabled} operators have not renewed` : null;
}

function rootsOf({ roots }: TrustRow): readonly Uint8Array[] {
  return roots.map(derOf);
}

function derOf(text: string): Uint8Array {
  const der = fromBase64(text, limits.certificate_bytes_max);
  if (der === null) throw asSelvedgeError(new Error('a recorded root is base64'), 'internal_error', { what: 'reading the roots' });
  return der;
}
