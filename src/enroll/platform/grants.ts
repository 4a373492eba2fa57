/**
 * What an operator records of hosts at a platform, and which record an identity comes under. A record names facts and what each must
 * be; all of them must hold. Of several the most specific decides alone, so that revoking the record of one host shuts it out even where a
 * wider one would take it; of equals the newest.
 */
import { SelvedgeError } from '../../base/errors.ts';
import type { Grant, ProofContext } from '../proof.ts';

export type PlatformKind = 'aws' | 'google' | 'kubernetes';

/** Who the platform says it is. */
export interface PlatformIdentity {
  /** The one machine or workload: within a record it enrolls once. */
  readonly subject: string;
  /** By the names of `platformFacts`; one that the platform did not tell is absent, and matches nothing. */
  readonly facts: Readonly<Record<string, string | undefined>>;
}

interface FactRule {
  readonly pattern: RegExp;
  /** Whether `*` may stand for any characters. */
  readonly wild?: boolean;
}

interface KindRules {
  readonly facts: Readonly<Record<string, FactRule>>;
  /** At least one of each group must be named: less would take in hosts of strangers. */
  readonly needed: readonly (readonly string[])[];
}

const NAME = /^[A-Za-z0-9_+=,.@:/-]{1,256}$/;
const LABEL = /^[a-z0-9][a-z0-9.-]{0,252}$/;
const DIGITS = /^[0-9]{1,20}$/;

export const platformFacts: Readonly<Record<PlatformKind, KindRules>> = {
  aws: {
    facts: {
      account: { pattern: /^[0-9]{12}$/ },
      role: { pattern: NAME, wild: true },
      user: { pattern: NAME, wild: true },
      instance: { pattern: NAME },
      id: { pattern: /^[A-Z0-9]{16,128}$/ },
    },
    needed: [['account'], ['role', 'user']],
  },
  google: {
    facts: {
      project: { pattern: /^[a-z0-9.:-]{1,256}$/ },
      zone: { pattern: LABEL, wild: true },
      instance: { pattern: DIGITS },
      name: { pattern: LABEL, wild: true },
      account: { pattern: /^[A-Za-z0-9.@-]{1,256}$/ },
    },
    needed: [['project']],
  },
  kubernetes: {
    facts: {
      issuer: { pattern: /^https:\/\/[\x21-\x7e]{1,248}$/ },
      namespace: { pattern: LABEL },
      account: { pattern: LABEL },
      pod: { pattern: /^[0-9a-f-]{36}$/ },
      node: { pattern: LABEL, wild: true },
    },
    needed: [['issuer'], ['namespace'], ['account']],
  },
};

/** The facts of a new record. @throws argument_invalid */
export function checkFacts(kind: PlatformKind, facts: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  const { facts: rules, needed } = platformFacts[kind];
  for (const [name, value] of Object.entries(facts)) {
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    if (rule === undefined) throw new SelvedgeError('argument_invalid', { name, why: `${kind} has no such fact; it has ${Object.keys(rules).join(', ')}` });
    const text = rule.wild ? value.replaceAll('*', 'x') : value;
    if (!rule.pattern.test(text))
      throw new SelvedgeError('argument_invalid', { name, why: `'${value}' cannot be one${rule.wild ? '' : ' (it must be exact)'}` });
  }
  for (const group of needed) {
    if (group.some((name) => Object.hasOwn(facts, name))) continue;
    throw new SelvedgeError('argument_invalid', { name: group[0] ?? '', why: `a record of ${kind} must name ${group.join(' or ')}` });
  }
  return facts;
}

/** The record that decides. @throws platform_unmatched */
export async function grantFor(kind: PlatformKind, identity: PlatformIdentity, { records, site }: Pick<ProofContext, 'records' | 'site'>): Promise<Grant> {
  const matching = (await records.grants(kind)).filter((grant) => matches(kind, grant, identity));
  const here = matching.filter((grant) => site === null || grant.site === null || grant.site === site);
  const [first] = (here.length > 0 ? here : matching).toSorted(bySpecificity);
  if (first === undefined) throw new SelvedgeError('platform_unmatched', { kind, subject: identity.subject });
  return first;
}

function matches(kind: PlatformKind, { detail }: Grant, { facts }: PlatformIdentity): boolean {
  const { facts: rules, needed } = platformFacts[kind];
  const wanted = Object.entries(detail);
  if (!needed.every((group) => group.some((name) => Object.hasOwn(detail, name)))) return false;
  return wanted.every(([name, pattern]) => {
    // A fact that this version does not know cannot be shown to hold.
    const rule = Object.hasOwn(rules, name) ? rules[name] : undefined;
    const found = facts[name];
    if (rule === undefined || found === undefined) return false;
    return rule.wild ? matchesWild(pattern, found) : found === pattern;
  });
}

/** `*` stands for any characters; time grows with the length of both only. */
export function matchesWild(pattern: string, text: string): boolean {
  const [head = '', ...rest] = pattern.split('*');
  const tail = rest.pop();
  if (tail === undefined) return pattern === text;
  if (!text.startsWith(head) || !text.endsWith(tail) || text.length < head.length + tail.length) return false;
  const end = text.length - tail.length;
  let at = head.length;
  for (const piece of rest) {
    const found = text.indexOf(piece, at);
    if (found < 0 || found + piece.length > end) return false;
    at = found + piece.length;
  }
  return true;
}

function bySpecificity(one: Grant, other: Grant): number {
  const exact = ({ detail }: Grant) => Object.values(detail).filter((value) => !value.includes('*')).length;
  const named = ({ detail }: Grant) => Object.keys(detail).length;
  return named(other) - named(one) || exact(other) - exact(one) || other.created_ms - one.created_ms || (one.id < other.id ? -1 : 1);
}
