/**
 * Proof by AWS (spec 2.2e): the tower has the host's presigned `GetCallerIdentity` answered by AWS itself, and believes what AWS says of who signed.
 * The request goes to an endpoint of the tower's configuration, with the challenge that the tower computed: a signature for another cluster, nonce or key is
 * not one for this request.
 */
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { clockSkew, isoTime } from '../../identity/clock-evidence.ts';
import { type OutboundAnswer, type OutboundRules, sendOutbound } from '../../identity/outbound.ts';
import type { Claim, Proof, ProofContext } from '../proof.ts';
import { AWS_EXPIRES_S, AwsEvidence, awsQuery, CHALLENGE_HEADER, regionOfHost, signedAt } from './aws-request.ts';
import { grantFor, type PlatformIdentity } from './grants.ts';

export interface AwsOptions {
  /** The STS endpoints that hosts may sign for. */
  readonly endpoints: readonly AwsEndpoint[];
  /** Besides the hosts, which are those of the endpoints. */
  readonly rules?: Omit<OutboundRules, 'hosts' | 'plain'>;
}

export interface AwsEndpoint {
  /** As it is signed: `sts.eu-central-1.amazonaws.com`. */
  readonly host: string;
  /** Where requests for it go; `https://HOST` unless told. */
  readonly address?: string;
}

export function awsProof(options: AwsOptions): Proof<typeof AwsEvidence> {
  let asking = 0;
  return {
    kind: 'aws',
    isBound: true,
    evidence: AwsEvidence,
    judge: async (evidence, context): Promise<Claim> => {
      // Whoever asks has proved nothing yet, and AWS may be slow.
      if (asking >= limits.platform_calls_max) throw new SelvedgeError('limit_reached', { limit: 'calls to AWS under way', max: limits.platform_calls_max });
      asking++;
      const identity = await askAws(options, evidence, context).finally(() => asking--);
      return { grant: await grantFor('aws', identity, context), subject: identity.subject };
    },
  };
}

/** @throws proof_invalid, clock_skew, platform_unavailable */
export async function askAws(
  { endpoints, rules = {} }: AwsOptions,
  evidence: AwsEvidence,
  context: Pick<ProofContext, 'challenge' | 'now_ms'>,
): Promise<PlatformIdentity> {
  const endpoint = endpoints.find(({ host }) => host === evidence.host);
  if (endpoint === undefined) throw refused('its STS endpoint is not one of the configuration');
  checkTime(evidence.date, context.now_ms);
  const address = endpoint.address ?? `https://${endpoint.host}`;
  const query = `${awsQuery(evidence, regionOfHost(endpoint.host))}&X-Amz-Signature=${evidence.signature}`;
  let answer: OutboundAnswer;
  try {
    answer = await sendOutbound(
      { ...rules, hosts: [new URL(address).host] },
      {
        method: 'GET',
        url: `${address}/?${query}`,
        headers: { host: endpoint.host, [CHALLENGE_HEADER]: context.challenge },
        answer_bytes_max: limits.platform_answer_bytes_max,
      },
    );
  } catch (error) {
    if (!(error instanceof SelvedgeError)) throw error;
    throw new SelvedgeError('platform_unavailable', { kind: 'aws', why: error.message }, { cause: error });
  }
  if (answer.status === 200) return readIdentity(answer.body);
  // What AWS says stands in the tower's hands only: the host that asks may be anybody.
  if (answer.status === 400 || answer.status === 403) throw refused('AWS does not take the signature');
  throw new SelvedgeError('platform_unavailable', { kind: 'aws', why: `it answered with HTTP status ${answer.status}` });
}

/** AWS would refuse it too; here it costs no request. */
function checkTime(date: string, now_ms: number): void {
  const at_ms = signedAt(date);
  if (at_ms === null) throw refused('its date is none');
  if (at_ms > now_ms + limits.clock_skew_ms_max)
    throw clockSkew(
      'the clock of the host that asks',
      at_ms - now_ms,
      `its request was signed at ${isoTime(at_ms)}, and the tower's clock says ${isoTime(now_ms)}`,
    );
  if (at_ms + AWS_EXPIRES_S * 1_000 + limits.clock_skew_ms_max < now_ms) throw refused('it has expired');
}

/**
 * The answer in AWS's XML, of exactly one form. No XML parser is needed for three texts that hold no markup, and none is there to be
 * misled: anything else in their places is no answer.
 */
export function readIdentity(body: Uint8Array): PlatformIdentity {
  const text = new TextDecoder().decode(body);
  if (!/^(?:<\?xml[^<>]*\?>)?\s*<GetCallerIdentityResponse[\s>]/.test(text)) throw unreadable('no GetCallerIdentityResponse');
  const account = only(text, 'Account', /^[0-9]{12}$/);
  const userId = only(text, 'UserId', /^[A-Za-z0-9_+=,.@:-]{1,193}$/);
  const arn = only(text, 'Arn', /^arn:aws[a-z-]*:(?:iam|sts)::[0-9]{12}:[A-Za-z0-9_+=,.@:/-]{1,2048}$/);
  const [, , , , owner, ...resource] = arn.split(':');
  if (owner !== account) throw unreadable('account and ARN differ');
  const [id, session] = userId.split(':');
  const [, role, name] = /^assumed-role\/([^/:]+)\/([^/:]+)$/.exec(resource.join(':')) ?? [];
  if (role !== undefined) {
    if (session !== name) throw unreadable('session and ARN differ');
    return { subject: arn, facts: { account, role, instance: name, id } };
  }
  const user = /^user\/(?:[^:]*\/)?([^/:]+)$/.exec(resource.join(':'))?.[1];
  return { subject: arn, facts: { account, user, id } };
}

function only(text: string, name: string, pattern: RegExp): string {
  const [found, another] = [...text.matchAll(new RegExp(`<${name}>([^<>&]*)</${name}>`, 'g'))].map((match) => match[1] ?? '');
  if (found === undefined || another !== undefined || !pattern.test(found)) throw unreadable(`not one ${name}`);
  return found;
}

const refused = (why: string): SelvedgeError => new SelvedgeError('proof_invalid', { kind: 'aws', why });
const unreadable = (why: string): SelvedgeError => new SelvedgeError('platform_unavailable', { kind: 'aws', why: `its answer is not understood: ${why}` });
