/** App networks: their members, what members say of themselves, and what was given out last. */
import type { Transaction } from 'kysely';

export interface AppNetworkTables {
  cluster: { vtep_range: string };
  app_networks: { name: string; vni: number; subnet4: string | null; subnet6: string | null; mtu: number | null; learning: number; created_ms: number };
  /** A node is a member of a network where it has an endpoint with an empty attachment. */
  app_endpoints: {
    network: string;
    node_id: string;
    attachment: string;
    mac: string;
    address4: string | null;
    address6: string | null;
    created_ms: number;
  };
  app_hosts: { node_id: string; vtep: string | null; keys: string; listen: string; underlay: string };
  app_keys: { key: string; node_id: string };
  /** The number of each pool that was given out last, in decimal. */
  app_cursors: { pool: string; last: string };
}

export async function appNetworks(db: Transaction<AppNetworkTables>): Promise<void> {
  await db.schema
    .alterTable('cluster')
    .addColumn('vtep_range', 'text', (column) => column.notNull().defaultTo('100.96.0.0/12'))
    .execute();
  await db.schema
    .createTable('app_networks')
    .addColumn('name', 'text', (column) => column.primaryKey())
    .addColumn('vni', 'integer', (column) => column.notNull().unique())
    .addColumn('subnet4', 'text')
    .addColumn('subnet6', 'text')
    .addColumn('mtu', 'integer')
    .addColumn('learning', 'integer', (column) => column.notNull())
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('app_endpoints')
    .addColumn('network', 'text', (column) => column.notNull().references('app_networks.name'))
    .addColumn('node_id', 'text', (column) => column.notNull().references('nodes.id'))
    .addColumn('attachment', 'text', (column) => column.notNull())
    .addColumn('mac', 'text', (column) => column.notNull())
    .addColumn('address4', 'text')
    .addColumn('address6', 'text')
    .addColumn('created_ms', 'bigint', (column) => column.notNull())
    .addPrimaryKeyConstraint('app_endpoints_once', ['network', 'node_id', 'attachment'])
    .addUniqueConstraint('app_endpoints_mac', ['network', 'mac'])
    .addUniqueConstraint('app_endpoints_address4', ['network', 'address4'])
    .addUniqueConstraint('app_endpoints_address6', ['network', 'address6'])
    .execute();
  await db.schema.createIndex('app_endpoints_node').on('app_endpoints').columns(['node_id', 'attachment']).execute();
  await db.schema
    .createTable('app_hosts')
    .addColumn('node_id', 'text', (column) => column.primaryKey().references('nodes.id'))
    .addColumn('vtep', 'text', (column) => column.unique())
    .addColumn('keys', 'text', (column) => column.notNull())
    .addColumn('listen', 'text', (column) => column.notNull())
    .addColumn('underlay', 'text', (column) => column.notNull())
    .execute();
  await db.schema
    .createTable('app_keys')
    .addColumn('key', 'text', (column) => column.primaryKey())
    .addColumn('node_id', 'text', (column) => column.notNull().references('nodes.id'))
    .execute();
  await db.schema
    .createTable('app_cursors')
    .addColumn('pool', 'text', (column) => column.primaryKey())
    .addColumn('last', 'text', (column) => column.notNull())
    .execute();
}
