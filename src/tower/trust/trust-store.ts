/** The part of the store that keeps which roots the cluster trusts, and which nodes hold the bundle of them. Part of `Store`. */
import type { By } from '../resources/resource-store.ts';
import type { TrustRow } from './phases.ts';

/** A node that is neither disabled nor revoked. */
export interface TrustMember {
  readonly id: string;
  readonly name: string;
  readonly site: string;
  /** Version of the bundle that it said last it holds; 0: none. */
  readonly holds: number;
  /** DER in base64: the leaf in use, and that of its boot identity, where it has one. */
  readonly leaf: string;
  readonly boot: string | null;
}

/** An operator who can get in. */
export interface TrustOperator {
  readonly id: string;
  readonly name: string;
  /** DER in base64. */
  readonly leaf: string;
}

export interface TrustChange {
  readonly action: 'trust.rotate' | 'trust.reissue' | 'trust.retire' | 'trust.abandon' | 'trust.restore';
  readonly detail: Readonly<Record<string, unknown>>;
  /** What the tower is known by from then on, SHA-256 in hex; absent: as before. */
  readonly cluster?: { readonly rootFingerprint: string; readonly towerFingerprint: string };
}

export interface TrustStore {
  /** Null: nothing was ever changed. */
  get(): Promise<TrustRow | null>;
  /** With its audit row and all that changes with it, in one transaction; it shows in everybody's snapshot. */
  set(row: TrustRow, change: TrustChange, by: By): Promise<void>;
  /** An observation: no version, no audit row. False: that was known. */
  hold(node: string, version: number): Promise<boolean>;
  holds(node: string, version: number): Promise<boolean>;
  /** Of the nodes that are neither disabled nor revoked, how many hold this version or a later one. */
  counts(version: number): Promise<{ readonly nodes: number; readonly holding: number }>;
  /** In the order of their names. */
  members(): Promise<readonly TrustMember[]>;
  operators(): Promise<readonly TrustOperator[]>;
}
