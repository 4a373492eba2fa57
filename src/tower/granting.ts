/** What an operator may grant, checked: the tower's rules for tokens and the other grants, before they become rows. */
import { SelvedgeError } from '../base/errors.ts';
import { checkLabel, TOWER_SITE } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import type { Grant } from '../enroll/proof.ts';
import { makeToken } from '../enroll/token.ts';
import type { NewGrant } from './proof-store.ts';
import { parseSubnet } from './subnet.ts';

/** A grant as it may be shown. */
export type GrantView = Omit<Grant, 'hash'>;

export function grantView({ hash: _hash, ...shown }: Grant): GrantView {
  return shown;
}

export interface TokenRequest {
  readonly uses: number;
  readonly life_ms: number;
  readonly site?: string;
  readonly tenant?: string | null;
  /** `enroll` unless told. */
  readonly purpose?: 'enroll' | 'preflight';
  /** Networks (CIDR) from which it may be used. */
  readonly sources?: readonly string[];
}

/** @throws argument_invalid */
export function newToken(cluster: string, request: TokenRequest, { now_ms, random }: { now_ms: number; random: Random }): { text: string; grant: NewGrant } {
  const { uses, life_ms, site, tenant = null, purpose = 'enroll' } = request;
  const expires_ms = Math.floor(now_ms + checkLife(life_ms));
  const usesMax = checkUses(uses);
  const sources = readSources(request.sources ?? []);
  if (tenant !== null) checkLabel('tenant', tenant);
  if (site !== undefined) checkSite(site);
  const { id, hash, text } = makeToken({ cluster, tenant, purpose, usesMax, expires_ms, sources }, random);
  const grant = { kind: 'token' as const, id, hash, tenant, site: site ?? null, name: null, node: null, purpose, usesMax, sources, detail: {}, expires_ms };
  return { text, grant };
}

/** @throws argument_invalid */
export function checkSite(site: string): string {
  checkLabel('site', site);
  if (site === TOWER_SITE) throw new SelvedgeError('argument_invalid', { name: 'site', why: `'${TOWER_SITE}' is the tower's own` });
  return site;
}

function checkLife(life_ms: number): number {
  if (life_ms > 0 && life_ms <= limits.token_life_ms_max) return life_ms;
  throw new SelvedgeError('argument_invalid', { name: 'expires', why: 'between now and a year from now' });
}

function checkUses(uses: number): number {
  if (Number.isInteger(uses) && uses >= 1 && uses <= limits.token_uses_max) return uses;
  throw new SelvedgeError('argument_invalid', { name: 'uses', why: `1 to ${limits.token_uses_max}` });
}

/** In the one spelling, each once. @throws argument_invalid */
export function readSources(texts: readonly string[]): string[] {
  const networks = texts.map((text) => {
    const network = parseSubnet(text);
    if (network !== null && typeof network !== 'string') return network.text;
    const why = network === null ? 'is no network such as 192.0.2.0/24 or 2001:db8::/32' : `has bits set behind its prefix; do you mean ${network}?`;
    throw new SelvedgeError('argument_invalid', { name: 'from', why: `'${text}' ${why}` });
  });
  const distinct = [...new Set(networks)];
  if (distinct.length > limits.grant_sources_max)
    throw new SelvedgeError('argument_invalid', { name: 'from', why: `at most ${limits.grant_sources_max} networks` });
  return distinct;
}
