/**
 * Whether a presented chain is an operator's of this cluster: the same path and nearly the same profile as a host's (verify.ts), with a name of another
 * form and the purpose of asking alone. What passes here is never a peer, and what passes there is never an operator.
 */
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes, type OperatorIdentity, parseOperatorUri } from '../base/ids.ts';
import { type ProfileInput, verifyProfile } from './verify.ts';

export interface OperatorInput extends Omit<ProfileInput, 'usage' | 'expectedNode'> {
  /** SHA-256 of each leaf that is this operator's now, the one in use first; or why there is none. */
  readonly recordedFingerprint: (identity: OperatorIdentity) => Promise<Uint8Array | readonly Uint8Array[] | 'unknown' | 'revoked'>;
}

export interface VerifiedOperator {
  readonly operator: string;
  /** SHA-256 of the leaf. */
  readonly fingerprint: Uint8Array;
  readonly notAfter_ms: number;
}

/** @throws certificate_invalid, certificate_revoked, wrong_cluster */
export async function verifyOperator({ recordedFingerprint, ...input }: OperatorInput): Promise<VerifiedOperator> {
  const facts = verifyProfile({ ...input, usage: 'client' }, 'operator');
  const identity = parseOperatorUri(facts.uriNames[0] ?? '');
  if (identity === null) {
    throw new SelvedgeError('certificate_invalid', {
      peer: 'the operator',
      why: `its name '${facts.uriNames[0]}' is not of the form spiffe://CLUSTER/operator/ID`,
    });
  }
  if (identity.cluster !== input.cluster) throw new SelvedgeError('wrong_cluster', { found: identity.cluster, expected: input.cluster });
  const { fingerprint, notAfter_ms } = facts;
  const recorded = await recordedFingerprint(identity);
  const accepted = typeof recorded === 'string' ? [] : recorded instanceof Uint8Array ? [recorded] : recorded;
  if (accepted.some((one) => equalBytes(one, fingerprint))) return { operator: identity.operator, fingerprint, notAfter_ms };
  const why = recorded === 'unknown' ? 'no such operator is recorded' : recorded === 'revoked' ? 'the operator was revoked' : 'another one was issued since';
  throw new SelvedgeError('certificate_revoked', { peer: `operator ${identity.operator}`, why });
}
