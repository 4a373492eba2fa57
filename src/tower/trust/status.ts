/** How far a rotation is: the roots, how many nodes and operators have followed, and who has not. Pure but for reading certificates. */
import { X509Certificate } from 'node:crypto';
import { limits } from '../../base/limits.ts';
import { fromBase64 } from '../../identity/base64.ts';
import { fingerprint, formatFingerprint } from '../../identity/fingerprint.ts';
import { lifetimeOf } from '../../identity/lifetime.ts';
import { isReached, type TrustPhase, type TrustRow } from './phases.ts';
import type { TrustMember, TrustOperator } from './trust-store.ts';

export interface TrustStatus {
  readonly phase: TrustPhase;
  readonly since_ms: number;
  /** Of the bundle. */
  readonly version: number;
  readonly threshold_percent: number;
  readonly roots: readonly { readonly role: 'current' | 'next'; readonly fingerprint: string; readonly not_before_ms: number; readonly not_after_ms: number }[];
  /** Neither disabled nor revoked; those of them that hold the bundle, and those that need nothing of the old root any more. */
  readonly nodes: { readonly enabled: number; readonly holding: number; readonly ready: number };
  readonly operators: { readonly enabled: number; readonly ready: number };
  /** Whether the old root can be retired without force. */
  readonly is_ready: boolean;
  readonly missing: Missing;
}

/** Whom retiring the old root now would cut off: the first of them by name, and how many they are. */
export interface Missing {
  readonly nodes: readonly { readonly id: string; readonly name: string; readonly site: string; readonly why: Lack }[];
  readonly nodes_total: number;
  readonly operators: readonly { readonly id: string; readonly name: string }[];
  readonly operators_total: number;
}

/** What a node lacks: the bundle with the new root, a certificate under it, or a boot identity under it. */
export const lacks = ['bundle', 'certificate', 'boot'] as const;
export type Lack = (typeof lacks)[number];

export interface StatusInput {
  readonly row: TrustRow;
  /** DER of the intermediate under the root that is to follow; null: none is. */
  readonly next: Uint8Array | null;
  readonly members: readonly TrustMember[];
  readonly operators: readonly TrustOperator[];
}

export function trustStatus({ row, next, members, operators }: StatusInput): TrustStatus {
  const isUnderNext = next === null ? () => true : under(next);
  const lacking = members.flatMap(({ id, name, site, holds, leaf, boot }) => {
    const why: Lack | null =
      holds < row.version && next !== null ? 'bundle' : !isUnderNext(leaf) ? 'certificate' : boot !== null && !isUnderNext(boot) ? 'boot' : null;
    return why === null ? [] : [{ id, name, site, why }];
  });
  const late = operators.filter(({ leaf }) => !isUnderNext(leaf)).map(({ id, name }) => ({ id, name }));
  const { phase, since_ms, version, threshold_percent } = row;
  const ready = members.length - lacking.length;
  return {
    phase,
    since_ms,
    version,
    threshold_percent,
    roots: row.roots.map((text, index) => rootFacts(text, index === 0 ? 'current' : 'next')),
    nodes: { enabled: members.length, holding: members.filter(({ holds }) => holds >= version).length, ready },
    operators: { enabled: operators.length, ready: operators.length - late.length },
    is_ready: phase === 'reissuing' && isReached(ready, members.length, threshold_percent) && late.length === 0,
    missing: {
      nodes: lacking.slice(0, limits.trust_missing_listed_max),
      nodes_total: lacking.length,
      operators: late.slice(0, limits.trust_missing_listed_max),
      operators_total: late.length,
    },
  };
}

/** In words, for a refusal. */
export function missingText({ nodes, nodes_total, operators, operators_total }: Missing): string {
  const named = (all: readonly { readonly name: string }[], total: number) => {
    const names = all.slice(0, NAMED_MAX).map(({ name }) => name);
    return `${names.join(', ')}${total > names.length ? ` and ${total - names.length} more` : ''}`;
  };
  const parts = [
    ...(nodes_total === 0 ? [] : [`nodes ${named(nodes, nodes_total)}`]),
    ...(operators_total === 0 ? [] : [`operators ${named(operators, operators_total)}`]),
  ];
  return parts.length === 0 ? 'nobody would be cut off' : `it would cut off ${parts.join('; ')}`;
}

const NAMED_MAX = 5;

/** By name and key identifier alone: what is asked about was issued here. */
function under(intermediate: Uint8Array): (leaf: string) => boolean {
  const issuer = new X509Certificate(intermediate);
  return (leaf) => new X509Certificate(Buffer.from(leaf, 'base64')).checkIssued(issuer);
}

function rootFacts(text: string, role: 'current' | 'next') {
  const der = fromBase64(text, limits.certificate_bytes_max) ?? new Uint8Array();
  const { notBefore_ms, notAfter_ms } = lifetimeOf(der);
  return { role, fingerprint: formatFingerprint(fingerprint(der)), not_before_ms: notBefore_ms, not_after_ms: notAfter_ms };
}
