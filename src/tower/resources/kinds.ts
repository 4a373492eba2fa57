/**
 * The simple kinds of resources: what each consists of, what it names of others, and in whose snapshots it shows. Storing, listing and changing them is the same
 * for all (resource-store.ts, api): a kind is a row of this table.
 */
import { type Static, type TObject, type TSchema, Type } from 'typebox';
import { limits } from '../../base/limits.ts';
import { proofKinds } from '../../enroll/proof.ts';
import { PolicyRule, RoleRule, RouteRule, type Selector, SelectorSchema, ServiceRule, TargetSchema } from '../../enroll/rule-wire.ts';
import { Label } from '../../enroll/shapes.ts';

const description = Type.String({ maxLength: limits.description_chars_max, description: 'for people' });
const Tenant = Type.Union([Label, Type.Null()], { description: 'name of a tenant; null: the platform’s own' });

const TenantSpec = Type.Object({ description });

const SiteSpec = Type.Object({
  description,
  tenant: Tenant,
  proofs: Type.Array(Type.Enum([...proofKinds]), { maxItems: proofKinds.length, uniqueItems: true, description: 'proofs by which nodes may enroll here' }),
  x509_binding: Type.Enum(['host-id', 'site', 'system-ca'], { description: 'which call-home certificates are taken' }),
  fingerprint_certifies: Type.Boolean({ description: 'whether a fingerprint that matches is enough for a certificate of a new key' }),
  unseal: Type.Enum(['own', 'site'], { description: 'how nodes unseal their stores: with a secret of their own, or the site’s token' }),
});

const { name: _role, ...role } = RoleRule.properties;
const RoleSpec = Type.Object({ description, ...role });

const { name: _policy, ...policy } = PolicyRule.properties;
const PolicySpec = Type.Object({ description, ...policy });

const { name: _route, ...route } = RouteRule.properties;
const RouteSpec = Type.Object({ description, ...route });

const ServiceSpec = Type.Object({
  description,
  tenant: Tenant,
  protocol: ServiceRule.properties.protocol,
  hosts: SelectorSchema,
  target: TargetSchema,
});

export interface Specs {
  readonly tenant: Static<typeof TenantSpec>;
  readonly site: Static<typeof SiteSpec>;
  readonly role: Static<typeof RoleSpec>;
  readonly policy: Static<typeof PolicySpec>;
  readonly route: Static<typeof RouteSpec>;
  readonly service: Static<typeof ServiceSpec>;
}
export type KindName = keyof Specs;
export type SiteSettings = Specs['site'];

/** What a resource names: another resource, or a node by its id. */
export interface Use {
  readonly kind: KindName | 'node';
  readonly name: string;
}

export interface Kind<Name extends KindName> {
  readonly name: Name;
  readonly plural: string;
  readonly what: string;
  readonly spec: TObject;
  /** What is so where nothing is said: also for what a later version adds. Without one for a property it must be given. */
  readonly defaults: Partial<Specs[Name]>;
  readonly count_max: number;
  /** Whether snapshots tell of it. */
  readonly isRule: boolean;
  uses(spec: Specs[Name]): Use[];
  /** The nodes in whose snapshots it shows. */
  audience(name: string, spec: Specs[Name]): readonly Selector[];
}

export const kinds: { readonly [Name in KindName]: Kind<Name> } = {
  tenant: {
    name: 'tenant',
    plural: 'tenants',
    what: 'whose nodes and services are whose',
    spec: TenantSpec,
    defaults: { description: '' },
    count_max: limits.tenants_max,
    isRule: false,
    uses: () => [],
    audience: () => [],
  },
  site: {
    name: 'site',
    plural: 'sites',
    what: 'groups of nodes on one local network, and how nodes enroll there',
    spec: SiteSpec,
    defaults: { description: '', tenant: null, proofs: ['token'], x509_binding: 'host-id', fingerprint_certifies: false, unseal: 'own' },
    count_max: limits.sites_max,
    isRule: false,
    uses: ({ tenant }) => usesOf('tenant', tenant === null ? [] : [tenant]),
    audience: () => [],
  },
  role: {
    name: 'role',
    plural: 'roles',
    what: 'what nodes are for: with whom they may have channels, in which classes',
    spec: RoleSpec,
    defaults: { description: '', peers: null, classes: null },
    count_max: limits.roles_max,
    isRule: true,
    uses: ({ peers }) => usesOf('role', peers ?? []),
    audience: (name) => [{ roles: [name] }],
  },
  policy: {
    name: 'policy',
    plural: 'policies',
    what: 'which nodes may open flows to which, in which classes',
    spec: PolicySpec,
    defaults: { description: '', priority: 100, effect: 'allow', from: {}, to: {}, classes: null, services: null, degraded: false },
    count_max: limits.policies_max,
    isRule: true,
    uses: ({ from, to, services }) => [...selected(from), ...selected(to), ...usesOf('service', services ?? [])],
    audience: (_name, { from, to }) => [from, to],
  },
  route: {
    name: 'route',
    plural: 'routes',
    what: 'which nodes are reached through which relaying nodes',
    spec: RouteSpec,
    defaults: { description: '', priority: 100, from: {}, to: null, via: [], classes: null },
    count_max: limits.routes_max,
    isRule: true,
    uses: ({ from, to, via }) => [...selected(from), ...selected(to ?? {}), ...usesOf('node', via)],
    audience: (_name, { from, to, via }) => [from, ...(to === null ? [] : [to]), { nodes: via }],
  },
  service: {
    name: 'service',
    plural: 'services',
    what: 'named TCP and UDP endpoints, and the nodes that host them',
    spec: ServiceSpec,
    defaults: { description: '', tenant: null, protocol: 'tcp', hosts: {} },
    count_max: limits.services_max,
    isRule: true,
    uses: ({ tenant, hosts }) => [...usesOf('tenant', tenant === null ? [] : [tenant]), ...selected(hosts)],
    audience: (_name, { hosts }) => [hosts],
  },
};

export const kindNames = Object.keys(kinds) as KindName[];

/** Of a document of any age: what it says, and the defaults for the rest. */
export function completeSpec<Name extends KindName>(kind: Kind<Name>, said: object): Specs[Name] {
  return { ...kind.defaults, ...said } as Specs[Name];
}

/** The properties of a kind as a request gives them: what has a default may be left out. */
export function givenProperties(kind: Kind<KindName>): Record<string, TSchema> {
  return Object.fromEntries(Object.entries(kind.spec.properties).map(([key, schema]) => [key, key in kind.defaults ? Type.Optional(schema) : schema]));
}

function selected({ nodes = [], roles = [], sites = [], tenants = [] }: Selector): Use[] {
  return [...usesOf('node', nodes), ...usesOf('role', roles), ...usesOf('site', sites), ...usesOf('tenant', tenants)];
}

function usesOf(kind: Use['kind'], names: readonly string[]): Use[] {
  return names.map((name) => ({ kind, name }));
}
