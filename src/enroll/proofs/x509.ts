/**
 * Proof by X.509 challenge (spec 2.2b): the host signs the tower's challenge with the key of a certificate that the tower issued for calling home, or that a CA
 * issued which the operator registered. The certificate only names a grant; what it is good for stands in the tower's record, so that revoking it acts on
 * the very next attempt. The signature is all that crosses the wire: a proxy that ends TLS sees nothing that it could use.
 */
import { createPrivateKey, type KeyObject, sign, verify, X509Certificate } from 'node:crypto';
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { parseCallHomeUri } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import { toBase64 } from '../../identity/base64.ts';
import { verifyCallHome } from '../../identity/call-home-leaf.ts';
import { openCrl } from '../../identity/crl.ts';
import { readFileBounded } from '../../identity/files.ts';
import { type ChainFacts, verifyChain } from '../../native.ts';
import type { Claim, Grant, Proof, ProofContext, ProofMaker, SiteProofs } from '../proof.ts';
import { closed } from '../shapes.ts';
import { base64, bytesOf, CertificateText } from '../wire.ts';
import { HostIdText } from './host-id.ts';

const SIGNATURE_BYTES_MAX = 72;

const Evidence = closed({
  chain: Type.Array(CertificateText, { minItems: 1, maxItems: limits.certificate_chain_certs_max }),
  signature: base64(Math.ceil(SIGNATURE_BYTES_MAX / 3) * 4),
  /** What the host calls itself; a certificate that is bound to a host id is good for that one alone. */
  host: Type.Optional(HostIdText),
});

export const x509Proof: Proof<typeof Evidence> = { kind: 'x509', isBound: true, evidence: Evidence, judge };

/** From narrow to wide: a site that takes one takes those before it. */
const bindings = ['host-id', 'site', 'system-ca'] as const;
export type CallHomeBinding = (typeof bindings)[number];

async function judge(evidence: Static<typeof Evidence>, context: ProofContext): Promise<Claim> {
  const chain = evidence.chain.map((text, index) => bytesOf(text, limits.certificate_bytes_max, `/body/proof/chain/${index}`));
  const signature = bytesOf(evidence.signature, SIGNATURE_BYTES_MAX, '/body/proof/signature');
  // Before anything is looked up: whoever holds no key costs one verification.
  checkSignature(chain, signedText(context.challenge, evidence.host), signature);
  const claim = (await ofTower(chain, context)) ?? (await ofSystem(chain, context));
  const { grant } = claim;
  if (grant.detail.host !== undefined && grant.detail.host !== evidence.host?.toLowerCase())
    throw refused('the certificate is bound to another host id: give the one that it was issued for (--host-id)');
  await checkBinding(grant, context);
  return claim;
}

type GrantClaim = Extract<Claim, { grant: Grant }>;

/** A certificate that the tower issued; null for one that says nothing of the kind. */
async function ofTower(chain: readonly Uint8Array[], { cluster, roots, now_ms, records }: ProofContext): Promise<GrantClaim | null> {
  if (!claimsCallHome(chain[0])) return null;
  const id = guarded(() => verifyCallHome({ chain, roots, cluster, now_ms }));
  const grant = await records.grant('x509', id);
  if (grant === null) throw refused('the certificate is not recorded');
  return { grant, subject: null };
}

/** One of a CA that the operator registered, issued by it directly, so that its revocation list is the one that counts. */
async function ofSystem(chain: readonly Uint8Array[], context: ProofContext): Promise<GrantClaim> {
  const { now_ms, records } = context;
  let why = 'the certificate is of no authority that is known here';
  for (const grant of await records.authorities()) {
    const { certificate } = grant.detail;
    if (certificate === undefined) continue;
    if (!(await isTaken(grant, context))) {
      why = 'certificates of other authorities are not taken where this host asks';
      continue;
    }
    const issuer = new Uint8Array(Buffer.from(certificate, 'base64'));
    let facts: ChainFacts;
    try {
      facts = verifyChain({ chain, roots: [issuer], now_ms, usage: 'client' });
    } catch (error) {
      why = asSelvedgeError(error, 'proof_invalid').message;
      continue;
    }
    if (facts.pathCerts !== 2) throw refused('the certificate was not issued by the registered authority itself');
    if (facts.isCa) throw refused('it is a CA certificate, shown as a host’s');
    if (facts.keyUsage !== null && (facts.keyUsage & DIGITAL_SIGNATURE) === 0) throw refused('the key of the certificate is not for signing');
    await checkCrl(grant, issuer, facts, now_ms);
    // Not its hash: whoever holds it can write its ECDSA signature (r, s) as (r, n - s), and has another certificate by its octets. The serial number is under
    // the signature, and an authority gives each once (RFC 5280, 4.1.2.2).
    return { grant, subject: facts.serial };
  }
  throw refused(why);
}

/** Whether the site takes certificates of an authority, asked before any of its arithmetic. */
async function isTaken(grant: Grant, { site, records }: ProofContext): Promise<boolean> {
  const { allowed, binding } = await records.siteProofs(site ?? grant.site ?? 'default');
  return allowed.includes('x509') && binding === 'system-ca';
}

/** Bit 0 of keyUsage as the native boundary tells it. */
const DIGITAL_SIGNATURE = 1;

/** In PEM, base64 and line ends with it. */
const CRL_FILE_BYTES_MAX = limits.crl_bytes_max * 1.5;

/** A list that is named and cannot be read, or is out of date, lets nobody in. */
async function checkCrl(grant: Grant, issuer: Uint8Array, { serial }: ChainFacts, now_ms: number): Promise<void> {
  const path = grant.detail.crl_file;
  if (path === undefined) return;
  const der = await readFileBounded(path, CRL_FILE_BYTES_MAX).catch(() => null);
  if (der === null) throw refused('the revocation list of its authority cannot be read');
  const crl = guarded(() => openCrl(derOf(der), { issuer, now_ms }));
  if (crl.isRevoked(serial)) throw new SelvedgeError('proof_revoked', { kind: 'x509' });
}

/** DER, also where the file is PEM. */
function derOf(bytes: Uint8Array): Uint8Array {
  const text = Buffer.from(bytes).toString('latin1');
  const body = /-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+)-----END X509 CRL-----/.exec(text)?.[1];
  return body === undefined ? bytes : new Uint8Array(Buffer.from(body, 'base64'));
}

function checkSignature([leaf]: readonly Uint8Array[], text: string, signature: Uint8Array): void {
  const { publicKey } = guarded(() => new X509Certificate(leaf ?? new Uint8Array()));
  if (publicKey.asymmetricKeyType !== 'ec' || !verify('sha256', Buffer.from(text), { key: publicKey, dsaEncoding: 'der' }, signature))
    throw refused('the signature is not of the certificate’s key over this challenge');
}

async function checkBinding(grant: Grant, { site, records }: ProofContext): Promise<void> {
  const { binding } = await records.siteProofs(site ?? grant.site ?? 'default');
  const found = bindingOf(grant);
  if (bindings.indexOf(found) > bindings.indexOf(binding)) throw refused(`the site takes certificates bound to ${binding}, this one is bound to ${found}`);
}

function bindingOf({ detail }: Grant): SiteProofs['binding'] {
  return bindings.find((one) => one === detail.binding) ?? 'host-id';
}

/** Looked at only to choose which authority has to have issued it. */
function claimsCallHome(leaf: Uint8Array | undefined): boolean {
  try {
    const name = new X509Certificate(leaf ?? new Uint8Array()).subjectAltName ?? '';
    return parseCallHomeUri(/^URI:(\S+)$/.exec(name)?.[1] ?? '') !== null;
  } catch {
    throw refused('it is not a certificate in DER');
  }
}

function signedText(challenge: string, host: string | undefined): string {
  return `selvedge call-home 1\n${challenge}\n${host ?? ''}\n`;
}

function guarded<Result>(judged: () => Result): Result {
  try {
    return judged();
  } catch (error) {
    throw refused(asSelvedgeError(error, 'proof_invalid').message, error);
  }
}

function refused(why: string, cause?: unknown): SelvedgeError {
  return new SelvedgeError('proof_invalid', { kind: 'x509', why }, { cause });
}

export interface CallHomeIdentity {
  /** DER, leaf first. */
  readonly chain: readonly Uint8Array[];
  readonly key: KeyObject;
}

/** `host`: what this host calls itself. `done` is called once the node has its identity. */
export function x509Maker({ chain, key }: CallHomeIdentity, { host, done }: { host?: string; done?: () => Promise<void> } = {}): ProofMaker {
  return {
    kind: 'x509',
    isBound: true,
    async make(challenge) {
      if (challenge === null) throw new Error('a bound proof needs a challenge');
      const signature = sign('sha256', Buffer.from(signedText(challenge.digest, host)), { key, dsaEncoding: 'der' });
      return { chain: chain.map(toBase64), signature: toBase64(signature), ...(host !== undefined && { host }) };
    },
    ...(done !== undefined && { done }),
  };
}

/** A file of PEM blocks: one private key and the chain, leaf first. @throws proof_invalid */
export function readCallHomePem(bytes: Uint8Array): CallHomeIdentity {
  const text = Buffer.from(bytes).toString('latin1');
  const blocks = [...text.matchAll(/-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----/g)];
  const chain = blocks.map(([, body = '']) => new Uint8Array(Buffer.from(body, 'base64')));
  if (chain.length < 1 || chain.length > limits.certificate_chain_certs_max)
    throw refused(`its file holds ${chain.length} certificates, 1 to ${limits.certificate_chain_certs_max} expected`);
  const key = guarded(() => createPrivateKey(text));
  const leaf = guarded(() => new X509Certificate(chain[0] ?? ''));
  if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw refused('its key is not of P-256, the only kind accepted');
  if (!leaf.checkPrivateKey(key)) throw refused('its key is not that of its first certificate');
  return { chain, key };
}

/** Whether the tower issued it for calling home: such a one has no use once the node is enrolled. */
export function isOfTower({ chain }: CallHomeIdentity): boolean {
  return claimsCallHome(chain[0]);
}
