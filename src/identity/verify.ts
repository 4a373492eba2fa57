/**
 * The one decision whether a presented chain is acceptable (spec 1.4). Every transport calls `verifyPeer`, and nothing else decides.
 * Passing is necessary, never sufficient: what the peer may do is policy's.
 *
 * The path to a root is rustls-webpki's to judge; then come our profile, the strictness of its encoding, cluster, node, and the recorded fingerprint, in this order.
 * A root's own dates are not judged, as RFC 5280 has it: being in the trust bundle is what makes it trusted, and nothing is issued beyond its end.
 * The peer is the leaf: nothing of its identity is read from another certificate, and no other certificate can satisfy a check.
 */
import { X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes, type NodeIdentity, parseSpiffeUri, TOWER_ID, TOWER_SITE } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { type ChainFacts, verifyChain } from '../native.ts';
import { datesObjection, type KnownPast } from './clock-evidence.ts';
import { formatFingerprint } from './fingerprint.ts';
import { intermediateObjection, type LeafKind, leafObjection, PATH_CERTS } from './profile.ts';
import { encodingObjection } from './strict-der.ts';

/**
 * What the directory has recorded for a node: the fingerprint of its leaf (several while it is being renewed, the one in use first), or why there is none;
 * `any` where none is recorded yet.
 */
export type RecordedFingerprint = Uint8Array | readonly [Uint8Array, ...Uint8Array[]] | 'unknown' | 'revoked' | 'disabled' | 'any';

export interface VerifyInput {
  /** DER, leaf first, as the peer presented it; the root may follow. Possession of the leaf's key is the transport's to prove. */
  readonly chain: readonly Uint8Array[];
  /** DER of the current trust bundle. */
  readonly roots: readonly Uint8Array[];
  readonly cluster: string;
  /** Since the Unix epoch. */
  readonly now_ms: number;
  /** The role that the peer plays in the handshake. */
  readonly usage: 'client' | 'server';
  readonly expectedNode?: string;
  readonly expectedSite?: string;
  readonly recordedFingerprint?: (identity: NodeIdentity) => RecordedFingerprint;
  /** For the words of a refusal: a time that has passed for sure. */
  readonly knownPast?: KnownPast;
}

export type ProfileInput = Pick<VerifyInput, 'chain' | 'roots' | 'cluster' | 'now_ms' | 'usage' | 'expectedNode' | 'knownPast'>;

export interface VerifiedPeer {
  readonly identity: NodeIdentity;
  /** SHA-256 of the leaf. */
  readonly fingerprint: Uint8Array;
  /** SHA-256 of its public key: stays when a certificate is renewed for the same key. */
  readonly spkiHash: Uint8Array;
  /** Hexadecimal. */
  readonly serial: string;
  readonly notBefore_ms: number;
  readonly notAfter_ms: number;
}

/** @throws certificate_invalid, certificate_revoked, peer_disabled, wrong_cluster, wrong_node */
export function verifyPeer(input: VerifyInput): VerifiedPeer {
  const facts = verifyProfile(input, 'host');
  const identity = identityOf(input, facts);
  checkExpectations(input, identity);
  checkRecorded(input, identity, facts.fingerprint);
  const { fingerprint, spkiHash, serial, notBefore_ms, notAfter_ms } = facts;
  return { identity, fingerprint, spkiHash, serial, notBefore_ms, notAfter_ms };
}

/**
 * What every decision about a chain begins with, whatever the form of the name in it: the path to a root, and our profile. It says nothing of whose chain it
 * is; `verifyPeer` does for hosts, verify-operator.ts for operators, and neither takes the other's.
 * @throws certificate_invalid, wrong_cluster
 */
export function verifyProfile(input: ProfileInput, kind: LeafKind): ChainFacts {
  const facts = checkPath(input);
  const objection = leafObjection(facts, kind) ?? leafEncoding(input.chain[0] ?? NO_BYTES) ?? shapeObjection(input, facts);
  if (objection !== null) throw invalid(input, objection);
  return facts;
}

const NO_BYTES = new Uint8Array();

/**
 * What is a matter of a certificate's octets alone is judged once of each array that a peer showed: a host judges the same ones again every minute, for each of its channels.
 * Nobody writes into such an array. The path, dates, roots and what is recorded are judged each time.
 */
function oncePerArray(judge: (der: Uint8Array) => string | null): (der: Uint8Array) => string | null {
  const judged = new WeakMap<Uint8Array, string | null>();
  return (der) => {
    const known = judged.get(der);
    if (known !== undefined) return known;
    const objection = judge(der);
    judged.set(der, objection);
    return objection;
  };
}

const leafEncoding = oncePerArray(encodingObjection);
const intermediateShape = oncePerArray(intermediateObjection);

function checkPath(input: ProfileInput): ChainFacts {
  try {
    return verifyChain(input);
  } catch (error) {
    if (error instanceof SelvedgeError && error.code === 'certificate_invalid') throw explain(input, String(error.facts.why));
    throw error;
  }
}

/** The chain is leaf, intermediate, perhaps root: nothing beside the path, so that it is known which certificates were judged. */
function shapeObjection({ chain, roots }: ProfileInput, { pathCerts }: ChainFacts): string | null {
  const [, intermediate, root, ...surplus] = chain;
  if (pathCerts !== PATH_CERTS || intermediate === undefined) return `its path to the root has ${pathCerts} certificates, expected leaf, intermediate and root`;
  if (surplus.length > 0 || (root !== undefined && !roots.some((trusted) => equalBytes(trusted, root))))
    return 'it comes with certificates that are not of its path';
  return intermediateShape(intermediate);
}

function identityOf(input: VerifyInput, { uriNames }: ChainFacts): NodeIdentity {
  const uri = uriNames[0] ?? '';
  const identity = parseSpiffeUri(uri);
  if (identity === null) throw invalid(input, `its name '${uri}' is not of the form spiffe://CLUSTER/site/SITE/node/NODE`);
  if ((identity.node === TOWER_ID) !== (identity.site === TOWER_SITE))
    throw invalid(input, `its name '${uri}' puts node ${identity.node} at site ${identity.site}`);
  return identity;
}

function checkExpectations({ cluster, expectedNode, expectedSite }: VerifyInput, identity: NodeIdentity): void {
  if (identity.cluster !== cluster) throw new SelvedgeError('wrong_cluster', { found: identity.cluster, expected: cluster });
  if (expectedNode !== undefined && identity.node !== expectedNode) throw new SelvedgeError('wrong_node', { found: identity.node, expected: expectedNode });
  if (expectedSite !== undefined && identity.site !== expectedSite) {
    throw new SelvedgeError('wrong_node', { found: `${identity.node} of site ${identity.site}`, expected: `one of site ${expectedSite}` });
  }
}

function checkRecorded({ recordedFingerprint }: VerifyInput, identity: NodeIdentity, fingerprint: Uint8Array): void {
  if (recordedFingerprint === undefined) return;
  const recorded = recordedFingerprint(identity);
  if (recorded === 'any') return;
  if (typeof recorded !== 'string' && listOf(recorded).some((one) => equalBytes(one, fingerprint))) return;
  if (recorded === 'disabled') throw new SelvedgeError('peer_disabled', { peer: identity.node });
  throw new SelvedgeError('certificate_revoked', { peer: identity.node, why: revokedWhy(recorded, fingerprint) });
}

function revokedWhy(recorded: Exclude<RecordedFingerprint, 'any' | 'disabled'>, found: Uint8Array): string {
  if (recorded === 'revoked') return 'the node was revoked';
  if (recorded === 'unknown') return 'no such node is recorded for this one to talk to';
  return `it has ${formatFingerprint(found)}, recorded is ${listOf(recorded).map(formatFingerprint).join(' and ')}`;
}

function listOf(recorded: Exclude<RecordedFingerprint, string>): readonly Uint8Array[] {
  return recorded instanceof Uint8Array ? [recorded] : recorded;
}

/**
 * The refusal of a chain that does not lead to a root, in words that help most: what the leaf says of itself is looked at only here,
 * after the decision, and never makes anything acceptable.
 */
function explain(input: ProfileInput, why: string): SelvedgeError {
  const claim = readClaim(input.chain[0]);
  if (claim === null) return invalid(input, why);
  if (claim.identity !== null && claim.identity.cluster !== input.cluster) {
    return new SelvedgeError('wrong_cluster', { found: claim.identity.cluster, expected: input.cluster, why });
  }
  const dates = datesObjection(input.now_ms, claim, input.knownPast ?? null);
  return dates === null ? invalid(input, why) : invalid(input, dates.why, dates.what);
}

interface Claim {
  readonly identity: NodeIdentity | null;
  readonly notBefore_ms: number;
  readonly notAfter_ms: number;
}

function readClaim(leaf: Uint8Array | undefined): Claim | null {
  if (leaf === undefined || leaf.length > limits.certificate_bytes_max) return null;
  try {
    const certificate = new X509Certificate(leaf);
    const uri = /^URI:(\S+)$/.exec(certificate.subjectAltName ?? '')?.[1] ?? '';
    return { identity: parseSpiffeUri(uri), notBefore_ms: certificate.validFromDate.getTime(), notAfter_ms: certificate.validToDate.getTime() };
  } catch {
    return null;
  }
}

function invalid({ expectedNode }: Pick<VerifyInput, 'expectedNode'>, why: string, what?: string): SelvedgeError {
  return new SelvedgeError('certificate_invalid', { peer: expectedNode ?? 'the peer', why, ...(what !== undefined && { what }) });
}
