/**
 * The one request that a host of AWS signs in advance and the tower sends: `GetCallerIdentity`, with our challenge in a signed header. The host hands over
 * what only it can know (who signs, when, the signature), never an address, a header or a query; both ends build the rest from this file, so that there
 * is nothing in which a second key, another action or another host could hide. If host and tower differ in one octet, AWS refuses the signature.
 */
import { type Static, Type } from 'typebox';
import { closed } from '../shapes.ts';

/** How long AWS takes the signature for good. */
export const AWS_EXPIRES_S = 120;
export const CHALLENGE_HEADER = 'x-selvedge-challenge';
const SIGNED_HEADERS = `host;${CHALLENGE_HEADER}`;

export const AwsEvidence = closed({
  /** Of the STS endpoint that was signed for; the tower knows it from its own configuration or refuses. */
  host: Type.String({ pattern: '^[a-z0-9.-]{1,253}$', maxLength: 253 }),
  access_key: Type.String({ pattern: '^[A-Z0-9]{16,128}$', maxLength: 128 }),
  date: Type.String({ pattern: '^[0-9]{8}T[0-9]{6}Z$', maxLength: 16 }),
  session_token: Type.Optional(Type.String({ pattern: '^[A-Za-z0-9+/=_-]{1,4096}$', maxLength: 4_096 })),
  signature: Type.String({ pattern: '^[0-9a-f]{64}$', maxLength: 64 }),
});
export type AwsEvidence = Static<typeof AwsEvidence>;

/** Of the request, in the order in which AWS wants it signed, which is that of the names. */
export function awsQuery({ access_key, date, session_token }: Omit<AwsEvidence, 'signature'>, region: string): string {
  const query: Readonly<Record<string, string>> = {
    Action: 'GetCallerIdentity',
    Version: '2011-06-15',
    'X-Amz-Algorithm': 'AWS4-HMAC-SHA256',
    'X-Amz-Credential': `${access_key}/${date.slice(0, 8)}/${region}/sts/aws4_request`,
    'X-Amz-Date': date,
    'X-Amz-Expires': String(AWS_EXPIRES_S),
    ...(session_token !== undefined && { 'X-Amz-Security-Token': session_token }),
    'X-Amz-SignedHeaders': SIGNED_HEADERS,
  };
  return Object.entries(query)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`)
    .join('&');
}

/** `sts.REGION.amazonaws.com`, or the global endpoint, which lies in us-east-1. */
export function regionOfHost(host: string): string {
  return /^sts\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?$/.exec(host)?.[1] ?? 'us-east-1';
}

/** When it was signed, in ms since the epoch; null if it is no time. */
export function signedAt(date: string): number | null {
  const [, year, month, day, hour, minute, second] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(date) ?? [];
  const at_ms = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  return Number.isNaN(at_ms) ? null : at_ms;
}
