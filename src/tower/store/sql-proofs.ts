/** `ProofStore` in SQL, for the same engines as sql.ts. How a use of a grant is taken is in sql-grants.ts. */
import type { Kysely, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Claim, Grant, HostFacts, KnownNode, ProofKind, SiteProofs } from '../../enroll/proof.ts';
import type { Tables } from '../schema/tables.ts';
import type { By, Match, PageRequest } from '../resources/resource-store.ts';
import type { Admission, NewGrant, NewNode, ProofStore, Requested } from './proof-store.ts';
import type { Renewal } from '../renewing/renewal.ts';
import type { NodeRow } from './store.ts';
import { recordChange, scopeOfSite } from './sql-change.ts';
import { answeredBefore, countOf, findGrant, grantRow, mustBeUsable, mustFindGrant, preparedBefore, takeUse, usedBy } from './sql-grants.ts';
import { checkKey } from './sql-keys.ts';
import { insertNode, mustFind, nodeRow, scopesOf, siteSettingsOf } from './sql-nodes.ts';
import { checkMatch } from './sql-resources.ts';
import { putBoot } from './sql-unseal.ts';

type Tx = Transaction<Tables>;

interface Given {
  readonly read: <Result>(query: (db: Kysely<Tables>) => Promise<Result>) => Promise<Result>;
  readonly write: <Result>(change: (tx: Tx) => Promise<Result>) => Promise<Result>;
}

export class SqlProofStore implements ProofStore {
  readonly #read: Given['read'];
  readonly #write: Given['write'];

  constructor({ read, write }: Given) {
    this.#read = read;
    this.#write = write;
  }

  grant(kind: ProofKind, id: string): Promise<Grant | null> {
    return this.#read((db) => findGrant(db, kind, id));
  }

  grants(kind: ProofKind): Promise<readonly Grant[]> {
    return this.#read(async (db) =>
      (await db.selectFrom('grants').selectAll().where('kind', '=', kind).orderBy('created_ms').orderBy('id').execute()).map(grantRow),
    );
  }

  authorities(): Promise<readonly Grant[]> {
    return this.#read(async (db) => (await authorityRows(db).where('revoked_ms', 'is', null).orderBy('created_ms').orderBy('id').execute()).map(grantRow));
  }

  grantPage(kind: ProofKind, { after, limit }: PageRequest): Promise<readonly Grant[]> {
    return this.#read(async (db) => {
      const all = db.selectFrom('grants').selectAll().where('kind', '=', kind).orderBy('id').limit(limit);
      return (await (after === null ? all : all.where('id', '>', after)).execute()).map(grantRow);
    });
  }

  grantsByKind(kinds: readonly ProofKind[], { after, limit }: PageRequest): Promise<readonly Grant[]> {
    const [, kind = '', id = ''] = /^([^:]*):(.*)$/.exec(after ?? '') ?? [];
    return this.#read(async (db) => {
      const all = db.selectFrom('grants').selectAll().where('kind', 'in', kinds).orderBy('kind').orderBy('id').limit(limit);
      const rest = all.where((where) => where.or([where('kind', '>', kind), where.and([where('kind', '=', kind), where('id', '>', id)])]));
      return (await (after === null ? all : rest).execute()).map(grantRow);
    });
  }

  createGrant(grant: NewGrant, { actor, at_ms }: By): Promise<Grant> {
    return this.#write(async (tx) => {
      await checkTenant(tx, grant.tenant);
      const made = await this.#insert(tx, grant, at_ms);
      const { kind, id, tenant, site, name, purpose, usesMax, sources, expires_ms } = made;
      const detail = { tenant, site, name, node: made.node, purpose, usesMax, sources, expires_ms, ...made.detail };
      await recordChange(tx, { at_ms, actor, action: `${kind}.create`, subject: id, detail, scopes: [] });
      return made;
    });
  }

  async #insert(tx: Tx, grant: NewGrant, at_ms: number): Promise<Grant> {
    await checkRoom(tx, 'grants', limits.grants_max);
    const made: Grant = { ...grant, uses: 0, revoked_ms: null, created_ms: at_ms };
    if (made.detail.binding === 'system-ca') await checkAuthorityRoom(tx);
    await checkNameFree(tx, made, at_ms);
    const done = await tx
      .insertInto('grants')
      .values(columnsOf(made))
      .onConflict((conflict) => conflict.doNothing())
      .executeTakeFirst();
    if (done.numInsertedOrUpdatedRows !== 1n) throw new SelvedgeError('grant_exists', { kind: made.kind, id: made.id });
    return made;
  }

  revokeGrant(kind: ProofKind, id: string, { actor, at_ms }: By, match: Match = null): Promise<Grant> {
    return this.#write(async (tx) => {
      const found = await mustFindGrant(tx, kind, id);
      checkMatch(`${kind} grant`, id, Math.floor(found.revoked_ms ?? found.created_ms), match);
      if (found.revoked_ms !== null) return found;
      await tx.updateTable('grants').set({ revoked_ms: at_ms }).where('kind', '=', kind).where('id', '=', id).execute();
      await recordChange(tx, { at_ms, actor, action: `${kind}.revoke`, subject: id, detail: { uses: found.uses }, scopes: [] });
      return { ...found, revoked_ms: at_ms };
    });
  }

  removeGrant(kind: ProofKind, id: string, { actor, at_ms }: By, match: Match = null): Promise<Grant> {
    return this.#write(async (tx) => {
      const found = await mustFindGrant(tx, kind, id);
      checkMatch(`${kind} grant`, id, Math.floor(found.revoked_ms ?? found.created_ms), match);
      await tx.deleteFrom('grants').where('kind', '=', kind).where('id', '=', id).execute();
      await tx.deleteFrom('grant_uses').where('kind', '=', kind).where('grant_id', '=', id).execute();
      await recordChange(tx, { at_ms, actor, action: `${kind}.remove`, subject: id, detail: { uses: found.uses }, scopes: [] });
      return found;
    });
  }

  nodesOfMachine(machine: string): Promise<readonly KnownNode[]> {
    return this.#read(async (db) => {
      const rows = await db
        .selectFrom('node_facts')
        .innerJoin('nodes', 'nodes.id', 'node_facts.node_id')
        .selectAll()
        .where('node_facts.machine', '=', machine)
        .orderBy('nodes.id')
        .limit(limits.fingerprint_matches_max)
        .execute();
      return rows.map((row) => ({
        id: row.id,
        tenant: row.tenant,
        site: row.site,
        spkiHashes: keysOf(row),
        isRevoked: row.leaf === null || row.disabled !== 0,
        facts: { machine: row.machine, macs: row.macs, addresses: JSON.parse(row.addresses) as string[] },
        peer: row.peer,
      }));
    });
  }

  siteProofs(site: string): Promise<SiteProofs> {
    return this.#read(async (db) => {
      const { proofs, x509_binding, fingerprint_certifies } = await siteSettingsOf(db, site);
      return { allowed: proofs, binding: x509_binding, newKeys: fingerprint_certifies };
    });
  }

  preflight(token: Grant, csrHash: string, grant: NewGrant, at_ms: number): Promise<Grant> {
    return this.#write(async (tx) => {
      const before = await preparedBefore(tx, token, csrHash);
      if (before !== null) return before;
      await takeUse(tx, token, grant.site ?? '', at_ms);
      const { kind, id, name, site, tenant, node } = grant;
      if (name !== null && (await tx.selectFrom('nodes').select('id').where('name', '=', name).executeTakeFirst()) !== undefined)
        throw new SelvedgeError('name_taken', { name });
      const made = await this.#insert(tx, grant, at_ms);
      const use = { kind: token.kind, grant_id: token.id, csr_hash: csrHash, subject: null, node_id: node ?? '', at_ms };
      await tx.insertInto('grant_uses').values(use).execute();
      await recordChange(tx, {
        at_ms,
        actor: `token:${token.id}`,
        action: 'node.preflight',
        subject: node ?? '',
        detail: { name, site, tenant, grant: `${kind}:${id}` },
        scopes: [],
      });
      return made;
    });
  }

  admit(claim: Claim, request: Requested, site: string | null, at_ms: number): Promise<Admission> {
    return this.#read(async (db) => {
      // The grant first: whoever uses it up in between with the same request is then found as its answer.
      const grant = 'grant' in claim ? await findGrant(db, claim.grant.kind, claim.grant.id) : null;
      const answered = await answeredBefore(db, claim, request);
      if ('returning' in claim) return { answered, site: claim.returning.site };
      if (answered === null) mustBeUsable(grant, claim.grant.kind, site, at_ms);
      return { answered, site: site ?? claim.grant.site };
    });
  }

  enroll(claim: Claim, node: NewNode, at_ms: number): Promise<NodeRow> {
    return this.#write(async (tx) => {
      const answered = await answeredBefore(tx, claim, node);
      if (answered !== null) return answered;
      const { kind, id, subject } = usedBy(claim);
      const by = { at_ms, actor: `${kind}:${id}` };
      const row = 'returning' in claim ? await renew(tx, node, by) : await make(tx, await takeUse(tx, claim.grant, node.site, at_ms), { node, subject }, by);
      const use = await tx
        .insertInto('grant_uses')
        .values({ kind, grant_id: id, csr_hash: node.csrHash, subject, node_id: row.id, at_ms })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      if (use.numInsertedOrUpdatedRows !== 1n) throw new SelvedgeError('proof_exhausted', { kind, limit: 1 });
      await putFacts(tx, row.id, node);
      if (node.boot !== undefined) await putBoot(tx, row.id, node.boot);
      return row;
    });
  }
}

async function make(tx: Tx, grant: Grant, { node, subject }: { node: NewNode; subject: string | null }, { actor, at_ms }: By): Promise<NodeRow> {
  await checkRoom(tx, 'nodes', limits.tower_nodes_max);
  await checkRoom(tx, 'nodes', limits.site_nodes_max, node.site);
  await checkNameFree(tx, { ...grant, name: node.name }, at_ms);
  await freeRevokedName(tx, node.name);
  const { facts: _facts, boot, peer, ...rest } = node;
  const tenant = grant.tenant ?? (await siteSettingsOf(tx, node.site)).tenant;
  const detail = { name: node.name, site: node.site, tenant, fingerprint: node.fingerprint, peer, ...(subject !== null && { subject }), ...bootDetail(boot) };
  const revision = await recordChange(tx, { at_ms, actor, action: 'node.enroll', subject: node.id, detail, scopes: [scopeOfSite(node.site)] });
  const made: NodeRow = {
    ...rest,
    tenant,
    roles: node.roles ?? [],
    revision,
    renewal: null,
    disabled: false,
    leaving_ms: null,
    created_ms: at_ms,
    seen_ms: null,
  };
  await insertNode(tx, made);
  return made;
}

/** A node that is there already gets another leaf, and perhaps key. @throws not_found, certificate_revoked, peer_disabled, csr_invalid */
async function renew(tx: Tx, node: NewNode, { actor, at_ms }: By): Promise<NodeRow> {
  const found = await mustFind(tx, node.id);
  if (found.leaf === null) throw new SelvedgeError('certificate_revoked', { peer: node.id, why: 'the node was revoked' });
  if (found.disabled) throw new SelvedgeError('peer_disabled', { peer: node.id });
  await checkKey(tx, node.spkiHash, { kind: 'node', id: node.id });
  const { fingerprint, leaf, csrHash, spkiHash, endpoints } = node;
  const detail = { before: found.fingerprint, now: fingerprint, isNewKey: found.spkiHash !== spkiHash, peer: node.peer, ...bootDetail(node.boot) };
  const revision = await recordChange(tx, { at_ms, actor, action: 'node.return', subject: node.id, detail, scopes: await scopesOf(tx, found) });
  const columns = { fingerprint, leaf, csr_hash: csrHash, spki_hash: spkiHash, endpoints: JSON.stringify(endpoints), renewal: null, revision };
  await tx.updateTable('nodes').set(columns).where('id', '=', node.id).execute();
  return { ...found, fingerprint, leaf, csrHash, spkiHash, endpoints, renewal: null, revision };
}

/** A node in the middle of its renewal may hold either key. */
function keysOf({ spki_hash, renewal }: { spki_hash: string; renewal: string | null }): string[] {
  const { next } = renewal === null ? { next: null } : (JSON.parse(renewal) as Renewal);
  return next === null ? [spki_hash] : [spki_hash, next.spkiHash];
}

function bootDetail(boot: NewNode['boot']): { readonly boot?: string } {
  return boot === undefined ? {} : { boot: boot.fingerprint };
}

/** @throws not_found */
async function checkTenant(tx: Tx, name: string | null): Promise<void> {
  if (name === null) return;
  const found = await tx.selectFrom('resources').select('name').where('kind', '=', 'tenant').where('name', '=', name).executeTakeFirst();
  if (found === undefined) throw new SelvedgeError('not_found', { what: 'tenant', name });
}

/** What a revoked node is called once another has its name. */
const revokedName = (id: string) => `revoked-${id}`;
const REVOKED_NAME = /^revoked-[0-9a-f]{12}$/;

/** A name that a grant keeps for a node to come is nobody else's meanwhile, and no node to come is called as only revoked ones are. @throws name_taken */
async function checkNameFree(tx: Tx, { kind, id, name }: Pick<Grant, 'kind' | 'id' | 'name'>, at_ms: number): Promise<void> {
  if (name === null) return;
  if (REVOKED_NAME.test(name)) throw new SelvedgeError('name_taken', { name });
  const kept = await tx
    .selectFrom('grants')
    .select(['kind', 'id', 'expires_ms'])
    .where('name', '=', name)
    .where('uses', '=', 0)
    .where('revoked_ms', 'is', null)
    .execute();
  if (kept.some((other) => (other.kind !== kind || other.id !== id) && (other.expires_ms === null || Number(other.expires_ms) > at_ms)))
    throw new SelvedgeError('name_taken', { name });
}

/** A revoked node does not come back (its key stays refused); the host that follows it may have its name. @throws name_taken */
async function freeRevokedName(tx: Tx, name: string): Promise<void> {
  const found = await tx.selectFrom('nodes').selectAll().where('name', '=', name).executeTakeFirst();
  if (found === undefined) return;
  const { id, leaf } = nodeRow(found);
  if (leaf !== null) return;
  const freed = revokedName(id);
  // A node of before such names were kept may have it.
  const rival = await tx.selectFrom('nodes').select('id').where('name', '=', freed).executeTakeFirst();
  if (rival !== undefined) throw new SelvedgeError('name_taken', { name: freed });
  await tx.updateTable('nodes').set({ name: freed }).where('id', '=', id).execute();
}

async function putFacts(tx: Tx, node_id: string, { facts, peer }: { facts: HostFacts | null; peer: string }): Promise<void> {
  if (facts === null) return;
  const values = { machine: facts.machine, macs: facts.macs, addresses: JSON.stringify(facts.addresses), peer };
  await tx
    .insertInto('node_facts')
    .values({ node_id, ...values })
    .onConflict((conflict) => conflict.column('node_id').doUpdateSet(values))
    .execute();
}

async function checkRoom(tx: Tx, table: 'nodes' | 'grants', max: number, site?: string): Promise<void> {
  const count = await countOf(tx, table, site === undefined ? {} : { site });
  if (count >= max) throw new SelvedgeError('limit_reached', { limit: site === undefined ? table : `nodes of site ${site}`, max });
}

/** Certificates of which authorities are taken: each of them is tried for whoever shows one. */
function authorityRows(db: Kysely<Tables>) {
  return db.selectFrom('grants').selectAll().where('binding', '=', 'system-ca').where('kind', '=', 'x509');
}

async function checkAuthorityRoom(tx: Tx): Promise<void> {
  const max = limits.x509_authorities_max;
  if ((await authorityRows(tx).where('revoked_ms', 'is', null).execute()).length >= max)
    throw new SelvedgeError('limit_reached', { limit: 'authorities', max });
}

function columnsOf({ node, usesMax, sources, detail, ...grant }: Grant) {
  return { ...grant, node_id: node, uses_max: usesMax, sources: JSON.stringify(sources), detail: JSON.stringify(detail), binding: detail.binding ?? null };
}
