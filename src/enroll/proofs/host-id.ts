/**
 * Proof by pre-registered host id (spec 2.2a): the operator recorded the id, and nobody has used it. An id is no secret (it stands on a label, or can be asked of
 * the hardware), so that this is for networks in which whoever can reach the tower may enroll; a site has to switch it on.
 */
import { type Static, Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Claim, Proof, ProofContext, ProofMaker } from '../proof.ts';
import { closed } from '../shapes.ts';

/** Printable, no spaces: serial numbers, UUIDs, asset tags. */
export const HostIdText = Type.String({ pattern: '^[A-Za-z0-9][A-Za-z0-9._:-]*$', minLength: limits.host_id_chars_min, maxLength: limits.host_id_chars_max });

const Evidence = closed({ host: HostIdText });

export const hostIdProof: Proof<typeof Evidence> = { kind: 'host-id', isBound: false, evidence: Evidence, judge };

async function judge({ host }: Static<typeof Evidence>, { records }: ProofContext): Promise<Claim> {
  const grant = await records.grant('host-id', host.toLowerCase());
  // Whatever is wrong with it, a stranger who tries ids is told the same.
  if (grant === null) throw new SelvedgeError('host_refused');
  return { grant, subject: null };
}

export function hostIdMaker(host: string): ProofMaker {
  return { kind: 'host-id', isBound: false, make: async () => ({ host }) };
}
