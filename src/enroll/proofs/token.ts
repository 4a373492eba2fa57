/** Proof by token (spec 2.2c): whoever knows it may enroll, within its limits. Not bound: it is a bearer's secret, and goes only to a tower that was verified. */
import { type Static, Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { equalBytes } from '../../base/ids.ts';
import { limits } from '../../base/limits.ts';
import type { Claim, Proof, ProofContext, ProofMaker } from '../proof.ts';
import { closed } from '../shapes.ts';
import { readToken } from '../token.ts';

const Evidence = closed({ token: Type.String({ maxLength: limits.token_chars_max }) });

export const tokenProof: Proof<typeof Evidence> = { kind: 'token', isBound: false, evidence: Evidence, judge: judgeToken };

/** @throws token_invalid, wrong_cluster */
export async function judgeToken(
  { token: text }: Static<typeof Evidence>,
  { cluster, records }: Pick<ProofContext, 'cluster' | 'records'>,
): Promise<Extract<Claim, { grant: unknown }>> {
  const token = readToken(text);
  if (token.cluster !== cluster) throw new SelvedgeError('wrong_cluster', { found: token.cluster, expected: cluster });
  const grant = await records.grant('token', token.id);
  // Unknown and wrong read the same from outside.
  const encoder = new TextEncoder();
  if (grant === null || !equalBytes(encoder.encode(grant.hash ?? ''), encoder.encode(token.hash))) {
    throw new SelvedgeError('token_invalid', { why: 'no token of this cluster' });
  }
  return { grant, subject: null };
}

/** @throws token_invalid */
export function tokenMaker(text: string): ProofMaker & { readonly cluster: string } {
  const token = text.trim();
  const { cluster } = readToken(token);
  return { kind: 'token', isBound: false, cluster, make: async () => ({ token }) };
}
