/** The kinds of proof that need nothing but the tower itself; those of platforms come from the tower's configuration. */
import type { Proof } from '../proof.ts';
import { fingerprintProof } from './fingerprint.ts';
import { hostIdProof } from './host-id.ts';
import { tokenProof } from './token.ts';
import { x509Proof } from './x509.ts';

export const ownProofs: readonly Proof[] = [tokenProof, hostIdProof, x509Proof, fingerprintProof] as unknown as readonly Proof[];
