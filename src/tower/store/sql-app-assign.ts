/**
 * What the tower gives out for app networks: VNIs, VTEPs, addresses, MACs. Part of the transaction of the change that needs them, so that what was not
 * committed was not given out. The pools' walk is in address-pool.ts; who holds what is looked up here.
 */
import { createHash } from 'node:crypto';
import type { Transaction } from 'kysely';
import { assert, SelvedgeError } from '../../base/errors.ts';
import { appPool, type Pool, vniPool, vtepPool, walk } from '../app/address-pool.ts';
import type { AppEndpointRow, AppNetworkRow } from './app-store.ts';
import type { Tables } from '../schema/tables.ts';
import { formatAddress, readSubnet, type Subnet } from '../app/subnet.ts';

type Tx = Transaction<Tables>;

export async function assignVni(tx: Tx): Promise<number> {
  const isTaken = async (vni: bigint) => (await tx.selectFrom('app_networks').select('vni').where('vni', '=', Number(vni)).executeTakeFirst()) !== undefined;
  return Number(await next(tx, { name: 'vni', shown: 'the VNIs', pool: vniPool, isTaken }));
}

/** The VTEP of a node, which it keeps for as long as it is in any network. */
export async function assignVtep(tx: Tx, node: string): Promise<string> {
  const found = await tx.selectFrom('app_hosts').select('vtep').where('node_id', '=', node).executeTakeFirst();
  if (found !== undefined && found.vtep !== null) return found.vtep;
  const { vtep_range } = await clusterOf(tx);
  const isTaken = async (value: bigint) =>
    (await tx.selectFrom('app_hosts').select('node_id').where('vtep', '=', formatAddress(4, value)).executeTakeFirst()) !== undefined;
  const shown = `the range of VTEPs, ${vtep_range}`;
  const vtep = formatAddress(4, await next(tx, { name: 'vtep', shown, pool: vtepPool(readSubnet(vtep_range)), isTaken }));
  if (found === undefined) await tx.insertInto('app_hosts').values({ node_id: node, vtep, keys: '[]', listen: 'null', underlay: 'null' }).execute();
  else await tx.updateTable('app_hosts').set({ vtep }).where('node_id', '=', node).execute();
  return vtep;
}

/** A new endpoint's row, inserted. @throws address_pool_full */
export async function insertEndpoint(tx: Tx, network: AppNetworkRow, node: string, attachment: string, at_ms: number): Promise<AppEndpointRow> {
  const row: AppEndpointRow = {
    network: network.name,
    node,
    attachment,
    mac: await assignMac(tx, network.name, node, attachment),
    address4: await assignAddress(tx, network, 'subnet4'),
    address6: await assignAddress(tx, network, 'subnet6'),
    created_ms: at_ms,
  };
  const { node: node_id, ...columns } = row;
  await tx
    .insertInto('app_endpoints')
    .values({ node_id, ...columns })
    .execute();
  return row;
}

async function assignAddress(tx: Tx, network: AppNetworkRow, which: 'subnet4' | 'subnet6'): Promise<string | null> {
  const text = network[which];
  if (text === null) return null;
  const subnet: Subnet = readSubnet(text);
  const column = which === 'subnet4' ? 'address4' : 'address6';
  const isTaken = async (value: bigint) =>
    (await tx
      .selectFrom('app_endpoints')
      .select('node_id')
      .where('network', '=', network.name)
      .where(column, '=', formatAddress(subnet.family, value))
      .executeTakeFirst()) !== undefined;
  const name = cursorName(network.name, which);
  return formatAddress(subnet.family, await next(tx, { name, shown: `${text} of app network ${network.name}`, pool: appPool(subnet), isTaken }));
}

/**
 * `02:` and 5 octets of a hash, so that it is the same after a tower is restored from a backup. Two of one network could meet, once in some millions of
 * networks of a thousand: then the next try's is taken.
 */
async function assignMac(tx: Tx, network: string, node: string, attachment: string): Promise<string> {
  const { cluster } = await clusterOf(tx);
  for (let attempt = 0; ; attempt++) {
    const mac = macOf([cluster, network, node, attachment], attempt);
    const rival = await tx.selectFrom('app_endpoints').select('node_id').where('network', '=', network).where('mac', '=', mac).executeTakeFirst();
    if (rival === undefined) return mac;
  }
}

function macOf(of: readonly string[], attempt: number): string {
  const digest = createHash('sha256')
    .update(JSON.stringify([...of, attempt]))
    .digest();
  return `02:${[...digest.subarray(0, 5)].map((octet) => octet.toString(16).padStart(2, '0')).join(':')}`;
}

/** A network's pools are gone with it; one of the same name begins anew. */
export async function forgetCursors(tx: Tx, network: string): Promise<void> {
  await tx
    .deleteFrom('app_cursors')
    .where('pool', 'in', [cursorName(network, 'subnet4'), cursorName(network, 'subnet6')])
    .execute();
}

function cursorName(network: string, which: 'subnet4' | 'subnet6'): string {
  return `${which}:${network}`;
}

interface Asked {
  readonly name: string;
  /** As it is called in the refusal. */
  readonly shown: string;
  readonly pool: Pool;
  readonly isTaken: (value: bigint) => Promise<boolean>;
}

/** The walk ends at the first free number: behind as many taken ones as there are rows, which limits bound. */
async function next(tx: Tx, { name, shown, pool, isTaken }: Asked): Promise<bigint> {
  const cursor = await tx.selectFrom('app_cursors').select('last').where('pool', '=', name).executeTakeFirst();
  for (const value of walk(pool, cursor === undefined ? null : BigInt(cursor.last))) {
    if (await isTaken(value)) continue;
    const last = value.toString();
    await tx
      .insertInto('app_cursors')
      .values({ pool: name, last })
      .onConflict((conflict) => conflict.column('pool').doUpdateSet({ last }))
      .execute();
    return value;
  }
  throw new SelvedgeError('address_pool_full', { pool: shown });
}

export async function clusterOf(tx: Tx): Promise<{ cluster: string; vtep_range: string }> {
  const row = await tx.selectFrom('cluster').select(['cluster', 'vtep_range']).executeTakeFirst();
  assert(row !== undefined, 'app networks belong to a cluster that was made');
  return row;
}
