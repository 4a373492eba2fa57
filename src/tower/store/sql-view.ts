/**
 * What one node's snapshot is cut from, read at one moment: the version of what it may know, the nodes that rules may let it talk to, how far each has to have heard of
 * rules, and the cluster's rules.
 */
import type { Transaction } from 'kysely';
import { limits } from '../../base/limits.ts';
import { reachOf } from '../../policy/directory.ts';
import { completeSpec, type KindName, kinds, type Specs } from '../resources/kinds.ts';
import type { NamedRule, NodeView, RuleSet, Seen, Selectable } from '../rules-snapshot.ts';
import type { Tables } from '../schema/tables.ts';
import {
  appScopesOf,
  epochOf,
  epochPrefix,
  ruleScopesOf,
  SCOPE_EVERYBODY,
  SCOPE_RULES,
  scopeOfNode,
  scopeOfRole,
  scopeOfSite,
  scopeOfTenant,
  versionOf,
  versionsOf,
} from './sql-change.ts';
import { nodeRow } from './sql-nodes.ts';
import type { NodeRow } from './store.ts';
import { VersionCache } from '../version-cache.ts';

type Tx = Transaction<Tables>;

interface KeptRules {
  readonly version: number;
  readonly rules: RuleSet;
  readonly epochs: ReadonlyMap<string, number>;
}

/** Every change of a node moves its site's scope, and every change of a rule the rules': so both are read once for all the nodes that hear of them. */
export class SqlViews {
  readonly #nodes = new VersionCache<NodeRow>(limits.site_cache_nodes_max);
  #rules: KeptRules | null = null;

  /** What was remembered of a transaction that was lost may never have been. */
  forget(): void {
    this.#nodes.clear();
    this.#rules = null;
  }

  async view(tx: Tx, node: Selectable): Promise<NodeView> {
    const { rules, epochs } = await this.#rulesNow(tx);
    const { version, sites } = await this.seen(tx, node);
    const nodes = await this.#nodesOf(tx, sites === 'all' ? await allSites(tx) : [...sites]);
    return { version, nodes, rules, epochOf: (one) => newestEpoch(epochs, one) };
  }

  /** Which sites' changes a node's snapshot may show, and the version of the last change that it may see. */
  async seen(tx: Tx, node: Selectable): Promise<Seen> {
    const { rules } = await this.#rulesNow(tx);
    const { isEverywhere, sites, nodes } = reachOf(node, rules);
    const seen = isEverywhere ? 'all' : new Set([node.site, ...sites, ...(nodes.size === 0 ? [] : await sitesOf(tx, [...nodes]))]);
    const ofSites = seen === 'all' ? [...(await versionsOf(tx, SITE_PREFIX)).values()] : [await versionOf(tx, [...seen].map(scopeOfSite))];
    const own = await versionOf(tx, [SCOPE_EVERYBODY, scopeOfNode(node.id), ...(await appScopesOf(tx, node.id)), ...(await ruleScopesOf(tx, node.id))]);
    return { version: ofSites.reduce((newest, one) => Math.max(newest, one), own), sites: seen };
  }

  async #nodesOf(tx: Tx, sites: readonly string[]): Promise<readonly NodeRow[]> {
    if (sites.length === 1 && sites[0] !== undefined) return await this.#nodesAt(tx, sites[0], await versionOf(tx, [scopeOfSite(sites[0])]));
    const versions = await versionsOf(tx, SITE_PREFIX);
    const nodes: NodeRow[] = [];
    for (const site of sites) for (const row of await this.#nodesAt(tx, site, versions.get(scopeOfSite(site)) ?? 0)) nodes.push(row);
    return nodes;
  }

  async #nodesAt(tx: Tx, site: string, version: number): Promise<readonly NodeRow[]> {
    const kept = this.#nodes.get(site, version);
    if (kept !== null) return kept;
    const rows = (await tx.selectFrom('nodes').selectAll().where('site', '=', site).orderBy('id').execute()).map(nodeRow);
    this.#nodes.set(site, version, rows);
    return rows;
  }

  async rules(tx: Tx): Promise<RuleSet> {
    return (await this.#rulesNow(tx)).rules;
  }

  async #rulesNow(tx: Tx): Promise<KeptRules> {
    const version = await versionOf(tx, [SCOPE_RULES]);
    if (this.#rules === null || this.#rules.version !== version)
      this.#rules = { version, rules: await readRules(tx), epochs: await versionsOf(tx, epochPrefix) };
    return this.#rules;
  }
}

const SITE_PREFIX = scopeOfSite('');

/** The last change of a rule that concerns a node, or of what rules select it by. */
function newestEpoch(epochs: ReadonlyMap<string, number>, { id, site, tenant, roles }: Selectable): number {
  if (epochs.size === 0) return 0;
  const scopes = [SCOPE_EVERYBODY, scopeOfNode(id), scopeOfSite(site), ...roles.map(scopeOfRole), ...(tenant === null ? [] : [scopeOfTenant(tenant)])];
  return scopes.reduce((newest, scope) => Math.max(newest, epochs.get(epochOf(scope)) ?? 0), 0);
}

async function allSites(tx: Tx): Promise<string[]> {
  return (await tx.selectFrom('nodes').select('site').distinct().orderBy('site').execute()).map(({ site }) => site);
}

async function sitesOf(tx: Tx, nodes: readonly string[]): Promise<string[]> {
  return (await tx.selectFrom('nodes').select('site').distinct().where('id', 'in', nodes).execute()).map(({ site }) => site);
}

async function readRules(tx: Tx): Promise<RuleSet> {
  return {
    roles: await rulesOf(tx, 'role'),
    policies: await rulesOf(tx, 'policy'),
    routes: await rulesOf(tx, 'route'),
    services: await rulesOf(tx, 'service'),
  };
}

async function rulesOf<Name extends KindName>(tx: Tx, kind: Name): Promise<readonly NamedRule<Specs[Name]>[]> {
  const rows = await tx.selectFrom('resources').select(['name', 'spec']).where('kind', '=', kind).orderBy('name').execute();
  return rows.map(({ name, spec }) => ({ name, ...completeSpec(kinds[kind], JSON.parse(spec) as object) }));
}
