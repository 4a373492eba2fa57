/** What an operator may grant, checked: the tower's rules for tokens, hosts and call-home certificates, before they become rows. */
import { X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../../base/errors.ts';
import { checkLabel, TOWER_SITE, toHex } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Random } from '../../base/seam.ts';
import type { Grant } from '../../enroll/proof.ts';
import { makeToken } from '../../enroll/token.ts';
import { toBase64 } from '../../identity/base64.ts';
import { fingerprint } from '../../identity/fingerprint.ts';
import type { NewGrant } from '../store/proof-store.ts';
import { parseSubnet } from '../app/subnet.ts';

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

export interface HostRequest {
  readonly id: string;
  readonly site?: string;
  readonly tenant?: string | null;
  /** Of the node that it becomes. */
  readonly name?: string;
  /** For ever, unless told. */
  readonly life_ms?: number;
  readonly sources?: readonly string[];
}

/** @throws argument_invalid */
export function newHost(request: HostRequest, now_ms: number): NewGrant {
  const { life_ms, tenant = null } = request;
  // Labels and hardware spell an id in either case.
  const id = checkHostId(request.id).toLowerCase();
  const expires_ms = life_ms === undefined ? null : Math.floor(now_ms + checkLife(life_ms));
  return { kind: 'host-id', id, ...settled({ ...request, tenant }, 1), expires_ms, detail: {} };
}

export interface CallHomeRequest {
  /** What it is bound to: one host, or a site. */
  readonly binding?: 'host-id' | 'site';
  /** The host's id; for binding `host-id`. */
  readonly host?: string;
  readonly site?: string;
  readonly tenant?: string | null;
  readonly name?: string;
  readonly days?: number;
  /** How many nodes; 1 unless told, and for binding `host-id` always. */
  readonly uses?: number;
  readonly sources?: readonly string[];
}

export const CALL_HOME_DAYS = 30;

/** @throws argument_invalid */
export function newCallHome(id: string, request: CallHomeRequest, expires_ms: number): NewGrant {
  const { binding = 'host-id', host, tenant = null, uses = 1 } = request;
  const usesMax = checkUses(uses);
  if (binding === 'host-id' && host === undefined)
    throw new SelvedgeError('argument_invalid', { name: 'host-id', why: 'a certificate of this binding is for one host' });
  if (binding === 'host-id' && usesMax !== 1)
    throw new SelvedgeError('argument_invalid', { name: 'uses', why: 'a certificate that is bound to a host is for one node' });
  if (binding === 'site' && request.site === undefined)
    throw new SelvedgeError('argument_invalid', { name: 'site', why: 'a certificate of this binding is for one site' });
  const detail = { binding, ...(host !== undefined && { host: checkHostId(host).toLowerCase() }) };
  return { kind: 'x509', id, ...settled({ ...request, tenant }, usesMax), expires_ms, detail };
}

export interface AuthorityRequest {
  /** DER of a CA certificate that issues certificates to hosts. */
  readonly certificate: Uint8Array;
  /** File with its revocation list, read at each attempt. */
  readonly crlFile?: string;
  readonly site?: string;
  readonly tenant?: string | null;
  readonly uses?: number;
  readonly sources?: readonly string[];
}

/** @throws argument_invalid */
export function newAuthority(request: AuthorityRequest): NewGrant {
  const { certificate, crlFile, tenant = null, uses = limits.token_uses_max } = request;
  const parsed = readAuthority(certificate);
  const crl = crlFile === undefined ? {} : { crl_file: crlFile };
  const detail = { binding: 'system-ca', subject: parsed.subject.replace(/\n/g, ', ').slice(0, 200), certificate: toBase64(certificate), ...crl };
  const id = toHex(fingerprint(certificate).subarray(0, 6));
  return { kind: 'x509', id, ...settled({ ...request, tenant }, checkUses(uses)), expires_ms: parsed.validToDate.getTime(), detail };
}

function readAuthority(der: Uint8Array): X509Certificate {
  const refuse = (why: string) => new SelvedgeError('argument_invalid', { name: 'ca', why });
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(der);
  } catch {
    throw refuse('it is not a certificate');
  }
  if (!certificate.ca) throw refuse('it is not a CA certificate');
  if (certificate.publicKey.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw refuse('its key is not of P-256, the only kind that is judged here');
  return certificate;
}

interface Settled {
  readonly site?: string;
  readonly tenant: string | null;
  readonly name?: string;
  readonly sources?: readonly string[];
}

/** What is checked alike for all but tokens. */
function settled({ site, tenant, name, sources = [] }: Settled, usesMax: number) {
  if (site !== undefined) checkSite(site);
  if (tenant !== null) checkLabel('tenant', tenant);
  if (name !== undefined) checkLabel('name', name);
  if (name !== undefined && usesMax !== 1) throw new SelvedgeError('argument_invalid', { name: 'name', why: 'only what is for one node can name it' });
  return { hash: null, tenant, site: site ?? null, name: name ?? null, node: null, purpose: 'enroll' as const, usesMax, sources: readSources(sources) };
}

function checkHostId(text: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._:-]*$/.test(text) && text.length >= limits.host_id_chars_min && text.length <= limits.host_id_chars_max) return text;
  const why = `'${text}' is not an id: ${limits.host_id_chars_min} to ${limits.host_id_chars_max} letters, digits and . _ : - of ASCII`;
  throw new SelvedgeError('argument_invalid', { name: 'host id', why });
}
