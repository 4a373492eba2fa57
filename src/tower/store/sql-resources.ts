/** `ResourceStore` in SQL, for every simple kind, on the same engines as sql.ts. */
import type { Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { completeSpec, type Kind, type KindName, kindNames, kinds, type Specs } from '../resources/kinds.ts';
import type { By, Match, PageRequest, ResourceChange, ResourceRow, ResourceStore, ResourceStores } from '../resources/resource-store.ts';
import type { Tables } from '../schema/tables.ts';
import { audienceOf, toldOf } from './sql-audience.ts';
import { epochOf, recordChange, SCOPE_RULES } from './sql-change.ts';
import { checkUnused, setUses } from './sql-uses.ts';

type Tx = Transaction<Tables>;
type Transact = <Result>(work: (tx: Tx) => Promise<Result>) => Promise<Result>;

export function sqlResourceStores(transact: Transact): ResourceStores {
  const { tenant, site, role, policy, route, service } = kinds;
  return {
    tenant: new SqlResourceStore(tenant, transact),
    site: new SqlResourceStore(site, transact),
    role: new SqlResourceStore(role, transact),
    policy: new SqlResourceStore(policy, transact),
    route: new SqlResourceStore(route, transact),
    service: new SqlResourceStore(service, transact),
  };
}

class SqlResourceStore<Name extends KindName> implements ResourceStore<Specs[Name]> {
  readonly #kind: Kind<Name>;
  readonly #transact: Transact;

  constructor(kind: Kind<Name>, transact: Transact) {
    this.#kind = kind;
    this.#transact = transact;
  }

  get(name: string): Promise<ResourceRow<Specs[Name]> | null> {
    return this.#transact((tx) => this.#find(tx, name));
  }

  page({ after, limit }: PageRequest): Promise<readonly ResourceRow<Specs[Name]>[]> {
    return this.#transact(async (tx) => {
      const all = tx.selectFrom('resources').selectAll().where('kind', '=', this.#kind.name);
      const rest = after === null ? all : all.where('name', '>', after);
      return (await rest.orderBy('name').limit(limit).execute()).map((row) => this.#row(row));
    });
  }

  create(name: string, spec: Specs[Name], by: By): Promise<ResourceChange<Specs[Name]>> {
    return this.#transact(async (tx) => {
      const kind = this.#kind.name;
      if ((await this.#find(tx, name)) !== null) throw new SelvedgeError('resource_exists', { what: kind, name });
      await this.#checkRoom(tx);
      const scopes = await audienceOf(tx, this.#kind, name, spec);
      const revision = await this.#record(tx, 'create', name, { ...spec }, by, scopes);
      const row = { name, spec, revision, created_ms: by.at_ms, changed_ms: by.at_ms };
      await tx
        .insertInto('resources')
        .values({ kind, name, spec: JSON.stringify(spec), revision, created_ms: by.at_ms, changed_ms: by.at_ms })
        .execute();
      await setUses(tx, { kind, name }, this.#kind.uses(spec));
      await this.#checkRulesSize(tx);
      return { row, told: await toldOf(tx, scopes) };
    });
  }

  change(name: string, spec: Specs[Name], match: Match, by: By): Promise<ResourceChange<Specs[Name]>> {
    return this.#transact(async (tx) => {
      const kind = this.#kind.name;
      const found = await this.#mustFind(tx, name, match);
      if (JSON.stringify(found.spec) === JSON.stringify(spec)) return { row: found, told: { everybody: false, nodes: [], sites: [] } };
      // Whoever was concerned, and whoever is from now on.
      const scopes = [...new Set([...(await audienceOf(tx, this.#kind, name, found.spec)), ...(await audienceOf(tx, this.#kind, name, spec))])];
      const revision = await this.#record(tx, 'change', name, { ...spec }, by, scopes);
      await tx
        .updateTable('resources')
        .set({ spec: JSON.stringify(spec), revision, changed_ms: by.at_ms })
        .where('kind', '=', kind)
        .where('name', '=', name)
        .execute();
      await setUses(tx, { kind, name }, this.#kind.uses(spec));
      await this.#checkRulesSize(tx);
      return { row: { ...found, spec, revision, changed_ms: by.at_ms }, told: await toldOf(tx, scopes) };
    });
  }

  delete(name: string, match: Match, by: By): Promise<ResourceChange<Specs[Name]>> {
    return this.#transact(async (tx) => {
      const kind = this.#kind.name;
      const row = await this.#mustFind(tx, name, match);
      await checkUnused(tx, { kind, name });
      const scopes = await audienceOf(tx, this.#kind, name, row.spec);
      const told = await toldOf(tx, scopes);
      await this.#record(tx, 'delete', name, {}, by, scopes);
      await setUses(tx, { kind, name }, []);
      await tx.deleteFrom('resources').where('kind', '=', kind).where('name', '=', name).execute();
      return { row, told };
    });
  }

  #record(tx: Tx, verb: string, name: string, detail: Readonly<Record<string, unknown>>, { actor, at_ms }: By, scopes: readonly string[]): Promise<number> {
    const moved = this.#kind.isRule ? [...scopes, ...scopes.map(epochOf), SCOPE_RULES] : scopes;
    return recordChange(tx, { at_ms, actor, action: `${this.#kind.name}.${verb}`, subject: name, detail, scopes: moved });
  }

  async #find(tx: Tx, name: string): Promise<ResourceRow<Specs[Name]> | null> {
    const row = await tx.selectFrom('resources').selectAll().where('kind', '=', this.#kind.name).where('name', '=', name).executeTakeFirst();
    return row === undefined ? null : this.#row(row);
  }

  async #mustFind(tx: Tx, name: string, match: Match): Promise<ResourceRow<Specs[Name]>> {
    const row = await this.#find(tx, name);
    const what = this.#kind.name;
    if (row === null) throw new SelvedgeError('not_found', { what, name });
    checkMatch(what, name, row.revision, match);
    return row;
  }

  async #checkRoom(tx: Tx): Promise<void> {
    const query = tx.selectFrom('resources').select((select) => select.fn.countAll().as('count'));
    const { count } = await query.where('kind', '=', this.#kind.name).executeTakeFirstOrThrow();
    if (Number(count) >= this.#kind.count_max) throw new SelvedgeError('limit_reached', { limit: this.#kind.plural, max: this.#kind.count_max });
  }

  /** As they are now, this change with them. */
  async #checkRulesSize(tx: Tx): Promise<void> {
    if (!this.#kind.isRule) return;
    const rules = kindNames.filter((kind) => kinds[kind].isRule);
    const query = tx.selectFrom('resources').select((select) => select.fn.sum(select.fn<number>('length', ['spec'])).as('chars'));
    const { chars } = await query.where('kind', 'in', rules).executeTakeFirstOrThrow();
    if (Number(chars) > limits.rules_bytes_max) throw new SelvedgeError('limit_reached', { limit: 'octets of all rules', max: limits.rules_bytes_max });
  }

  #row({ name, spec, revision, created_ms, changed_ms }: Selectable<Tables['resources']>): ResourceRow<Specs[Name]> {
    const times = { revision: Number(revision), created_ms: Number(created_ms), changed_ms: Number(changed_ms) };
    return { name, spec: completeSpec(this.#kind, JSON.parse(spec) as object), ...times };
  }
}

/** @throws changed_meanwhile */
export function checkMatch(what: string, name: string, revision: number, match: Match): void {
  if (match !== null && match !== revision) throw new SelvedgeError('changed_meanwhile', { what, name, found: revision, expected: match });
}
