/** Whose snapshots a resource shows in, as scopes, and which nodes those are. */
import type { Transaction } from 'kysely';
import type { Selector } from '../../enroll/rule-wire.ts';
import { completeSpec, type Kind, type KindName, kinds, type Specs } from '../resources/kinds.ts';
import type { Told } from '../resources/resource-store.ts';
import type { Tables } from '../schema/tables.ts';
import { SCOPE_EVERYBODY, scopeOfNode, scopeOfRole, scopeOfSite, scopeOfTenant } from './sql-change.ts';
import { usersOf } from './sql-uses.ts';

type Tx = Transaction<Tables>;

/** More scopes than this are everybody's: cheaper to write, and nobody is missed. */
const SCOPES_MAX = 256;

export async function audienceOf<Name extends KindName>(tx: Tx, kind: Kind<Name>, name: string, spec: Specs[Name]): Promise<string[]> {
  const scopes = new Set(kind.audience(name, spec).flatMap(scopesOf));
  if (kind.name === 'service') for (const scope of await dialersOf(tx, name)) scopes.add(scope);
  if (kind.name === 'role') for (const site of await sitesOfRole(tx, name)) scopes.add(scopeOfSite(site));
  return scopes.has(SCOPE_EVERYBODY) || scopes.size > SCOPES_MAX ? [SCOPE_EVERYBODY] : [...scopes];
}

/** The nodes behind some scopes. */
export async function toldOf(tx: Tx, scopes: readonly string[]): Promise<Told> {
  if (scopes.includes(SCOPE_EVERYBODY)) return { everybody: true, nodes: [], sites: [] };
  const nodes = new Set<string>();
  const sites: string[] = [];
  for (const scope of scopes) {
    const at = scope.indexOf(':');
    const [kind, name] = [scope.slice(0, at), scope.slice(at + 1)];
    for (const node of await nodesOf(tx, kind, name)) nodes.add(node);
    if (kind === 'site') sites.push(name);
  }
  return { everybody: false, nodes: [...nodes], sites };
}

/** One list of a selector holds all that it selects: the one of the fewest nodes. */
function scopesOf({ nodes, sites, roles, tenants }: Selector): string[] {
  if (nodes !== undefined) return nodes.map(scopeOfNode);
  if (roles !== undefined) return roles.map(scopeOfRole);
  if (sites !== undefined) return sites.map(scopeOfSite);
  if (tenants !== undefined) return tenants.map(scopeOfTenant);
  return [SCOPE_EVERYBODY];
}

async function nodesOf(tx: Tx, kind: string, name: string): Promise<string[]> {
  if (kind === 'node') return [name];
  return await usersOf(tx, 'node', { kind: kind as KindName, name });
}

/** Who may open flows to a service knows its name. */
async function dialersOf(tx: Tx, service: string): Promise<string[]> {
  const names = await usersOf(tx, 'policy', { kind: 'service', name: service });
  if (names.length === 0) return [];
  const rows = await tx.selectFrom('resources').select('spec').where('kind', '=', 'policy').where('name', 'in', names).execute();
  return rows.flatMap((row) => scopesOf(completeSpec(kinds.policy, JSON.parse(row.spec) as object).from));
}

/** The peers of a role's nodes are told of the role too. */
async function sitesOfRole(tx: Tx, role: string): Promise<string[]> {
  const rows = await tx
    .selectFrom('resource_uses')
    .innerJoin('nodes', 'nodes.id', 'resource_uses.name')
    .select('nodes.site')
    .distinct()
    .where('of_kind', '=', 'role')
    .where('of_name', '=', role)
    .where('kind', '=', 'node')
    .limit(SCOPES_MAX + 1)
    .execute();
  return rows.map((row) => row.site);
}
