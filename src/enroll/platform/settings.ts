/**
 * The platforms of a tower's configuration, as proofs. What stands in the file is also the allow-list: the tower asks no other host, and none inside but in the
 * networks that are named.
 */
import { readFile } from 'node:fs/promises';
import { type Static, Type } from 'typebox';
import { asSelvedgeError, SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { type KeyLocation, jwtAlgorithms } from '../../identity/jwks.ts';
import { JwtIssuer } from '../../identity/jwt.ts';
import { Networks } from '../../identity/networks.ts';
import type { Proof } from '../proof.ts';
import { awsProof } from './aws.ts';
import { GOOGLE_KEYS, googleProof } from './google.ts';
import { kubernetesProof } from './kubernetes.ts';

const closed = { additionalProperties: false } as const;
const Path = Type.String({ minLength: 1, maxLength: 4_096, description: 'a path' });
const Https = Type.String({ pattern: '^https://[\\x21-\\x7e]+$', maxLength: 2_048, description: 'an address that begins with https://' });
const Reach = {
  inside: Type.Optional(
    Type.Array(Type.String({ pattern: '^[0-9a-fA-F.:]+/[0-9]{1,3}$', maxLength: 43, description: 'a network such as 10.0.0.0/16' }), {
      maxItems: 16,
      description: 'a list of networks',
    }),
  ),
  roots_file: Type.Optional(Path),
};
const Keys = { keys_url: Type.Optional(Https), keys_file: Type.Optional(Path), ...Reach };

export const PlatformSettings = Type.Object(
  {
    aws: Type.Optional(
      Type.Object(
        {
          endpoints: Type.Array(
            Type.Object(
              { host: Type.String({ pattern: '^[a-z0-9.-]+$', maxLength: 253, description: 'a host name' }), address: Type.Optional(Https) },
              { ...closed, description: 'host, and address where it is not https://HOST' },
            ),
            { minItems: 1, maxItems: limits.platform_endpoints_max, description: 'a list of STS endpoints' },
          ),
          ...Reach,
        },
        { ...closed, description: 'endpoints, inside, roots_file' },
      ),
    ),
    google: Type.Optional(Type.Object(Keys, { ...closed, description: 'keys_url, keys_file, inside, roots_file' })),
    kubernetes: Type.Optional(
      Type.Array(
        Type.Object(
          {
            issuer: Https,
            algorithm: Type.Optional(Type.Enum([...jwtAlgorithms], { description: jwtAlgorithms.join(', ') })),
            plain: Type.Optional(Type.Boolean({ description: 'true or false' })),
            ...Keys,
          },
          { ...closed, description: 'issuer, algorithm, plain, keys_url, keys_file, inside, roots_file' },
        ),
        { minItems: 1, maxItems: limits.platform_endpoints_max, description: 'a list of clusters' },
      ),
    ),
  },
  { ...closed, description: 'aws, google, kubernetes' },
);
export type PlatformSettings = Static<typeof PlatformSettings>;

/** A projected token of Kubernetes lives for an hour and a few seconds. */
const KUBERNETES_LIFE_S_MAX = 7_200;

/** @throws argument_invalid, not_found */
export async function platformProofs({ aws, google, kubernetes }: PlatformSettings, clock: Clock): Promise<Proof[]> {
  const proofs: unknown[] = [];
  if (aws !== undefined) proofs.push(awsProof({ endpoints: aws.endpoints, rules: await reachOf(aws) }));
  if (google !== undefined) {
    const keys = await keysOf(google.keys_file === undefined ? { keys_url: GOOGLE_KEYS, ...google } : google);
    proofs.push(googleProof({ clock, ...(keys !== null && { keys }) }));
  }
  if (kubernetes !== undefined) {
    const clusters = kubernetes.map(async ({ issuer, algorithm = 'RS256', plain = false, ...where }) => {
      const keys = await keysOf(where);
      if (keys === null) throw new SelvedgeError('argument_invalid', { name: 'platforms.kubernetes', why: `${issuer} needs keys_url or keys_file` });
      return { issuer: new JwtIssuer({ issuer, algorithms: [algorithm], keys, clock, life_s_max: KUBERNETES_LIFE_S_MAX }), plain };
    });
    proofs.push(kubernetesProof(await Promise.all(clusters)));
  }
  return proofs as Proof[];
}

interface Where {
  readonly keys_url?: string;
  readonly keys_file?: string;
  readonly inside?: readonly string[];
  readonly roots_file?: string;
}

async function keysOf({ keys_url: url, keys_file: file, ...reach }: Where): Promise<KeyLocation | null> {
  if (url !== undefined && file !== undefined)
    throw new SelvedgeError('argument_invalid', { name: 'platforms', why: 'keys_url and keys_file cannot both be given' });
  if (file !== undefined) return { file };
  return url === undefined ? null : { url, rules: { hosts: [new URL(url).host], ...(await reachOf(reach)) } };
}

async function reachOf({ inside = [], roots_file }: Where): Promise<{ inside: readonly string[]; roots?: string }> {
  // Told now, not at the first host that enrolls.
  new Networks(inside);
  if (roots_file === undefined) return { inside };
  try {
    return { inside, roots: await readFile(roots_file, 'utf8') };
  } catch (error) {
    throw asSelvedgeError(error, 'not_found', { what: 'file of roots', name: roots_file });
  }
}
