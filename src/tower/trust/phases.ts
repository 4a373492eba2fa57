/**
 * Which roots the cluster trusts, as a value, and how another one takes the place of the one in use with no split window (spec 9.3): first both are told to everybody
 * (`distributing`), then leaves are issued under the new one to whoever holds both (`reissuing`), then the old one is told of no more. Pure; the store keeps what
 * comes of it, rotation.ts does it.
 */
import { SelvedgeError } from '../../base/errors.ts';

export const trustPhases = ['stable', 'distributing', 'reissuing'] as const;
export type TrustPhase = (typeof trustPhases)[number];

export interface TrustRow {
  /** Of the bundle: grows with each change of `roots`, from 1. */
  readonly version: number;
  readonly phase: TrustPhase;
  /** DER in base64: the root in use first, behind it the one that is to follow. */
  readonly roots: readonly string[];
  /** The root that was in use before, DER in base64; null: there was none. */
  readonly previous: string | null;
  /** Of the nodes that are neither disabled nor revoked: how many have to be ready for what comes next. */
  readonly threshold_percent: number;
  /** When the phase began, milliseconds since the epoch. */
  readonly since_ms: number;
}

const NONE_UNDER_WAY = 'none is under way; begin with `selvedge trust rotate`';

export function firstTrust(root: string, threshold_percent: number, since_ms: number): TrustRow {
  return { version: 1, phase: 'stable', roots: [root], previous: null, threshold_percent, since_ms };
}

/** Another root is told of beside the one in use. @throws rotation_refused while one is under way */
export function rotated(row: TrustRow, next: string, { threshold_percent, at_ms }: { readonly threshold_percent: number; readonly at_ms: number }): TrustRow {
  if (row.phase !== 'stable') throw new SelvedgeError('rotation_refused', { why: `another one is under way (${row.phase}); retire the old root first` });
  return { ...row, version: row.version + 1, phase: 'distributing', roots: [...row.roots, next], threshold_percent, since_ms: at_ms };
}

/** Enough nodes hold both roots: leaves come from the new one. */
export function reissued(row: TrustRow, at_ms: number): TrustRow {
  return row.phase === 'distributing' ? { ...row, phase: 'reissuing', since_ms: at_ms } : row;
}

/** The root that was to follow is told of no more. @throws rotation_refused while none is under way, and once leaves may have been issued under it */
export function abandoned(row: TrustRow, at_ms: number): TrustRow {
  if (row.phase === 'stable') throw new SelvedgeError('rotation_refused', { why: NONE_UNDER_WAY });
  if (row.phase === 'reissuing')
    throw new SelvedgeError('rotation_refused', {
      why: 'certificates are issued under the new root already; go on to `selvedge trust retire`, then rotate again',
    });
  return { ...row, version: row.version + 1, phase: 'stable', roots: row.roots.slice(0, 1), since_ms: at_ms };
}

/** The old root is told of no more. @throws rotation_refused while none is under way */
export function retired(row: TrustRow, at_ms: number): TrustRow {
  const [previous, next] = row.roots;
  if (row.phase === 'stable' || previous === undefined || next === undefined) throw new SelvedgeError('rotation_refused', { why: NONE_UNDER_WAY });
  return { ...row, version: row.version + 1, phase: 'stable', roots: [next], previous, since_ms: at_ms };
}

/** Of none there are enough: a cluster without nodes waits for nobody. */
export function isReached(count: number, all: number, threshold_percent: number): boolean {
  return count * 100 >= all * threshold_percent;
}
