/**
 * Proof by Google (spec 2.2e): the identity token that the metadata server of Compute Engine gives an instance, for an audience that is our challenge, so that
 * a token is good for one nonce and one key. Only the metadata server states `google.compute_engine`: a token of the same service account made elsewhere lacks it.
 */
import { type Static, Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import type { KeyLocation } from '../../identity/jwks.ts';
import { JwtIssuer } from '../../identity/jwt.ts';
import { type OutboundRules, sendOutbound } from '../../identity/outbound.ts';
import type { Claim, Proof, ProofMaker } from '../proof.ts';
import { closed } from '../shapes.ts';
import { checker } from '../wire.ts';
import { grantFor, type PlatformIdentity } from './grants.ts';

const GOOGLE_ISSUER = 'https://accounts.google.com';
export const GOOGLE_KEYS = 'https://www.googleapis.com/oauth2/v3/certs';
/** Google's live for an hour. */
const LIFE_S_MAX = 3_600;

const GoogleEvidence = closed({ token: Type.String({ maxLength: limits.jwt_bytes_max }) });

const text = (pattern: string) => Type.String({ pattern, maxLength: 256 });
const checkClaims = checker(
  Type.Object({
    email: text('^[A-Za-z0-9.@_-]+$'),
    email_verified: Type.Literal(true),
    google: Type.Object({
      compute_engine: Type.Object({
        project_id: text('^[a-z0-9.:-]+$'),
        project_number: Type.Integer({ minimum: 1 }),
        zone: text('^[a-z0-9-]+$'),
        instance_id: text('^[0-9]+$'),
        instance_name: text('^[a-z0-9.-]+$'),
      }),
    }),
  }),
);

/** The audience of a token for this challenge; the digest covers cluster, nonce and request. */
export const audienceOf = (challenge: string): string => `selvedge-enroll:${challenge}`;

export interface GoogleOptions {
  readonly clock: Clock;
  readonly issuer?: string;
  readonly keys?: KeyLocation;
}

export function googleProof({
  clock,
  issuer = GOOGLE_ISSUER,
  keys = { url: GOOGLE_KEYS, rules: { hosts: [new URL(GOOGLE_KEYS).host] } },
}: GoogleOptions): Proof<typeof GoogleEvidence> {
  // Google's tokens have no `nbf`.
  const judge = new JwtIssuer({ issuer, algorithms: ['RS256'], keys, clock, life_s_max: LIFE_S_MAX, without_not_before: true });
  return {
    kind: 'google',
    isBound: true,
    evidence: GoogleEvidence,
    judge: async ({ token }: Static<typeof GoogleEvidence>, context): Promise<Claim> => {
      const { claims } = await judge.verify(token, { audience: audienceOf(context.challenge), soleAudience: true });
      const identity = readClaims(claims);
      return { grant: await grantFor('google', identity, context), subject: identity.subject };
    },
  };
}

function readClaims(claims: unknown): PlatformIdentity {
  let checked: ReturnType<typeof checkClaims>;
  try {
    checked = checkClaims(claims);
  } catch (error) {
    const path = error instanceof SelvedgeError ? error.facts.path : '/';
    throw new SelvedgeError('proof_invalid', { kind: 'google', why: `the token is not one of an instance, in full format (${String(path)})` });
  }
  const { email: account, google } = checked;
  const { project_id: project, project_number, zone, instance_id: instance, instance_name: name } = google.compute_engine;
  return { subject: `${project_number}/${instance}`, facts: { project, zone, instance, name, account } };
}

const METADATA = 'http://metadata.google.internal';
const METADATA_RULES: OutboundRules = { hosts: ['metadata.google.internal'], inside: ['169.254.169.254/32', 'fd20:ce::254/128'], plain: true };

/** The instance's end: asks the metadata server, at `address` where it is not Google's own. */
export function googleMaker({ address = METADATA, rules = METADATA_RULES }: { readonly address?: string; readonly rules?: OutboundRules } = {}): ProofMaker {
  return {
    kind: 'google',
    isBound: true,
    async make(challenge) {
      if (challenge === null) throw new SelvedgeError('argument_invalid', { name: 'challenge', why: 'proof by Google needs one' });
      const query = new URLSearchParams({ audience: audienceOf(challenge.digest), format: 'full' });
      const url = `${address}/computeMetadata/v1/instance/service-accounts/default/identity?${query}`;
      const answer = await sendOutbound(rules, {
        method: 'GET',
        url,
        headers: { 'metadata-flavor': 'Google' },
        answer_bytes_max: limits.platform_answer_bytes_max,
      });
      if (answer.status !== 200)
        throw new SelvedgeError('platform_unavailable', { kind: 'google', why: `the metadata server answered with HTTP status ${answer.status}` });
      return { token: new TextDecoder().decode(answer.body).trim() };
    },
  };
}
