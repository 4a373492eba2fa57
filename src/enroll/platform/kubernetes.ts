/**
 * Proof by Kubernetes (spec 2.2e): a service-account token of a pod, signed by its cluster. *Bound*: the pod asks its API server (TokenRequest) for a token whose
 * audience is our challenge, good for one nonce and one key. *Plain*, only where the tower's configuration says so: the token that the kubelet projects into
 * the pod, for the audience `selvedge:CLUSTER`. It cannot carry a nonce, so whoever reads it before the pod has enrolled can enroll in its place; after that it
 * is worth nothing, since a pod enrolls once.
 */
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { type JwtIssuer, JwtIssuers, type VerifiedJwt } from '../../identity/jwt.ts';
import type { Claim, Proof, ProofContext } from '../proof.ts';
import { closed } from '../shapes.ts';
import { checker } from '../wire.ts';
import { audienceOf } from './google.ts';
import { grantFor, type PlatformIdentity } from './grants.ts';

export interface KubernetesCluster {
  readonly issuer: JwtIssuer;
  /** Whether projected tokens, which no nonce is in, are taken. */
  readonly plain: boolean;
}

const KubernetesEvidence = closed({ token: Type.String({ maxLength: limits.jwt_bytes_max }) });

const name = Type.String({ pattern: '^[a-z0-9][a-z0-9.-]*$', maxLength: 253 });
const uid = Type.String({ pattern: '^[0-9a-f-]{36}$', maxLength: 36 });
const named = Type.Object({ name, uid });
const checkClaims = checker(
  Type.Object({
    'kubernetes.io': Type.Object({ namespace: name, serviceaccount: named, pod: named, node: Type.Optional(Type.Object({ name })) }),
  }),
);

export function kubernetesProof(clusters: readonly KubernetesCluster[]): Proof<typeof KubernetesEvidence> {
  const bound = new JwtIssuers(clusters.map(({ issuer }) => issuer));
  const plain = new JwtIssuers(clusters.filter((cluster) => cluster.plain).map(({ issuer }) => issuer));
  return {
    kind: 'kubernetes',
    isBound: true,
    evidence: KubernetesEvidence,
    judge: async ({ token }: Static<typeof KubernetesEvidence>, context): Promise<Claim> => {
      const identity = readClaims(await verify(token, context, { bound, plain }));
      return { grant: await grantFor('kubernetes', identity, context), subject: identity.subject };
    },
  };
}

/** What a bound token is refused for is what is told, also where a plain one would have done. */
async function verify(token: string, { challenge, cluster }: ProofContext, { bound, plain }: { bound: JwtIssuers; plain: JwtIssuers }): Promise<VerifiedJwt> {
  try {
    return await bound.verify(token, { audience: audienceOf(challenge), soleAudience: true });
  } catch (error) {
    const refusal = asSelvedgeError(error, 'internal_error', { what: 'verifying a token' });
    if (refusal.code !== 'jwt_invalid') throw refusal;
    try {
      return await plain.verify(token, { audience: `selvedge:${cluster}`, soleAudience: true });
    } catch {
      throw refusal;
    }
  }
}

function readClaims({ issuer, subject, claims }: VerifiedJwt): PlatformIdentity {
  const refuse = (why: string) => new SelvedgeError('proof_invalid', { kind: 'kubernetes', why });
  let checked: ReturnType<typeof checkClaims>;
  try {
    checked = checkClaims(claims);
  } catch {
    throw refuse('the token is not one of a pod');
  }
  const { namespace, serviceaccount, pod, node } = checked['kubernetes.io'];
  const { name: account } = serviceaccount;
  if (subject !== `system:serviceaccount:${namespace}:${account}`) throw refuse('its subject and its service account differ');
  return { subject: `${issuer} pod ${pod.uid}`, facts: { issuer, namespace, account, pod: pod.uid, node: node?.name } };
}
