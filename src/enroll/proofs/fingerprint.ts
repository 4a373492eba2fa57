/**
 * Proof by fingerprint, for hosts that return (spec 2.2d): machine id and network cards are those of a node that is known, and it comes from where that was, or
 * has an address that it had. It gives back which node this is and of which tenant. A certificate it gives only for the key that the tower knows of that
 * node (the way back for a host whose certificate has expired), or where the site says that a fingerprint is enough for a new key.
 */
import { createHash, createPublicKey, verify } from 'node:crypto';
import type { Static } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { toBase64 } from '../../identity/base64.ts';
import type { Claim, HostFacts, KnownNode, Proof, ProofContext, ProofMaker } from '../proof.ts';
import { closed } from '../shapes.ts';
import { base64, bytesOf, HostFactsSchema } from '../wire.ts';

const SIGNATURE_BYTES_MAX = 72;
const Evidence = closed({ host: HostFactsSchema, signature: base64(Math.ceil(SIGNATURE_BYTES_MAX / 3) * 4) });

export const fingerprintProof: Proof<typeof Evidence> = { kind: 'fingerprint', isBound: true, evidence: Evidence, judge };

async function judge({ host, signature: text }: Static<typeof Evidence>, context: ProofContext): Promise<Claim> {
  const signature = bytesOf(text, SIGNATURE_BYTES_MAX, '/body/proof/signature');
  checkSignature(host, signature, context);
  const node = theOne(await matches(host, context), context);
  if (node.isRevoked) throw new SelvedgeError('proof_revoked', { kind: 'fingerprint' });
  if (node.spkiHashes.includes(spkiHashOf(context))) return { returning: node };
  const { newKeys } = await context.records.siteProofs(node.site);
  if (!newKeys) throw new SelvedgeError('key_unseen', { node: node.id, tenant: node.tenant ?? 'of its site' });
  return { returning: node };
}

async function matches(host: HostFacts, { peer, records }: ProofContext): Promise<readonly KnownNode[]> {
  const known = await records.nodesOfMachine(host.machine);
  return known.filter(
    ({ facts, peer: before }) => facts.macs === host.macs && (before === peer || facts.addresses.some((one) => host.addresses.includes(one))),
  );
}

/** Cloned hosts look alike: then only the key tells which of them this is. */
function theOne(found: readonly KnownNode[], context: ProofContext): KnownNode {
  const key = spkiHashOf(context);
  const live = found.filter(({ isRevoked }) => !isRevoked);
  const [first, second] = live.length > 0 ? live : found;
  if (first === undefined) throw new SelvedgeError('host_unknown');
  const own = found.find(({ spkiHashes }) => spkiHashes.includes(key));
  if (own === undefined && second !== undefined && live.length > 0)
    throw new SelvedgeError('proof_invalid', { kind: 'fingerprint', why: 'more than one node has this fingerprint' });
  return own ?? first;
}

function spkiHashOf({ publicKey }: ProofContext): string {
  return createHash('sha256').update(publicKey).digest('hex');
}

/** By the key of the request itself: so that nobody can lay what a host said elsewhere under a request of his own. */
function checkSignature(host: HostFacts, signature: Uint8Array, { challenge, publicKey }: ProofContext): void {
  const key = createPublicKey({ key: Buffer.from(publicKey), format: 'der', type: 'spki' });
  if (verify('sha256', signedBytes(challenge, host), { key, dsaEncoding: 'der' }, signature)) return;
  throw new SelvedgeError('proof_invalid', { kind: 'fingerprint', why: 'its signature is not of the request’s key over this challenge' });
}

function signedBytes(challenge: string, { machine, macs, addresses }: HostFacts): Uint8Array {
  return Buffer.from(`selvedge returning host 1\n${challenge}\n${machine}\n${macs}\n${addresses.join(',')}\n`);
}

export function fingerprintMaker(facts: HostFacts): ProofMaker {
  const host = { ...facts, addresses: [...facts.addresses] };
  return {
    kind: 'fingerprint',
    isBound: true,
    async make(challenge) {
      if (challenge === null) throw new Error('a bound proof needs a challenge');
      return { host, signature: toBase64(challenge.sign(signedBytes(challenge.digest, facts))) };
    },
  };
}
