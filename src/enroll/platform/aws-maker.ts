/**
 * The host's end of proof by AWS: its credentials, from the environment or from the instance metadata service (version 2), and the presigned request. The
 * secret key never leaves the host; what goes to the tower is good for one request of one action, for two minutes.
 */
import aws4 from 'aws4';
import { Type } from 'typebox';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { type OutboundRules, sendOutbound } from '../../identity/outbound.ts';
import type { ProofMaker } from '../proof.ts';
import { checker, readJson } from '../wire.ts';
import { AWS_EXPIRES_S, type AwsEvidence, CHALLENGE_HEADER, regionOfHost } from './aws-request.ts';

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken?: string;
}

export interface AwsMakerOptions {
  /** The STS endpoint to sign for: one that the tower knows. */
  readonly host: string;
  readonly clock: Clock;
  readonly credentials: () => Promise<AwsCredentials>;
}

export function awsMaker({ host, clock, credentials }: AwsMakerOptions): ProofMaker {
  return {
    kind: 'aws',
    isBound: true,
    async make(challenge) {
      if (challenge === null) throw new SelvedgeError('argument_invalid', { name: 'challenge', why: 'proof by AWS needs one' });
      return { ...signAws(host, challenge.digest, await credentials(), clock.wall()) };
    },
  };
}

export function signAws(host: string, challenge: string, credentials: AwsCredentials, now_ms: number): AwsEvidence {
  const date = new Date(now_ms).toISOString().replace(/[:-]|\.\d{3}/g, '');
  const query = new URLSearchParams({ Action: 'GetCallerIdentity', Version: '2011-06-15', 'X-Amz-Date': date, 'X-Amz-Expires': String(AWS_EXPIRES_S) });
  const signed = aws4.sign(
    {
      host,
      method: 'GET',
      path: `/?${query}`,
      service: 'sts',
      region: regionOfHost(host),
      signQuery: true,
      headers: { Host: host, [CHALLENGE_HEADER]: challenge },
    },
    { ...credentials },
  );
  const signature = new URLSearchParams(signed.path?.split('?')[1]).get('X-Amz-Signature');
  if (signature === null) throw new SelvedgeError('internal_error', { what: 'signing for AWS' });
  const { accessKeyId: access_key, sessionToken } = credentials;
  return { host, access_key, date, signature, ...(sessionToken !== undefined && { session_token: sessionToken }) };
}

/** The variables that AWS's own tools read; null if there are none. */
export function awsCredentialsOfEnvironment(environment: Readonly<Record<string, string | undefined>>): AwsCredentials | null {
  const { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey, AWS_SESSION_TOKEN: sessionToken } = environment;
  if (accessKeyId === undefined || secretAccessKey === undefined) return null;
  return { accessKeyId, secretAccessKey, ...(sessionToken !== undefined && { sessionToken }) };
}

const Credentials = Type.Object({
  AccessKeyId: Type.String({ minLength: 16, maxLength: 128 }),
  SecretAccessKey: Type.String({ minLength: 1, maxLength: 256 }),
  Token: Type.String({ minLength: 1, maxLength: 4_096 }),
});
const checkCredentials = checker(Credentials);

const METADATA = 'http://169.254.169.254';
const METADATA_RULES: OutboundRules = { hosts: ['169.254.169.254'], inside: ['169.254.169.254/32'], plain: true };

/** Those of the instance's role. The token first: a metadata service that asks for none is not asked. @throws platform_unavailable */
export async function awsCredentialsOfInstance(address = METADATA, rules = METADATA_RULES): Promise<AwsCredentials> {
  const ask = async (method: 'GET' | 'PUT', path: string, headers: Record<string, string>): Promise<Uint8Array> => {
    const answer = await sendOutbound(rules, { method, url: `${address}${path}`, headers, answer_bytes_max: limits.platform_answer_bytes_max });
    if (answer.status === 200) return answer.body;
    throw new SelvedgeError('platform_unavailable', { kind: 'aws', why: `the metadata service answered ${path} with HTTP status ${answer.status}` });
  };
  const textOf = (body: Uint8Array) => new TextDecoder().decode(body).trim();
  const token = textOf(await ask('PUT', '/latest/api/token', { 'x-aws-ec2-metadata-token-ttl-seconds': '60' }));
  const headers = { 'x-aws-ec2-metadata-token': token };
  const role = textOf(await ask('GET', '/latest/meta-data/iam/security-credentials/', headers));
  if (!/^[\w+=,.@-]{1,64}$/.test(role)) throw new SelvedgeError('platform_unavailable', { kind: 'aws', why: 'this instance has no role' });
  const body = await ask('GET', `/latest/meta-data/iam/security-credentials/${role}`, headers);
  const { AccessKeyId, SecretAccessKey, Token } = readJson(body, limits.platform_answer_bytes_max, checkCredentials);
  return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken: Token };
}
