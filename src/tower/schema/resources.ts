/**
 * Tenants, sites, roles, policies, routes and services: one table for all of them, since each is a name and a document by its kind's schema; beside it
 * which of them (and which node) names which, so that nothing is removed that something else still needs, and so that the nodes of a role, site or tenant are found by index.
 */
import type { Transaction } from 'kysely';
import type { FirstTables } from './first.ts';

export interface ResourceTables {
  nodes: {
    tenant: string | null;
    /** JSON: names of roles. */
    roles: string;
    /** Version of the last change that an operator can make. */
    revision: number;
  };
  resources: { kind: string; name: string; spec: string; revision: number; created_ms: number; changed_ms: number };
  /** `kind` and `name` are the user's (a resource, or `node` and its id), `of_kind` and `of_name` what it names. */
  resource_uses: { kind: string; name: string; of_kind: string; of_name: string };
}

type Needed = Omit<FirstTables, 'nodes'> & Omit<ResourceTables, 'nodes'> & { nodes: FirstTables['nodes'] & ResourceTables['nodes'] };

export async function resources(db: Transaction<Needed>): Promise<void> {
  await db.schema.alterTable('nodes').addColumn('tenant', 'text').execute();
  await db.schema
    .alterTable('nodes')
    .addColumn('roles', 'text', (column) => column.notNull().defaultTo('[]'))
    .execute();
  await db.schema
    .alterTable('nodes')
    .addColumn('revision', 'bigint', (column) => column.notNull().defaultTo(0))
    .execute();
  await db.schema
    .createTable('resources')
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('spec', 'text', (column) => column.notNull())
    .addColumn('revision', 'bigint', (column) => column.notNull())
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addColumn('changed_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('resources_once', ['kind', 'name'])
    .execute();
  await db.schema
    .createTable('resource_uses')
    .addColumn('kind', 'text', (column) => column.notNull())
    .addColumn('name', 'text', (column) => column.notNull())
    .addColumn('of_kind', 'text', (column) => column.notNull())
    .addColumn('of_name', 'text', (column) => column.notNull())
    .addPrimaryKeyConstraint('resource_uses_once', ['kind', 'name', 'of_kind', 'of_name'])
    .execute();
  await db.schema.createIndex('resource_uses_of').on('resource_uses').columns(['of_kind', 'of_name', 'kind', 'name']).execute();
  await sitesOfNodes(db);
}

/** Until now a site was there by being named. */
async function sitesOfNodes(db: Transaction<Needed>): Promise<void> {
  const nodes = await db.selectFrom('nodes').select(['id', 'site', 'created_ms']).orderBy('created_ms').execute();
  const sites = new Map(nodes.map(({ site, created_ms }) => [site, created_ms]));
  for (const [name, created_ms] of sites)
    await db.insertInto('resources').values({ kind: 'site', name, spec: '{}', revision: 0, created_ms, changed_ms: created_ms }).execute();
  for (const { id, site } of nodes) await db.insertInto('resource_uses').values({ kind: 'node', name: id, of_kind: 'site', of_name: site }).execute();
}
