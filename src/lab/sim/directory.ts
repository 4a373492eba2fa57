/**
 * What the simulated tower knows and tells: who is there, which leaf is recorded for whom, who is revoked, which classes are denied. A stand-in for rows and
 * signed snapshots, which have tests of their own; here it is about what channels do when what is known changes, late or not at all.
 */
import { type NodeIdentity, TOWER_ID, TOWER_SITE } from '../../base/ids.ts';
import { putU32 } from '../../base/bytes.ts';
import { SelvedgeError } from '../../base/errors.ts';
import type { TrafficClass } from '../../channel/classes.ts';
import type { VerifiedPeer } from '../../identity/verify.ts';
import { endOf, type View } from '../../policy/judge.ts';
import { noRules, type PolicyRule } from '../../policy/rules.ts';

export interface Entry {
  readonly node: string;
  readonly site: string;
  /** Number of the leaf that is recorded, the newest; null: revoked. */
  readonly leaf: number | null;
}

/** A leaf as it is shown: its number, and that of the root it stands on. */
export interface Leaf {
  readonly number: number;
  readonly root: number;
}

export interface Snapshot {
  readonly version: number;
  /** By the tower's clock on the wall. */
  readonly issued_ms: number;
  readonly entries: readonly Entry[];
  /** Classes that nodes may not use with each other. */
  readonly denied: readonly TrafficClass[];
  /** The trust bundle, and the root under which leaves are issued. */
  readonly roots: readonly number[];
  readonly issuing: number;
}

/** For so long a snapshot may be followed, and so often there is a fresh one: in the same proportion as the product's, short enough for ten minutes. */
export const SNAPSHOT_TTL_MS = 180_000;
export const SNAPSHOT_REFRESH_MS = 60_000;
/** The class that nodes may use with each other only while the tower can be reached. */
export const TOWER_CLASS: TrafficClass = 'render';

/** What everybody begins with. */
export const FIRST_LEAF: Leaf = { number: 1, root: 1 };

const CLUSTER = 'sim';
const DAY_MS = 86_400_000;

export const TOWER: NodeIdentity = { cluster: CLUSTER, site: TOWER_SITE, node: TOWER_ID };

export function identityOf(number: number, sites: number): NodeIdentity {
  return { cluster: CLUSTER, site: `site${number % sites}`, node: `0000000${number.toString(16).padStart(5, '0')}` };
}

/** Short, for transcripts. */
export function shortName(node: string): string {
  return node === TOWER.node ? node : `n${Number.parseInt(node, 16)}`;
}

/** A chain as sessions in memory show it: who, and the leaf. */
export function chainOf({ site, node }: NodeIdentity, { number, root }: Leaf): readonly Uint8Array[] {
  return [new TextEncoder().encode(`${site}/${node}/${number}/${root}`)];
}

export function fingerprintOf(leaf: number): Uint8Array {
  const fingerprint = new Uint8Array(32);
  putU32(fingerprint, 0, leaf);
  return fingerprint;
}

interface Shown {
  readonly peer: VerifiedPeer;
  readonly leaf: Leaf;
}

const shown = new WeakMap<readonly Uint8Array[], Shown>();

/** What a chain says; each is judged often. */
function shownBy(chain: readonly Uint8Array[]): Shown {
  const known = shown.get(chain);
  if (known !== undefined) return known;
  const [site = '', node = '', leaf = '', root = ''] = new TextDecoder().decode(chain[0]).split('/');
  const fingerprint = fingerprintOf(Number(leaf));
  const peer = { identity: { cluster: CLUSTER, site, node }, fingerprint, spkiHash: fingerprint, serial: leaf, notBefore_ms: 0, notAfter_ms: 30 * DAY_MS };
  const said = { peer, leaf: { number: Number(leaf), root: Number(root) } };
  shown.set(chain, said);
  return said;
}

/** The root that a chain stands on. */
export function rootOf(chain: readonly Uint8Array[]): number {
  return shownBy(chain).leaf.root;
}

/** What `verifyPeer` decides, of such a chain; leaves before the one that is recorded are accepted for longer than a simulation takes. @throws certificate_invalid, certificate_revoked, wrong_node */
export function judgeChain(chain: readonly Uint8Array[], snapshot: Snapshot, expected: string | null, roots = snapshot.roots): VerifiedPeer {
  const { peer, leaf } = shownBy(chain);
  const { node } = peer.identity;
  if (expected !== null && node !== expected) throw new SelvedgeError('wrong_node', { found: node, expected });
  if (!roots.includes(leaf.root)) throw new SelvedgeError('certificate_invalid', { peer: node, why: `root ${leaf.root} is none of ${roots.join(', ')}` });
  const recorded = node === TOWER.node ? leaf.number : (entryOf(snapshot, node)?.leaf ?? null);
  if (recorded === null || leaf.number > recorded)
    throw new SelvedgeError('certificate_revoked', { peer: node, why: `leaf ${leaf.number}, recorded is ${recorded ?? 'none'}` });
  return peer;
}

const byNode = new WeakMap<readonly Entry[], ReadonlyMap<string, Entry>>();

export function entryOf({ entries }: Pick<Snapshot, 'entries'>, node: string): Entry | undefined {
  const known = byNode.get(entries) ?? new Map(entries.map((entry) => [entry.node, entry]));
  byNode.set(entries, known);
  return known.get(node);
}

const policyOf = (name: string, more: Pick<PolicyRule, 'priority' | 'effect' | 'classes'>): PolicyRule => ({
  ...more,
  name,
  from: {},
  to: {},
  services: null,
  degraded: false,
});

/** What a host decides by, out of its snapshot. */
export function viewOf(snapshot: Snapshot, self: NodeIdentity, standing: Pick<View, 'degraded' | 'objection'>): View {
  const policies = [
    policyOf('with-tower', { priority: 100, effect: 'allow', classes: [TOWER_CLASS] }),
    ...snapshot.denied.map((cls) => policyOf(`no-${cls}`, { priority: 200, effect: 'deny', classes: [cls] })),
  ];
  return {
    self: endOf(self),
    peer: (identity) => {
      if (identity.node === TOWER_ID) return endOf(TOWER);
      const entry = entryOf(snapshot, identity.node);
      if (entry === undefined) return null;
      return entry.leaf === null ? { ...endOf(identity), gone: 'revoked' } : endOf(identity);
    },
    epochOf: () => 0,
    rules: { ...noRules, policies },
    ...standing,
  };
}

type Rows = Omit<Snapshot, 'issued_ms'>;

/** How far a rotation has come: its new root in the bundle, leaves issued under it. */
type Rotation = { readonly beganAt: number; readonly root: number; readonly phase: 'distributing' | 'reissuing' };

/** Rows change here; each change is a version. */
export class Directory {
  #rows: Rows;
  #told: Snapshot | null = null;
  #rotation: Rotation | null = null;
  /** When the last rotation began; null: there was none. */
  rotatedAt: number | null = null;
  /** Rows have changed that somebody but an operator has changed: a leaf was issued. */
  onReissued: () => void = () => {};
  readonly #revokedAt = new Map<string, number>();
  readonly #everDenied = new Set<TrafficClass>();

  constructor(identities: readonly NodeIdentity[]) {
    this.#rows = {
      version: 1,
      entries: identities.map(({ node, site }) => ({ node, site, leaf: FIRST_LEAF.number })),
      denied: [],
      roots: [FIRST_LEAF.root],
      issuing: FIRST_LEAF.root,
    };
  }

  /** As the tower says it at this time of its clock on the wall. */
  snapshot(issued_ms: number): Snapshot {
    if (this.#told?.version !== this.#rows.version || this.#told.issued_ms !== issued_ms) this.#told = { ...this.#rows, issued_ms };
    return this.#told;
  }

  /** When a node was revoked; null: it is not. */
  revokedAt(node: string): number | null {
    return this.#revokedAt.get(node) ?? null;
  }

  revoke(node: string, now: number): void {
    this.#revokedAt.set(node, now);
    this.#change({ entries: this.#rows.entries.map((entry) => (entry.node === node ? { ...entry, leaf: null } : entry)) });
  }

  isDenied(cls: TrafficClass): boolean {
    return this.#rows.denied.includes(cls);
  }

  /** Whether a rule has ever been against it. */
  wasDenied(cls: TrafficClass): boolean {
    return this.#everDenied.has(cls);
  }

  deny(cls: TrafficClass): void {
    this.#everDenied.add(cls);
    this.#change({ denied: [...this.#rows.denied, cls] });
  }

  allow(cls: TrafficClass): void {
    this.#change({ denied: this.#rows.denied.filter((one) => one !== cls) });
  }

  // ---- rotation of the root

  get rotation(): Rotation | null {
    return this.#rotation;
  }

  /** Another root comes into the bundle beside the one there is: its number. */
  beginRotation(now: number): number {
    const root = Math.max(...this.#rows.roots) + 1;
    this.rotatedAt = now;
    this.#rotation = { beganAt: now, root, phase: 'distributing' };
    this.#change({ roots: [...this.#rows.roots, root] });
    return root;
  }

  /** From now on leaves are issued under it. */
  issueUnderNew(): void {
    if (this.#rotation === null) return;
    this.#rotation = { ...this.#rotation, phase: 'reissuing' };
    this.#change({ issuing: this.#rotation.root });
  }

  /** The old one leaves the bundle. */
  retireOld(): void {
    if (this.#rotation === null) return;
    this.#change({ roots: [this.#rotation.root] });
    this.#rotation = null;
  }

  /** A leaf for this node, under the root under which they are issued now; null: it gets none. */
  reissue(node: string): Leaf | null {
    const number = (entryOf(this.#rows, node)?.leaf ?? Number.NaN) + 1;
    if (Number.isNaN(number)) return null;
    this.#change({ entries: this.#rows.entries.map((entry) => (entry.node === node ? { ...entry, leaf: number } : entry)) });
    this.onReissued();
    return { number, root: this.#rows.issuing };
  }

  #change(rows: Partial<Rows>): void {
    this.#rows = { ...this.#rows, ...rows, version: this.#rows.version + 1 };
  }
}

let lastEncoded: { readonly snapshot: Snapshot; readonly bytes: Uint8Array } | null = null;
let lastDecoded: { readonly text: string; readonly snapshot: Snapshot } | null = null;

/** The same for everybody who is told. */
export function encodeSnapshot(snapshot: Snapshot): Uint8Array {
  if (lastEncoded?.snapshot !== snapshot) lastEncoded = { snapshot, bytes: new TextEncoder().encode(JSON.stringify(snapshot)) };
  return lastEncoded.bytes;
}

/** The same for everybody who hears it. */
export function decodeSnapshot(bytes: Uint8Array): Snapshot {
  const text = new TextDecoder().decode(bytes);
  if (lastDecoded?.text !== text) lastDecoded = { text, snapshot: JSON.parse(text) as Snapshot };
  return lastDecoded.snapshot;
}
