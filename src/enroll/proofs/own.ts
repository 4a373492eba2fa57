/** The kinds of proof that need nothing but the tower itself; those of platforms come from the tower's configuration. */
import type { Proof } from '../proof.ts';
import { tokenProof } from './token.ts';

export const ownProofs: readonly Proof[] = [tokenProof as unknown as Proof];
