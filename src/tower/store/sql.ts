/**
 * The store's queries, written once for SQLite and PostgreSQL: no function, type or conflict clause that one of them lacks. A change goes
 * through `recordChange`, the only writer of versions and audit rows. App networks are in sql-app.ts. What the engine is, who opens it and what its errors mean, comes
 * in from outside (sqlite.ts).
 */
import type { Kysely, Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import type { Endpoint } from '../../enroll/wire.ts';
import type { AccessStore } from '../access/access-store.ts';
import { sqlAccessStore } from '../access/store-sql.ts';
import { auditBreak } from '../audit/audit.ts';
import type { Tables } from '../schema/tables.ts';
import { changeNode, mustFind, nodeRow, scopesOf, setLeaving } from './sql-nodes.ts';
import { offerLeaf, retireLeaves, useLeaf } from './sql-renewal.ts';
import { recordChange, SCOPE_ALL, SCOPE_EVERYBODY, versionOf } from './sql-change.ts';
import { GroupCommit } from './group.ts';
import { SqlAppStore } from './sql-app.ts';
import { forgetBoot, SqlUnsealStore } from './sql-unseal.ts';
import type { UnsealStore } from '../unseal/unseal-store.ts';
import { SqlProofStore } from './sql-proofs.ts';
import type { ProofStore } from './proof-store.ts';
import { sqlResourceStores } from './sql-resources.ts';
import { countOf } from './sql-grants.ts';
import { sqlTrustStore } from './sql-trust.ts';
import { SqlViews } from './sql-view.ts';
import type { TrustStore } from '../trust/trust-store.ts';
import type { NodeView, RuleSet, Seen, Selectable as Selected } from '../rules-snapshot.ts';
import type { By, Match, ResourceStores } from '../resources/resource-store.ts';
import type { AuditRow, ClusterRow, NodeRow, NodeSettings, Store, StoreEvent, NodePageRequest } from './store.ts';

const AUDIT_PAGE_ROWS = 1_000;

interface SqlParts {
  readonly db: Kysely<Tables>;
  readonly path: string;
  /** One connection for all: changes that come together are committed together (store-group.ts). */
  readonly isGrouped: boolean;
  readonly rule: (error: unknown) => unknown;
  readonly copy: (file: string) => Promise<void>;
}

export class SqlStore implements Store {
  readonly path: string;
  readonly app: SqlAppStore;
  readonly unseal: UnsealStore;
  readonly access: AccessStore;
  readonly proofs: ProofStore;
  readonly resources: ResourceStores;
  readonly trust: TrustStore;
  readonly #db: Kysely<Tables>;
  readonly #views = new SqlViews();
  readonly #group: GroupCommit<Tables> | null;
  readonly #rule: (error: unknown) => unknown;
  readonly #copy: (file: string) => Promise<void>;
  #closed: Promise<void> | null = null;

  constructor(given: SqlParts) {
    this.path = given.path;
    this.#db = given.db;
    const onLost = () => {
      this.#views.forget();
      this.app.forget();
    };
    this.#group = given.isGrouped ? new GroupCommit({ db: given.db, onLost }) : null;
    this.#rule = given.rule;
    this.#copy = given.copy;
    this.app = new SqlAppStore({ write: (work) => this.#write(work), look: (query) => this.#look(query) });
    this.trust = sqlTrustStore({ write: (work) => this.#write(work), look: (query) => this.#look(query) });
    this.unseal = new SqlUnsealStore({ write: (work) => this.#write(work), look: (query) => this.#look(query) });
    this.access = sqlAccessStore({ read: (query) => this.#read(query), write: (change) => this.#write(change) });
    this.proofs = new SqlProofStore({ read: (query) => this.#read(query), write: (work) => this.#write(work) });
    this.resources = sqlResourceStores((work) => this.#write(work));
  }

  cluster(): Promise<ClusterRow | null> {
    return this.#read(async (db) => {
      const row = await db.selectFrom('cluster').selectAll().executeTakeFirst();
      return row === undefined ? null : clusterRow(row);
    });
  }

  setCluster(row: ClusterRow, at_ms: number): Promise<void> {
    const values = {
      cluster: row.cluster,
      root_fingerprint: row.rootFingerprint,
      tower_fingerprint: row.towerFingerprint,
      endpoints: JSON.stringify(row.endpoints),
      created_ms: row.created_ms,
      vtep_range: row.vtepRange,
    };
    return this.#write(async (tx) => {
      await tx
        .insertInto('cluster')
        .values({ one: 1, ...values })
        .onConflict((conflict) => conflict.column('one').doUpdateSet(values))
        .execute();
      await recordChange(tx, { at_ms, actor: 'tower', action: 'cluster.set', subject: row.cluster, detail: { ...values }, scopes: [SCOPE_EVERYBODY] });
    });
  }

  version(): Promise<number> {
    return this.#read((db) => versionOf(db, [SCOPE_ALL]));
  }

  seenBy(node: Selected): Promise<Seen> {
    return this.#look((tx) => this.#views.seen(tx, node));
  }

  rules(): Promise<RuleSet> {
    return this.#look((tx) => this.#views.rules(tx));
  }

  view(node: Selected): Promise<NodeView> {
    return this.#look((tx) => this.#views.view(tx, node));
  }

  node(id: string): Promise<NodeRow | null> {
    return this.#findNode('id', id);
  }

  nodeNamed(name: string): Promise<NodeRow | null> {
    return this.#findNode('name', name);
  }

  nodes(filter?: { site: string }): Promise<readonly NodeRow[]> {
    return this.#read(async (db) => {
      const all = db.selectFrom('nodes').selectAll().orderBy('id');
      return (await (filter === undefined ? all : all.where('site', '=', filter.site)).execute()).map(nodeRow);
    });
  }

  nodePage({ after, limit, site, tenant }: NodePageRequest): Promise<readonly NodeRow[]> {
    return this.#read(async (db) => {
      const all = db.selectFrom('nodes').selectAll().orderBy('id').limit(limit);
      const ofSite = site === undefined ? all : all.where('site', '=', site);
      const ofTenant = tenant === undefined ? ofSite : ofSite.where('tenant', '=', tenant);
      return (await (after === null ? ofTenant : ofTenant.where('id', '>', after)).execute()).map(nodeRow);
    });
  }

  counts(): Promise<{ readonly nodes: number; readonly tokens: number }> {
    return this.#read(async (db) => ({ nodes: await countOf(db, 'nodes'), tokens: await countOf(db, 'grants', { kind: 'token' }) }));
  }

  setEndpoints(id: string, endpoints: readonly Endpoint[], at_ms: number): Promise<boolean> {
    const text = JSON.stringify(endpoints);
    return this.#write(async (tx) => {
      const found = await mustFind(tx, id);
      if (JSON.stringify(found.endpoints) === text) return false;
      await tx.updateTable('nodes').set({ endpoints: text }).where('id', '=', id).execute();
      const scopes = await scopesOf(tx, found);
      await recordChange(tx, { at_ms, actor: `node:${id}`, action: 'node.endpoints', subject: id, detail: { endpoints }, scopes });
      return true;
    });
  }

  offerLeaf(...[id, next, holding, at_ms]: Parameters<Store['offerLeaf']>): Promise<NodeRow> {
    return this.#write((tx) => offerLeaf(tx, id, next, holding, at_ms));
  }

  useLeaf(id: string, fingerprint: string, at_ms: number): Promise<NodeRow> {
    return this.#write((tx) => useLeaf(tx, id, fingerprint, at_ms));
  }

  retireLeaves(at_ms: number): Promise<readonly NodeRow[]> {
    return this.#write((tx) => retireLeaves(tx, at_ms));
  }

  setLeaf(id: string, leaf: { fingerprint: string; leaf: string } | null, at_ms: number, actor = 'admin'): Promise<NodeRow> {
    const columns = leaf === null ? { fingerprint: null, leaf: null } : { fingerprint: leaf.fingerprint, leaf: leaf.leaf };
    return this.#write(async (tx) => {
      const found = await mustFind(tx, id);
      if (found.fingerprint === columns.fingerprint && found.renewal === null) return found;
      if (leaf === null) await forgetBoot(tx, id);
      const action = leaf === null ? 'node.revoke' : 'node.leaf';
      const detail = { before: found.fingerprint, now: columns.fingerprint };
      const revision = await recordChange(tx, { at_ms, actor, action, subject: id, detail, scopes: await scopesOf(tx, found) });
      await tx
        .updateTable('nodes')
        .set({ ...columns, renewal: null, leaving_ms: null, revision })
        .where('id', '=', id)
        .execute();
      return { ...found, ...columns, renewal: null, leaving_ms: null, revision };
    });
  }

  setLeaving(id: string, leaving_ms: number, by: By): Promise<NodeRow> {
    return this.#write((tx) => setLeaving(tx, id, leaving_ms, by));
  }

  setNode(id: string, settings: Partial<NodeSettings>, match: Match, by: By): Promise<NodeRow> {
    return this.#write((tx) => changeNode(tx, id, settings, match, by));
  }

  seen(id: string, at_ms: number): Promise<void> {
    return this.#read(async (db) => {
      await db.updateTable('nodes').set({ seen_ms: at_ms }).where('id', '=', id).execute();
    });
  }

  note({ action, subject, detail, version_min }: StoreEvent, { actor, at_ms }: By): Promise<number> {
    const scopes = version_min === undefined ? [] : [SCOPE_EVERYBODY];
    return this.#write((tx) => recordChange(tx, { at_ms, actor, action, subject, detail, scopes, ...(version_min !== undefined && { version_min }) }));
  }

  copyTo(file: string): Promise<void> {
    // Nothing else is under way on the connection while it is held.
    return this.#read((db) => db.connection().execute(() => this.#copy(file)));
  }

  head(): Promise<AuditRow | null> {
    return this.#read(async (db) => {
      const row = await db.selectFrom('audit').selectAll().orderBy('seq', 'desc').limit(1).executeTakeFirst();
      return row === undefined ? null : auditRow(row);
    });
  }

  audit(after_seq: number, count_max: number): Promise<readonly AuditRow[]> {
    return this.#read(async (db) =>
      (await db.selectFrom('audit').selectAll().where('seq', '>', after_seq).orderBy('seq').limit(count_max).execute()).map(auditRow),
    );
  }

  async verifyAudit(): Promise<void> {
    const damaged = (why: string) => new SelvedgeError('store_damaged', { path: this.path, why });
    const version = await this.version();
    let last: AuditRow | null = null;
    for (;;) {
      const page: readonly AuditRow[] = await this.audit(last?.seq ?? 0, AUDIT_PAGE_ROWS);
      for (const row of page) {
        const why = auditBreak(last, row);
        if (why !== null) throw damaged(why);
        last = row;
      }
      if (page.length < AUDIT_PAGE_ROWS) break;
    }
    // Rows that were added while this walked are whole too, or the next walk says so.
    if ((last?.version ?? 0) < version) throw damaged(`its audit log ends at version ${last?.version ?? 0} of ${version}`);
  }

  close(): Promise<void> {
    this.#closed ??= this.#db.destroy();
    return this.#closed;
  }

  #findNode(column: 'id' | 'name', value: string): Promise<NodeRow | null> {
    return this.#read(async (db) => {
      const row = await db.selectFrom('nodes').selectAll().where(column, '=', value).executeTakeFirst();
      return row === undefined ? null : nodeRow(row);
    });
  }

  async #read<Result>(query: (db: Kysely<Tables>) => Promise<Result>): Promise<Result> {
    if (this.#closed !== null) throw new SelvedgeError('handle_closed', { what: 'store' });
    try {
      return await query(this.#db);
    } catch (error) {
      throw this.#rule(error);
    }
  }

  /** Several queries at one moment. */
  #look<Result>(query: (tx: Transaction<Tables>) => Promise<Result>): Promise<Result> {
    return this.#read((db) => this.#group?.read(query) ?? db.transaction().execute(query));
  }

  #write<Result>(change: (tx: Transaction<Tables>) => Promise<Result>): Promise<Result> {
    return this.#read((db) => this.#group?.write(change) ?? db.transaction().execute(change));
  }
}

// `bigint` columns come back as text from some drivers; the rest is a matter of names.

function clusterRow(row: Selectable<Tables['cluster']>): ClusterRow {
  return {
    cluster: row.cluster,
    rootFingerprint: row.root_fingerprint,
    towerFingerprint: row.tower_fingerprint,
    endpoints: JSON.parse(row.endpoints) as Endpoint[],
    created_ms: Number(row.created_ms),
    vtepRange: row.vtep_range,
  };
}

function auditRow(row: Selectable<Tables['audit']>): AuditRow {
  return { ...row, seq: Number(row.seq), version: Number(row.version), at_ms: Number(row.at_ms) };
}
