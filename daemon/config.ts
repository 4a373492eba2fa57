/**
 * The configuration file of a daemon: YAML, checked whole against a schema, then laid under the command line (a flag wins). An error names file,
 * line, key, what was found and what is allowed. docs/configuration.md has the keys.
 */
import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { type Static, Type } from 'typebox';
import { scopes } from '../src/api/access.ts';
import { asSelvedgeError } from '../src/base/errors.ts';
import { limits } from '../src/base/limits.ts';
import { jwtAlgorithms } from '../src/identity/jwks.ts';
import { YamlFile } from '../src/config/yaml-file.ts';
import type { AdmissionRate } from '../src/peering/admission.ts';
import { PlatformSettings } from '../src/enroll/platform/settings.ts';

const Text = Type.String({ minLength: 1, maxLength: 4096, description: 'a path' });
const Port = Type.Integer({ minimum: 1, maximum: 65_535, description: 'a whole number from 1 to 65535' });
const Address = Type.String({ pattern: '^[A-Za-z0-9.:-]+$', maxLength: 255, description: 'an IP address or host name' });

const shared = {
  state: Type.Optional(Text),
  key_file: Type.Optional(Text),
  passphrase_file: Type.Optional(Text),
  listen: Type.Optional(Address),
  port: Type.Optional(Port),
  advertise: Type.Optional(Type.Array(Address, { minItems: 1, maxItems: 8, description: 'a list of 1 to 8 addresses' })),
  governor: Type.Optional(Type.Boolean({ description: 'true or false' })),
  admission: Type.Optional(
    Type.Object(
      {
        channels_per_s: Type.Optional(Type.Number({ minimum: 0.1, maximum: 100_000, description: 'a number from 0.1 to 100000' })),
        burst: Type.Optional(Type.Integer({ minimum: 1, maximum: 100_000, description: 'a whole number from 1 to 100000' })),
      },
      { additionalProperties: false, description: 'channels_per_s, burst' },
    ),
  ),
  certificate_file: Type.Optional(Text),
  certificate_key_file: Type.Optional(Text),
  insecure_development: Type.Optional(Type.Boolean({ description: 'true or false' })),
  metrics: Type.Optional(
    Type.Object(
      {
        port: Port,
        address: Type.Optional(Type.String({ pattern: '^(127(\\.[0-9]{1,3}){3}|::1)$', description: 'an address of this host alone: 127.0.0.1 or ::1' })),
      },
      { additionalProperties: false, description: 'port, address' },
    ),
  ),
  drain: Type.Optional(
    Type.Object(
      {
        force: Type.Optional(Type.Boolean({ description: 'true or false' })),
        deadline_s: Type.Optional(Type.Integer({ minimum: 0, maximum: limits.drain_ms_max / 1_000, description: 'seconds, 0 to 86400' })),
        stop_ms: Type.Optional(Type.Integer({ minimum: 0, maximum: 60_000, description: 'milliseconds, 0 to 60000' })),
      },
      { additionalProperties: false, description: 'force, deadline_s, stop_ms' },
    ),
  ),
};

const app = {
  wireguard_engine: Type.Optional(Type.Union([Type.Literal('auto'), Type.Literal('kernel'), Type.Literal('user')], { description: 'auto, kernel or user' })),
  // While keys change, the port after it is used too.
  wireguard_port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_534, description: 'a whole number from 1 to 65534' })),
  wireguard_fwmark: Type.Optional(Type.Integer({ minimum: 0, maximum: 0xffff_ffff, description: 'a whole number from 0 to 4294967295' })),
  wireguard_key_days: Type.Optional(Type.Number({ minimum: 1, maximum: 365, description: 'a number from 1 to 365' })),
  underlay_ipv4_only: Type.Optional(Type.Boolean({ description: 'true or false' })),
  tunnel_socket: Type.Optional(Type.String({ minLength: 1, maxLength: 107, description: 'a path of at most 107 octets' })),
};

const unseal = { unseal: Type.Optional(Type.Literal('site', { description: 'site' })) };

export const NodeConfig = Type.Object({ ...shared, ...app, ...unseal }, { additionalProperties: false });

/** Whose JWTs begin API sessions at the tower, for which audience, and what they may do then. */
const Login = Type.Object(
  {
    name: Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$', maxLength: 63, description: 'a name: lower-case letters, digits and hyphens' }),
    issuer: Type.String({ minLength: 1, maxLength: 1024, description: 'what the claim iss says' }),
    audience: Type.String({ minLength: 1, maxLength: 1024, description: 'what the claim aud says' }),
    keys_file: Text,
    algorithms: Type.Optional(
      Type.Array(Type.Enum([...jwtAlgorithms]), { minItems: 1, maxItems: jwtAlgorithms.length, description: `a list of ${jwtAlgorithms.join(', ')}` }),
    ),
    scopes: Type.Array(Type.Enum([...scopes]), { minItems: 1, maxItems: scopes.length, description: `a list of ${scopes.join(', ')}` }),
    tenant: Type.Optional(Type.String({ pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$', maxLength: 63, description: 'a name of a tenant' })),
    subjects: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 1024 }), { minItems: 1, maxItems: 256, description: 'a list of what the claim sub may say' }),
    ),
  },
  { additionalProperties: false },
);
export type LoginConfig = Static<typeof Login>;

export const TowerConfig = Type.Object(
  {
    ...shared,
    udp_port: Type.Optional(Port),
    platforms: Type.Optional(PlatformSettings),
    service_tokens: Type.Optional(Text),
    logins: Type.Optional(Type.Array(Login, { maxItems: 32, description: 'a list of logins: docs/access.md' })),
  },
  { additionalProperties: false },
);

/** How many new channels begin here, as the file says it. */
export function admissionRate({ channels_per_s = limits.admission_channels_per_s, burst = limits.admission_burst }: AdmissionConfig = {}): AdmissionRate {
  return { channels_per_s, burst };
}
export type AdmissionConfig = NonNullable<Static<typeof NodeConfig>['admission']>;

/** How this host is emptied, as the file says it; what it leaves out is filled in. */
export function drainSettings({ force = false, deadline_s, stop_ms = limits.drain_stop_ms_default }: DrainConfig = {}): Required<DrainPolicy> {
  return { force, deadline_ms: deadline_s === undefined ? limits.drain_ms_default : deadline_s * 1_000, stop_ms };
}
export type MetricsConfig = NonNullable<Static<typeof NodeConfig>['metrics']>;
export type DrainConfig = NonNullable<Static<typeof NodeConfig>['drain']>;

interface DrainPolicy {
  readonly force: boolean;
  readonly deadline_ms: number;
  /** What a daemon that is asked to end takes for it. */
  readonly stop_ms: number;
}

type Schema = typeof NodeConfig | typeof TowerConfig;

/** Values of the file become the options that no flag has set. @throws config_invalid, not_found */
export async function applyConfig(command: Command, file: string | undefined, schema: Schema): Promise<void> {
  if (file === undefined) return;
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw asSelvedgeError(error, 'not_found', { what: 'configuration file', name: file });
  }
  const values: Static<Schema> = new YamlFile(file, text).check(schema);
  for (const [key, value] of Object.entries(values)) {
    const option = key.replace(/_([a-z])/g, (_match, letter: string) => letter.toUpperCase());
    const source = command.getOptionValueSource(option);
    if (source === undefined || source === 'default') command.setOptionValueWithSource(option, value, 'config');
  }
}
