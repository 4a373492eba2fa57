/**
 * The store's queries, written once for SQLite and PostgreSQL: no function, type or conflict clause that one of them lacks. A change goes
 * through `recordChange`, the only writer of versions and audit rows. App networks are in store-sql-app.ts. What the engine is, who opens it and what its errors mean, comes
 * in from outside (store-sqlite.ts).
 */
import type { Kysely, Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../base/errors.ts';
import { equalBytes } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Endpoint } from '../enroll/wire.ts';
import type { AppStore } from './app-store.ts';
import { auditBreak } from './audit.ts';
import type { Tables } from './schema/tables.ts';
import { changeNode, insertNode, mustFind, nodeRow, scopesOf, siteSettingsOf } from './store-sql-nodes.ts';
import { offerLeaf, retireLeaves, useLeaf } from './store-sql-renewal.ts';
import { appScopesOf, recordChange, ruleScopesOf, SCOPE_ALL, SCOPE_EVERYBODY, scopeOfNode, scopeOfSite, versionOf } from './store-sql-change.ts';
import { SqlAppStore } from './store-sql-app.ts';
import { sqlResourceStores } from './store-sql-resources.ts';
import type { By, Match, PageRequest, ResourceStores } from './resources/resource-store.ts';
import type { Admission, AuditRow, ClusterRow, NewNode, NewToken, NodeRow, NodeSettings, Store, TokenProof, TokenRow } from './store.ts';

const AUDIT_PAGE_ROWS = 1_000;

export class SqlStore implements Store {
  readonly path: string;
  readonly app: AppStore;
  readonly resources: ResourceStores;
  readonly #db: Kysely<Tables>;
  readonly #rule: (error: unknown) => unknown;
  #closed: Promise<void> | null = null;

  constructor(given: { db: Kysely<Tables>; path: string; rule: (error: unknown) => unknown }) {
    this.path = given.path;
    this.#db = given.db;
    this.#rule = given.rule;
    this.app = new SqlAppStore((work) => this.#write(work));
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

  scopeVersion({ id, site }: Pick<NodeRow, 'id' | 'site'>): Promise<number> {
    return this.#write(
      async (tx) => await versionOf(tx, [SCOPE_EVERYBODY, scopeOfSite(site), scopeOfNode(id), ...(await appScopesOf(tx, id)), ...(await ruleScopesOf(tx, id))]),
    );
  }

  createToken(token: NewToken, at_ms: number): Promise<TokenRow> {
    return this.#write(async (tx) => {
      await checkRoom(tx, 'tokens', limits.tokens_max);
      const { id, hash, usesMax, site, expires_ms } = token;
      await tx.insertInto('tokens').values({ id, hash, uses: 0, uses_max: usesMax, site, expires_ms, revoked_ms: null, created_ms: at_ms }).execute();
      await recordChange(tx, { at_ms, actor: 'admin', action: 'token.create', subject: id, detail: { usesMax, site, expires_ms }, scopes: [] });
      return { ...token, uses: 0, revoked_ms: null, created_ms: at_ms };
    });
  }

  tokens(): Promise<readonly TokenRow[]> {
    return this.#read(async (db) => (await db.selectFrom('tokens').selectAll().orderBy('created_ms').orderBy('id').execute()).map(tokenRow));
  }

  tokenPage({ after, limit }: PageRequest): Promise<readonly TokenRow[]> {
    return this.#read(async (db) => {
      const all = db.selectFrom('tokens').selectAll().orderBy('id').limit(limit);
      return (await (after === null ? all : all.where('id', '>', after)).execute()).map(tokenRow);
    });
  }

  revokeToken(id: string, at_ms: number): Promise<TokenRow> {
    return this.#write(async (tx) => {
      const found = await tx.selectFrom('tokens').selectAll().where('id', '=', id).executeTakeFirst();
      if (found === undefined) throw new SelvedgeError('not_found', { what: 'token', name: id });
      if (found.revoked_ms !== null) return tokenRow(found);
      await tx.updateTable('tokens').set({ revoked_ms: at_ms }).where('id', '=', id).execute();
      await recordChange(tx, { at_ms, actor: 'admin', action: 'token.revoke', subject: id, detail: { uses: found.uses }, scopes: [] });
      return tokenRow({ ...found, revoked_ms: at_ms });
    });
  }

  admit(proof: TokenProof, csrHash: string, site: string | null, at_ms: number): Promise<Admission> {
    return this.#read(async (db) => {
      const token = await believe(db, proof);
      const answered = await answeredBefore(db, token.id, csrHash);
      const chosen = site ?? token.site;
      if (answered === null) checkUsable(token, chosen, at_ms);
      return { answered, site: chosen };
    });
  }

  enroll(proof: TokenProof, node: NewNode, at_ms: number): Promise<NodeRow> {
    return this.#write(async (tx) => {
      const token = await believe(tx, proof);
      const answered = await answeredBefore(tx, token.id, node.csrHash);
      if (answered !== null) return answered;
      await takeUse(tx, token, node.site, at_ms);
      await checkRoom(tx, 'nodes', limits.tower_nodes_max);
      await checkRoom(tx, 'nodes', limits.site_nodes_max, node.site);
      const { tenant = (await siteSettingsOf(tx, node.site)).tenant, roles = [] } = node;
      const detail = { name: node.name, site: node.site, fingerprint: node.fingerprint, token: token.id };
      const scopes = [scopeOfSite(node.site)];
      const revision = await recordChange(tx, { at_ms, actor: `token:${token.id}`, action: 'node.enroll', subject: node.id, detail, scopes });
      const made: NodeRow = { ...node, renewal: null, disabled: false, created_ms: at_ms, seen_ms: null, tenant, roles, revision };
      await insertNode(tx, made);
      await tx.insertInto('enrollments').values({ token_id: token.id, csr_hash: node.csrHash, node_id: node.id, at_ms }).execute();
      return made;
    });
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

  nodePage({ after, limit, site }: PageRequest & { readonly site?: string }): Promise<readonly NodeRow[]> {
    return this.#read(async (db) => {
      const all = db.selectFrom('nodes').selectAll().orderBy('id').limit(limit);
      const ofSite = site === undefined ? all : all.where('site', '=', site);
      return (await (after === null ? ofSite : ofSite.where('id', '>', after)).execute()).map(nodeRow);
    });
  }

  counts(): Promise<{ readonly nodes: number; readonly tokens: number }> {
    return this.#read(async (db) => ({ nodes: await countOf(db, 'nodes'), tokens: await countOf(db, 'tokens') }));
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

  setLeaf(id: string, leaf: { fingerprint: string; leaf: string } | null, at_ms: number): Promise<NodeRow> {
    const columns = leaf === null ? { fingerprint: null, leaf: null } : { fingerprint: leaf.fingerprint, leaf: leaf.leaf };
    return this.#write(async (tx) => {
      const found = await mustFind(tx, id);
      if (found.fingerprint === columns.fingerprint && found.renewal === null) return found;
      await tx
        .updateTable('nodes')
        .set({ ...columns, renewal: null })
        .where('id', '=', id)
        .execute();
      const action = leaf === null ? 'node.revoke' : 'node.leaf';
      const detail = { before: found.fingerprint, now: columns.fingerprint };
      await recordChange(tx, { at_ms, actor: 'admin', action, subject: id, detail, scopes: await scopesOf(tx, found) });
      return { ...found, ...columns, renewal: null };
    });
  }

  setNode(id: string, settings: Partial<NodeSettings>, match: Match, by: By): Promise<NodeRow> {
    return this.#write((tx) => changeNode(tx, id, settings, match, by));
  }

  seen(id: string, at_ms: number): Promise<void> {
    return this.#read(async (db) => {
      await db.updateTable('nodes').set({ seen_ms: at_ms }).where('id', '=', id).execute();
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

  #write<Result>(change: (tx: Transaction<Tables>) => Promise<Result>): Promise<Result> {
    return this.#read((db) => db.transaction().execute(change));
  }
}

/** The token of this id, if the hash is its own. Unknown and wrong read the same from outside. */
async function believe(db: Kysely<Tables>, proof: TokenProof): Promise<TokenRow> {
  const row = await db.selectFrom('tokens').selectAll().where('id', '=', proof.id).executeTakeFirst();
  const encoder = new TextEncoder();
  if (row === undefined || !equalBytes(encoder.encode(row.hash), encoder.encode(proof.hash))) {
    throw new SelvedgeError('token_invalid', { why: 'no token of this cluster' });
  }
  return tokenRow(row);
}

async function answeredBefore(db: Kysely<Tables>, tokenId: string, csrHash: string): Promise<NodeRow | null> {
  const row = await db
    .selectFrom('enrollments')
    .innerJoin('nodes', 'nodes.id', 'enrollments.node_id')
    .selectAll('nodes')
    .where('enrollments.token_id', '=', tokenId)
    .where('enrollments.csr_hash', '=', csrHash)
    .executeTakeFirst();
  if (row === undefined) return null;
  const node = nodeRow(row);
  if (node.leaf === null) throw new SelvedgeError('token_invalid', { why: `the node ${node.name} that it made was revoked` });
  return node;
}

function checkUsable(token: TokenRow, site: string | null, at_ms: number): void {
  if (token.revoked_ms !== null) throw new SelvedgeError('token_revoked');
  if (token.expires_ms <= at_ms) throw new SelvedgeError('token_expired', { expires: new Date(token.expires_ms).toISOString() });
  if (token.uses >= token.usesMax) throw new SelvedgeError('token_exhausted', { limit: token.usesMax });
  if (token.site !== null && token.site !== site) throw new SelvedgeError('token_invalid', { why: `it is for site ${token.site}, not ${site}` });
}

/** The update itself carries the limit, so that two at once cannot both pass, whatever the engine's isolation. */
async function takeUse(tx: Transaction<Tables>, token: TokenRow, site: string, at_ms: number): Promise<void> {
  checkUsable(token, site, at_ms);
  const taken = await tx
    .updateTable('tokens')
    .set((set) => ({ uses: set('uses', '+', 1) }))
    .where('id', '=', token.id)
    .where('revoked_ms', 'is', null)
    .whereRef('uses', '<', 'uses_max')
    .executeTakeFirst();
  if (taken.numUpdatedRows === 1n) return;
  const now = await tx.selectFrom('tokens').selectAll().where('id', '=', token.id).executeTakeFirstOrThrow();
  throw now.revoked_ms === null ? new SelvedgeError('token_exhausted', { limit: token.usesMax }) : new SelvedgeError('token_revoked');
}

async function checkRoom(tx: Transaction<Tables>, table: 'nodes' | 'tokens', max: number, site?: string): Promise<void> {
  if ((await countOf(tx, table, site)) >= max) throw new SelvedgeError('limit_reached', { limit: site === undefined ? table : `nodes of site ${site}`, max });
}

async function countOf(db: Kysely<Tables>, table: 'nodes' | 'tokens', site?: string): Promise<number> {
  const all = db.selectFrom(table).select((select) => select.fn.countAll().as('count'));
  const row = await (site === undefined ? all : all.where('site', '=', site)).executeTakeFirstOrThrow();
  return Number(row.count);
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

function tokenRow(row: Selectable<Tables['tokens']>): TokenRow {
  return {
    id: row.id,
    hash: row.hash,
    uses: row.uses,
    usesMax: row.uses_max,
    site: row.site,
    expires_ms: Number(row.expires_ms),
    revoked_ms: row.revoked_ms === null ? null : Number(row.revoked_ms),
    created_ms: Number(row.created_ms),
  };
}

function auditRow(row: Selectable<Tables['audit']>): AuditRow {
  return { ...row, seq: Number(row.seq), version: Number(row.version), at_ms: Number(row.at_ms) };
}
