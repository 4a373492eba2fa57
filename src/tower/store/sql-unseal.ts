/** Queries of site tokens and boot identities, for SQLite and PostgreSQL alike. */
import type { Kysely, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { checkLive } from '../live.ts';
import type { Tables } from '../schema/tables.ts';
import { type Given, recordChange, scopeOfSite } from './sql-change.ts';
import { mustFind } from './sql-nodes.ts';
import type { NodeRow } from './store.ts';
import type { BootRow, SiteTokenRow, UnsealStore } from '../unseal/unseal-store.ts';

export class SqlUnsealStore implements UnsealStore {
  readonly #write: Given['write'];
  readonly #look: Given['look'];

  constructor({ write, look }: Given) {
    this.#write = write;
    this.#look = look;
  }

  siteTokens(site: string): Promise<readonly SiteTokenRow[]> {
    return this.#look((tx) => tokensOf(tx, site));
  }

  siteTokensFor(node: string, spkiHash?: string): Promise<readonly SiteTokenRow[]> {
    return this.#look(async (tx) => tokensOf(tx, (await mustFindLive(tx, node, spkiHash)).site));
  }

  siteToken(site: string, generation: number): Promise<SiteTokenRow | null> {
    return this.#look(async (tx) => {
      const row = await tx.selectFrom('site_tokens').selectAll().where('site', '=', site).where('generation', '=', generation).executeTakeFirst();
      return row === undefined ? null : tokenRow(row);
    });
  }

  newestTokens(): Promise<readonly SiteTokenRow[]> {
    return this.#write(async (tx) => {
      const newest = tx
        .selectFrom('site_tokens')
        .select((select) => ['site', select.fn.max('generation').as('newest')])
        .groupBy('site')
        .as('last');
      const rows = await tx
        .selectFrom('site_tokens')
        .innerJoin(newest, (join) => join.onRef('last.site', '=', 'site_tokens.site').onRef('last.newest', '=', 'site_tokens.generation'))
        .selectAll('site_tokens')
        .execute();
      return rows.map(tokenRow);
    });
  }

  addSiteToken({ site, generation, sealed, created_ms }: SiteTokenRow, kept: { readonly min: number; readonly max: number }): Promise<boolean> {
    return this.#write(async (tx) => {
      const done = await tx
        .insertInto('site_tokens')
        .values({ site, generation, sealed, created_ms })
        .onConflict((conflict) => conflict.doNothing())
        .executeTakeFirst();
      if (done.numInsertedOrUpdatedRows !== 1n) return false;
      const used = await oldestInUse(tx, site);
      // The newest few always stay, and none beyond the most.
      const oldest = Math.max(Math.min(generation - kept.min + 1, used ?? generation), generation - kept.max + 1);
      await tx.deleteFrom('site_tokens').where('site', '=', site).where('generation', '<', oldest).execute();
      await recordChange(tx, { at_ms: created_ms, actor: 'tower', action: 'site.token', subject: site, detail: { generation, oldest }, scopes: [] });
      return true;
    });
  }

  boot(node: string): Promise<BootRow | null> {
    return this.#look(async (tx) => {
      const row = await tx.selectFrom('node_boot').selectAll().where('node_id', '=', node).executeTakeFirst();
      if (row === undefined) return null;
      return { fingerprint: row.fingerprint, previous: row.previous, csrHash: row.csr_hash, chain: JSON.parse(row.chain) as string[] };
    });
  }

  boots(site: string): Promise<ReadonlyMap<string, readonly string[]>> {
    return this.#look(async (tx) => {
      const rows = await tx
        .selectFrom('node_boot')
        .innerJoin('nodes', 'nodes.id', 'node_boot.node_id')
        .select(['node_boot.node_id', 'node_boot.fingerprint', 'node_boot.previous'])
        .where('nodes.site', '=', site)
        .execute();
      return new Map(rows.map(({ node_id, fingerprint, previous }) => [node_id, previous === null ? [fingerprint] : [fingerprint, previous]]));
    });
  }

  setBoot(node: string, boot: Omit<BootRow, 'previous'>, at_ms: number, spkiHash?: string): Promise<void> {
    return this.#write(async (tx) => {
      const { site } = await mustFindLive(tx, node, spkiHash);
      const detail = { fingerprint: boot.fingerprint, previous: await putBoot(tx, node, boot) };
      await recordChange(tx, { at_ms, actor: `node:${node}`, action: 'node.boot', subject: node, detail, scopes: [scopeOfSite(site)] });
    });
  }

  report(node: string, { have, sealed, boot }: { have: number; sealed: number; boot: string | null }, at_ms: number): Promise<boolean> {
    return this.#write(async (tx) => {
      const { site } = await mustFindLive(tx, node);
      const row = { have, sealed };
      await tx
        .insertInto('node_seals')
        .values({ node_id: node, ...row })
        .onConflict((conflict) => conflict.column('node_id').doUpdateSet(row))
        .execute();
      if (boot === null) return false;
      const settled = await tx
        .updateTable('node_boot')
        .set({ previous: null })
        .where('node_id', '=', node)
        .where('fingerprint', '=', boot)
        .where('previous', 'is not', null)
        .executeTakeFirst();
      if (settled.numUpdatedRows !== 1n) return false;
      await recordChange(tx, {
        at_ms,
        actor: `node:${node}`,
        action: 'node.boot',
        subject: node,
        detail: { fingerprint: boot, previous: null },
        scopes: [scopeOfSite(site)],
      });
      return true;
    });
  }

  unsealed(node: string, generation: number, code: string | null, at_ms: number): Promise<void> {
    return this.#write(async (tx) => {
      const action = code === null ? 'node.unseal' : 'node.unseal_refused';
      const detail = code === null ? { generation } : { generation, code };
      await recordChange(tx, { at_ms, actor: `boot:${node}`, action, subject: node, detail, scopes: [] });
    });
  }
}

/** The one that it had becomes the previous one, whose fingerprint this returns. Called in the transaction that records why. */
export async function putBoot(tx: Transaction<Tables>, node: string, { fingerprint, csrHash, chain }: Omit<BootRow, 'previous'>): Promise<string | null> {
  const before = await tx.selectFrom('node_boot').select('fingerprint').where('node_id', '=', node).executeTakeFirst();
  const row = { fingerprint, previous: before?.fingerprint ?? null, csr_hash: csrHash, chain: JSON.stringify(chain) };
  await tx
    .insertInto('node_boot')
    .values({ node_id: node, ...row })
    .onConflict((conflict) => conflict.column('node_id').doUpdateSet(row))
    .execute();
  return row.previous;
}

/** Called in the transaction that revokes a node: what it had in clear is worth nothing from then on, also if the node enrolls again. */
export async function forgetBoot(tx: Transaction<Tables>, node: string): Promise<void> {
  await tx.deleteFrom('node_boot').where('node_id', '=', node).execute();
  await tx.deleteFrom('node_seals').where('node_id', '=', node).execute();
}

/** `spkiHash`: of the key that it is to have. @throws not_found, certificate_revoked, peer_disabled, csr_invalid */
async function mustFindLive(tx: Transaction<Tables>, id: string, spkiHash?: string): Promise<NodeRow> {
  const row = await mustFind(tx, id);
  checkLive(row);
  if (spkiHash !== undefined && spkiHash !== row.spkiHash) throw new SelvedgeError('csr_invalid', { why: `node ${id} has another key by now` });
  return row;
}

/** Newest first. */
async function tokensOf(db: Kysely<Tables>, site: string): Promise<readonly SiteTokenRow[]> {
  const all = db.selectFrom('site_tokens').selectAll().where('site', '=', site).orderBy('generation', 'desc');
  return (await all.limit(limits.site_token_generations_max).execute()).map(tokenRow);
}

async function oldestInUse(db: Kysely<Tables>, site: string): Promise<number | null> {
  const row = await db
    .selectFrom('node_seals')
    .innerJoin('nodes', 'nodes.id', 'node_seals.node_id')
    .select((select) => select.fn.min('node_seals.sealed').as('oldest'))
    .where('nodes.site', '=', site)
    .where('nodes.fingerprint', 'is not', null)
    .where('node_seals.sealed', '>', 0)
    .executeTakeFirst();
  return row?.oldest == null ? null : Number(row.oldest);
}

function tokenRow({ site, generation, sealed, created_ms }: SiteTokenRow): SiteTokenRow {
  return { site, generation: Number(generation), sealed, created_ms: Number(created_ms) };
}
