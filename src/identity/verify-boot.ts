/**
 * Whether a presented chain is the boot identity of a node: what a host that has started, and cannot open its sealed store yet, shows to be told the key of it.
 * Its private key lies in clear on the host's disk, so it is worth nothing else: a name of a form that no other decision takes, the purpose of asking alone,
 * and the fingerprint that the tower recorded, which is gone the moment the node is revoked. What passes verify.ts never passes here.
 */
import { X509Certificate } from 'node:crypto';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes, type NodeIdentity, parseBootUri } from '../base/ids.ts';
import { type ProfileInput, verifyProfile } from './verify.ts';

/** Fingerprints (SHA-256) of the boot leaves that are this node's now: two while one follows the other. */
export type RecordedBoot = readonly Uint8Array[] | 'unknown' | 'revoked' | 'disabled';

export interface BootInput extends Omit<ProfileInput, 'usage' | 'expectedNode'> {
  readonly recordedBoot: (identity: NodeIdentity) => RecordedBoot | Promise<RecordedBoot>;
}

export interface VerifiedBoot {
  readonly identity: NodeIdentity;
  /** SubjectPublicKeyInfo DER: what the answer is sealed to. */
  readonly publicKey: Uint8Array;
}

/** @throws certificate_invalid, certificate_revoked, peer_disabled, wrong_cluster */
export async function verifyBoot({ recordedBoot, ...input }: BootInput): Promise<VerifiedBoot> {
  const facts = verifyProfile({ ...input, usage: 'client' }, 'boot');
  const uri = facts.uriNames[0] ?? '';
  const identity = parseBootUri(uri);
  if (identity === null) throw new SelvedgeError('certificate_invalid', { peer: 'the node', why: `its name '${uri}' is not of the form ${FORM}` });
  if (identity.cluster !== input.cluster) throw new SelvedgeError('wrong_cluster', { found: identity.cluster, expected: input.cluster });
  const recorded = await recordedBoot(identity);
  if (recorded === 'disabled') throw new SelvedgeError('peer_disabled', { peer: identity.node });
  if (typeof recorded === 'string') throw revoked(identity, recorded === 'unknown' ? 'no such node is recorded here' : 'the node was revoked');
  if (!recorded.some((known) => equalBytes(known, facts.fingerprint))) throw revoked(identity, 'another boot identity was issued since, or none is recorded');
  const leaf = new X509Certificate(input.chain[0] ?? new Uint8Array());
  return { identity, publicKey: new Uint8Array(leaf.publicKey.export({ type: 'spki', format: 'der' })) };
}

const FORM = 'spiffe://CLUSTER/site/SITE/boot/NODE';

function revoked({ node }: NodeIdentity, why: string): SelvedgeError {
  return new SelvedgeError('certificate_revoked', { peer: `boot identity of ${node}`, why });
}
