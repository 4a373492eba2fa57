/** What one node's snapshot is cut from, read at one moment: the version of what it may know, the nodes of its site, and the cluster's rules. */
import type { Transaction } from 'kysely';
import { limits } from '../base/limits.ts';
import { completeSpec, type KindName, kinds, type Specs } from './resources/kinds.ts';
import type { NamedRule, NodeView, RuleSet } from './rules-snapshot.ts';
import type { Tables } from './schema/tables.ts';
import { appScopesOf, ruleScopesOf, SCOPE_EVERYBODY, SCOPE_RULES, scopeOfNode, scopeOfSite, versionOf } from './store-sql-change.ts';
import { nodeRow } from './store-sql-nodes.ts';
import type { NodeRow } from './store.ts';
import { VersionCache } from './version-cache.ts';

type Tx = Transaction<Tables>;
type Node = Pick<NodeRow, 'id' | 'site'>;

/** Version of the last change that this node may see. */
export async function scopeVersionOf(tx: Tx, { id, site }: Node): Promise<number> {
  return await versionOf(tx, [SCOPE_EVERYBODY, scopeOfSite(site), scopeOfNode(id), ...(await appScopesOf(tx, id)), ...(await ruleScopesOf(tx, id))]);
}

/** Every change of a node moves its site's scope, and every change of a rule the rules': so both are read once for all the nodes that hear of them. */
export class SqlViews {
  readonly #nodes = new VersionCache<NodeRow>(limits.site_cache_nodes_max);
  #rules: { readonly version: number; readonly rules: RuleSet } | null = null;

  /** What was remembered of a transaction that was lost may never have been. */
  forget(): void {
    this.#nodes.clear();
    this.#rules = null;
  }

  async view(tx: Tx, node: Node): Promise<NodeView> {
    return { version: await scopeVersionOf(tx, node), siteNodes: await this.#nodesOf(tx, node.site), rules: await this.#rulesNow(tx) };
  }

  async #nodesOf(tx: Tx, site: string): Promise<readonly NodeRow[]> {
    const version = await versionOf(tx, [scopeOfSite(site)]);
    const kept = this.#nodes.get(site, version);
    if (kept !== null) return kept;
    const rows = (await tx.selectFrom('nodes').selectAll().where('site', '=', site).orderBy('id').execute()).map(nodeRow);
    this.#nodes.set(site, version, rows);
    return rows;
  }

  async #rulesNow(tx: Tx): Promise<RuleSet> {
    const version = await versionOf(tx, [SCOPE_RULES]);
    if (this.#rules === null || this.#rules.version !== version) this.#rules = { version, rules: await readRules(tx) };
    return this.#rules.rules;
  }
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
