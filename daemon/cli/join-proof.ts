/** By which proof `selvedge join` shows who this host is: a token, or what its platform says of it. */
import { readFile } from 'node:fs/promises';
import { asSelvedgeError, SelvedgeError } from '../../src/base/errors.ts';
import type { ProofMaker } from '../../src/enroll/proof.ts';

const POD = '/var/run/secrets/kubernetes.io/serviceaccount';
export const DEFAULT_POD_TOKEN = '/var/run/secrets/selvedge/token';
export const DEFAULT_STS_HOST = 'sts.amazonaws.com';
export const DEFAULT_KUBERNETES_API = 'https://kubernetes.default.svc';

export interface PlatformFlags {
  readonly platform?: string;
  readonly cluster?: string;
  readonly stsHost?: string;
  readonly podTokenFile?: string;
  readonly kubernetesApi?: string;
}

/** @throws argument_invalid, not_found */
export async function platformMaker(platform: string, flags: PlatformFlags): Promise<{ maker: ProofMaker; cluster: string }> {
  const { cluster } = flags;
  if (cluster === undefined) throw new SelvedgeError('argument_invalid', { name: 'cluster', why: 'only a token tells the cluster: name it with --cluster' });
  const make = { aws, google, kubernetes }[platform];
  if (make === undefined) throw new SelvedgeError('argument_invalid', { name: 'platform', why: `'${platform}' is not one of aws, google, kubernetes` });
  return { maker: await make(flags), cluster };
}

async function aws({ stsHost: host = DEFAULT_STS_HOST }: PlatformFlags): Promise<ProofMaker> {
  const { awsCredentialsOfEnvironment, awsCredentialsOfInstance, awsMaker } = await import('../../src/enroll/platform/aws-maker.ts');
  const { systemClock } = await import('../../src/transport/system.ts');
  return awsMaker({ host, clock: systemClock, credentials: async () => awsCredentialsOfEnvironment(process.env) ?? (await awsCredentialsOfInstance()) });
}

async function google(): Promise<ProofMaker> {
  return (await import('../../src/enroll/platform/google.ts')).googleMaker();
}

async function kubernetes({
  podTokenFile: tokenFile = DEFAULT_POD_TOKEN,
  kubernetesApi: address = DEFAULT_KUBERNETES_API,
}: PlatformFlags): Promise<ProofMaker> {
  const { kubernetesMaker } = await import('../../src/enroll/platform/kubernetes-maker.ts');
  if (address === 'none') return kubernetesMaker({ tokenFile, api: null });
  const path = `${POD}/ca.crt`;
  const roots = await readFile(path, 'utf8').catch((error: unknown) => {
    throw asSelvedgeError(error, 'not_found', { what: 'roots of the API server', name: path });
  });
  const url = URL.parse(address);
  if (url === null) throw new SelvedgeError('argument_invalid', { name: 'kubernetes-api', why: `'${address}' is no address` });
  // Of this host's own choice, and an API server lies inside.
  return kubernetesMaker({ tokenFile: tokenFile, api: { address: url.origin, rules: { hosts: [url.host], inside: ['0.0.0.0/0', '::/0'], roots } } });
}
