/**
 * The pod's end of proof by Kubernetes: with the token that the kubelet put into the pod it asks the API server for another one, bound to this pod, whose audience
 * is the tower's challenge. That takes the permission to create tokens of its own service account (docs/enrollment/kubernetes.md). Or it
 * hands over the projected token itself, where the tower takes those.
 */
import { open } from 'node:fs/promises';
import { Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { type OutboundRules, sendOutbound } from '../../identity/outbound.ts';
import type { ProofMaker } from '../proof.ts';
import { checker, readJson } from '../wire.ts';
import { audienceOf } from './google.ts';

export interface KubernetesMakerOptions {
  /** The projected token. */
  readonly tokenFile: string;
  /** The API server, `https://HOST:PORT`, and how it is known; null: the projected token is what is handed over. */
  readonly api: { readonly address: string; readonly rules: OutboundRules } | null;
}

/** The shortest that Kubernetes gives. */
const TOKEN_LIFE_S = 600;

const label = Type.String({ pattern: '^[a-z0-9][a-z0-9.-]*$', maxLength: 253 });
const checkOwn = checker(
  Type.Object({
    'kubernetes.io': Type.Object({
      namespace: label,
      serviceaccount: Type.Object({ name: label }),
      pod: Type.Object({ name: label, uid: Type.String({ maxLength: 36 }) }),
    }),
  }),
);
const checkAnswer = checker(Type.Object({ status: Type.Object({ token: Type.String({ minLength: 1, maxLength: limits.jwt_bytes_max }) }) }));

export function kubernetesMaker({ tokenFile, api }: KubernetesMakerOptions): ProofMaker {
  return {
    kind: 'kubernetes',
    isBound: true,
    async make(challenge) {
      if (challenge === null) throw new SelvedgeError('argument_invalid', { name: 'challenge', why: 'proof by Kubernetes needs one' });
      const own = await readTokenFile(tokenFile);
      return { token: api === null ? own : await requestToken(api, own, audienceOf(challenge.digest)) };
    },
  };
}

async function requestToken({ address, rules }: NonNullable<KubernetesMakerOptions['api']>, own: string, audience: string): Promise<string> {
  const { namespace, serviceaccount, pod } = ownClaims(own)['kubernetes.io'];
  const answer = await sendOutbound(rules, {
    method: 'POST',
    url: `${address}/api/v1/namespaces/${namespace}/serviceaccounts/${serviceaccount.name}/token`,
    headers: { authorization: `Bearer ${own}`, 'content-type': 'application/json', accept: 'application/json' },
    body: JSON.stringify({
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: { audiences: [audience], expirationSeconds: TOKEN_LIFE_S, boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: pod.name, uid: pod.uid } },
    }),
    answer_bytes_max: limits.platform_answer_bytes_max,
  });
  if (answer.status === 200 || answer.status === 201) return readJson(answer.body, limits.platform_answer_bytes_max, checkAnswer).status.token;
  const hint = answer.status === 403 ? '; may this service account create its own tokens?' : '';
  throw new SelvedgeError('platform_unavailable', { kind: 'kubernetes', why: `the API server answered with HTTP status ${answer.status}${hint}` });
}

/** Its own token needs no proof: what it says is only asked for, and the API server knows better. */
function ownClaims(token: string): ReturnType<typeof checkOwn> {
  return readJson(Buffer.from(token.split('.')[1] ?? '', 'base64url'), limits.jwt_bytes_max, checkOwn);
}

async function readTokenFile(path: string): Promise<string> {
  try {
    await using file = await open(path);
    const buffer = new Uint8Array(limits.jwt_bytes_max + 1);
    const { bytesRead } = await file.read(buffer);
    if (bytesRead > limits.jwt_bytes_max) throw new SelvedgeError('body_too_large', { max: limits.jwt_bytes_max });
    return new TextDecoder().decode(buffer.subarray(0, bytesRead)).trim();
  } catch (error) {
    throw asSelvedgeError(error, 'not_found', { what: 'token file of the pod', name: path });
  }
}
