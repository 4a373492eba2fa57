/**
 * What the simulated tower knows and tells: who is there, which leaf is recorded for whom, who is revoked. A stand-in for rows and signed snapshots, which
 * have tests of their own; here it is about what channels do when what is known changes, late or not at all.
 */
import type { NodeIdentity } from '../../base/ids.ts';
import { SelvedgeError } from '../../base/errors.ts';
import type { VerifiedPeer } from '../../identity/verify.ts';

export interface Entry {
  readonly node: string;
  readonly site: string;
  /** Number of the leaf that is recorded; null: revoked. */
  readonly leaf: number | null;
}

export interface Snapshot {
  readonly version: number;
  readonly entries: readonly Entry[];
}

const CLUSTER = 'sim';
const DAY_MS = 86_400_000;

export const TOWER: NodeIdentity = { cluster: CLUSTER, site: 'tower', node: 'tower' };

export function identityOf(number: number, sites: number): NodeIdentity {
  return { cluster: CLUSTER, site: `site${number % sites}`, node: `0000000${number.toString(16).padStart(5, '0')}` };
}

/** Short, for transcripts. */
export function shortName(node: string): string {
  return node === TOWER.node ? node : `n${Number.parseInt(node, 16)}`;
}

/** A chain as sessions in memory show it: who, and the number of the leaf. */
export function chainOf({ site, node }: NodeIdentity, leaf: number): readonly Uint8Array[] {
  return [new TextEncoder().encode(`${site}/${node}/${leaf}`)];
}

/** What `verifyPeer` decides, of such a chain. @throws certificate_revoked, wrong_node */
export function judgeChain(chain: readonly Uint8Array[], snapshot: Snapshot, expected: string | null): VerifiedPeer {
  const [site = '', node = '', leaf = ''] = new TextDecoder().decode(chain[0]).split('/');
  if (expected !== null && node !== expected) throw new SelvedgeError('wrong_node', { found: node, expected });
  const recorded = node === TOWER.node ? Number(leaf) : snapshot.entries.find((entry) => entry.node === node)?.leaf;
  if (recorded !== Number(leaf)) throw new SelvedgeError('certificate_revoked', { peer: node, why: `leaf ${leaf}, recorded is ${recorded ?? 'none'}` });
  const fingerprint = new Uint8Array(32);
  new DataView(fingerprint.buffer).setUint32(0, Number(leaf));
  return { identity: { cluster: CLUSTER, site, node }, fingerprint, spkiHash: fingerprint, serial: leaf, notBefore_ms: 0, notAfter_ms: 30 * DAY_MS };
}

/** Rows change here; each change is a version. */
export class Directory {
  #snapshot: Snapshot;
  readonly #revokedAt = new Map<string, number>();

  constructor(identities: readonly NodeIdentity[]) {
    this.#snapshot = { version: 1, entries: identities.map(({ node, site }) => ({ node, site, leaf: 1 })) };
  }

  get snapshot(): Snapshot {
    return this.#snapshot;
  }

  /** When a node was revoked; null: it is not. */
  revokedAt(node: string): number | null {
    return this.#revokedAt.get(node) ?? null;
  }

  revoke(node: string, now: number): void {
    this.#revokedAt.set(node, now);
    this.#change(node, null);
  }

  renew(node: string, leaf: number): void {
    this.#change(node, leaf);
  }

  #change(node: string, leaf: number | null): void {
    const { version, entries } = this.#snapshot;
    this.#snapshot = { version: version + 1, entries: entries.map((entry) => (entry.node === node ? { ...entry, leaf } : entry)) };
  }
}
