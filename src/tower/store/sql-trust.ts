/** Which roots the cluster trusts, in SQL; what the rows mean is in ../trust/phases.ts. */
import type { Selectable } from 'kysely';
import type { By } from '../resources/resource-store.ts';
import type { Tables } from '../schema/tables.ts';
import { type Given, recordChange, SCOPE_EVERYBODY } from './sql-change.ts';
import type { TrustPhase, TrustRow } from '../trust/phases.ts';
import type { TrustChange, TrustMember, TrustOperator, TrustStore } from '../trust/trust-store.ts';

export function sqlTrustStore({ write, look }: Given): TrustStore {
  return {
    get: () =>
      look(async (tx) => {
        const row = await tx.selectFrom('trust').selectAll().executeTakeFirst();
        return row === undefined ? null : trustRow(row);
      }),
    set: (row: TrustRow, { action, detail, cluster }: TrustChange, { actor, at_ms }: By) =>
      write(async (tx) => {
        const values = { ...row, roots: JSON.stringify(row.roots) };
        await tx
          .insertInto('trust')
          .values({ one: 1, ...values })
          .onConflict((conflict) => conflict.column('one').doUpdateSet(values))
          .execute();
        if (cluster !== undefined)
          await tx.updateTable('cluster').set({ root_fingerprint: cluster.rootFingerprint, tower_fingerprint: cluster.towerFingerprint }).execute();
        const told = { ...detail, version: row.version, phase: row.phase };
        await recordChange(tx, { at_ms, actor, action, subject: 'trust', detail: told, scopes: [SCOPE_EVERYBODY] });
      }),
    hold: (node, version) =>
      write(async (tx) => {
        const known = await tx.selectFrom('node_trust').select('version').where('node_id', '=', node).executeTakeFirst();
        if (Number(known?.version ?? 0) === version) return false;
        await tx
          .insertInto('node_trust')
          .values({ node_id: node, version })
          .onConflict((conflict) => conflict.column('node_id').doUpdateSet({ version }))
          .execute();
        return true;
      }),
    holds: (node, version) =>
      look(async (tx) => {
        const row = await tx.selectFrom('node_trust').select('version').where('node_id', '=', node).executeTakeFirst();
        return Number(row?.version ?? 0) >= version;
      }),
    counts: (version) =>
      look(async (tx) => {
        const live = tx
          .selectFrom('nodes')
          .select((select) => select.fn.countAll().as('count'))
          .where('nodes.fingerprint', 'is not', null)
          .where('nodes.disabled', '=', 0);
        const nodes = await live.executeTakeFirstOrThrow();
        const holding = await live
          .innerJoin('node_trust', 'node_trust.node_id', 'nodes.id')
          .where('node_trust.version', '>=', version)
          .executeTakeFirstOrThrow();
        return { nodes: Number(nodes.count), holding: Number(holding.count) };
      }),
    members: () =>
      look(async (tx) => {
        const rows = await tx
          .selectFrom('nodes')
          .leftJoin('node_trust', 'node_trust.node_id', 'nodes.id')
          .leftJoin('node_boot', 'node_boot.node_id', 'nodes.id')
          .select(['nodes.id', 'nodes.name', 'nodes.site', 'nodes.leaf', 'node_trust.version', 'node_boot.chain'])
          .where('nodes.fingerprint', 'is not', null)
          .where('nodes.disabled', '=', 0)
          .orderBy('nodes.name')
          .execute();
        return rows.map(
          ({ id, name, site, leaf, version, chain }): TrustMember => ({
            id,
            name,
            site,
            leaf: leaf ?? '',
            holds: Number(version ?? 0),
            boot: bootLeafIn(chain),
          }),
        );
      }),
    operators: () =>
      look(async (tx) => {
        const rows = await tx.selectFrom('operators').select(['id', 'name', 'leaf']).where('fingerprint', 'is not', null).orderBy('name').execute();
        return rows.map(({ id, name, leaf }): TrustOperator => ({ id, name, leaf: leaf ?? '' }));
      }),
  };
}

function bootLeafIn(chain: string | null): string | null {
  const [leaf = null] = chain === null ? [] : (JSON.parse(chain) as string[]);
  return leaf;
}

function trustRow({ version, phase, roots, previous, threshold_percent, since_ms }: Selectable<Tables['trust']>): TrustRow {
  return {
    version: Number(version),
    phase: phase as TrustPhase,
    roots: JSON.parse(roots) as string[],
    previous,
    threshold_percent: Number(threshold_percent),
    since_ms: Number(since_ms),
  };
}
