/**
 * Whether there is room for one more, before it is made. Besides plain counts: what any one node would be told of stays within what its
 * snapshot may hold, wherever the change is made.
 */
import type { Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Tables } from '../schema/tables.ts';

type Tx = Transaction<Tables>;

function checkBelow(count: number, max: number, limit: string): void {
  if (count >= max) throw new SelvedgeError('limit_reached', { limit, max });
}

export async function checkRoomForNetwork(tx: Tx): Promise<void> {
  const row = await tx
    .selectFrom('app_networks')
    .select((select) => select.fn.countAll().as('count'))
    .executeTakeFirstOrThrow();
  checkBelow(Number(row.count), limits.app_networks_max, 'app networks');
}

/** For a further endpoint of `network`; a member if `attachment` is empty, which `node` is not yet, else one of its attachments. */
export async function checkRoomForEndpoint(tx: Tx, network: string, node: string, attachment: string): Promise<void> {
  checkBelow(await countEndpoints(tx, { network }), limits.app_network_endpoints_max, `endpoints of app network ${network}`);
  if (attachment !== '') {
    const own = (await countEndpoints(tx, { network, node })) - 1;
    checkBelow(own, limits.app_attachments_per_member_max, `attachments of node ${node} to app network ${network}`);
  } else {
    const networks = await networksOf(tx, node);
    checkBelow(networks.length, limits.app_networks_per_node_max, `app networks of node ${node}`);
    await checkHostsTold(tx, network, node);
  }
  await checkEndpointsTold(tx, network, attachment === '' ? node : null);
}

/** No member of the network, and not who joins it, is told of too many endpoints. */
async function checkEndpointsTold(tx: Tx, network: string, joining: string | null): Promise<void> {
  const { app_endpoints_per_node_max: max } = limits;
  if ((await countEndpoints(tx, {})) < max) return;
  const joins = joining === null ? 0 : await countEndpoints(tx, { network });
  for (const [node, sum] of await sumsOf(tx, network, joining, 'endpoints')) {
    checkBelow(node === joining ? sum + joins : sum, max, `endpoints that node ${node} is told of`);
  }
}

/** Who joins gets to know the members, and each of them who joins. Only those that share no network yet can get one more. */
async function checkHostsTold(tx: Tx, network: string, joining: string): Promise<void> {
  const { app_hosts_per_node_max: max } = limits;
  const hosts = await tx
    .selectFrom('app_hosts')
    .select((select) => select.fn.countAll().as('count'))
    .where('vtep', 'is not', null)
    .executeTakeFirstOrThrow();
  if (Number(hosts.count) <= max) return;
  const known = new Set(await sharersOf(tx, joining));
  const met = (await membersOf(tx, network)).filter((node) => !known.has(node));
  known.delete(joining);
  checkBelow(known.size + met.length, max + 1, `nodes that share an app network with node ${joining}`);
  // Those of several networks count several times in a sum: only where that comes to too many is it worth to count them once.
  const sums = await sumsOf(tx, network, null, 'members');
  for (const node of met.filter((one) => (sums.get(one) ?? 0) > max)) {
    checkBelow((await sharersOf(tx, node)).length - 1, max, `nodes that share an app network with node ${node}`);
  }
}

/** Of each member of the network (and of `joining`): how many endpoints, or members, its networks have together. */
async function sumsOf(tx: Tx, network: string, joining: string | null, what: 'endpoints' | 'members'): Promise<Map<string, number>> {
  const rows = await tx
    .with('sizes', (db) => {
      const all = db.selectFrom('app_endpoints').select((select) => ['network', select.fn.countAll<number>().as('size')]);
      return (what === 'members' ? all.where('attachment', '=', '') : all).groupBy('network');
    })
    .selectFrom('app_endpoints as own')
    .innerJoin('sizes', 'sizes.network', 'own.network')
    .select((select) => ['own.node_id', select.fn.sum<number>('sizes.size').as('sum')])
    .where('own.attachment', '=', '')
    .where((where) =>
      where.or([
        where('own.node_id', 'in', where.selectFrom('app_endpoints').select('node_id').where('network', '=', network).where('attachment', '=', '')),
        where('own.node_id', '=', joining ?? ''),
      ]),
    )
    .groupBy('own.node_id')
    .execute();
  return new Map(rows.map((row) => [row.node_id, Number(row.sum)]));
}

async function countEndpoints(tx: Tx, { network, node }: { network?: string; node?: string }): Promise<number> {
  let query = tx.selectFrom('app_endpoints').select((select) => select.fn.countAll().as('count'));
  if (network !== undefined) query = query.where('network', '=', network);
  if (node !== undefined) query = query.where('node_id', '=', node);
  return Number((await query.executeTakeFirstOrThrow()).count);
}

export async function networksOf(tx: Tx, node: string): Promise<string[]> {
  const rows = await tx.selectFrom('app_endpoints').select('network').where('node_id', '=', node).where('attachment', '=', '').orderBy('network').execute();
  return rows.map((row) => row.network);
}

export async function membersOf(tx: Tx, network: string): Promise<string[]> {
  const rows = await tx.selectFrom('app_endpoints').select('node_id').where('network', '=', network).where('attachment', '=', '').orderBy('node_id').execute();
  return rows.map((row) => row.node_id);
}

/** All that share a network with the node, itself with them; none if it is in no network. */
export async function sharersOf(tx: Tx, node: string): Promise<string[]> {
  const rows = await tx
    .selectFrom('app_endpoints as own')
    .innerJoin('app_endpoints as other', 'other.network', 'own.network')
    .select('other.node_id')
    .distinct()
    .where('own.node_id', '=', node)
    .where('own.attachment', '=', '')
    .where('other.attachment', '=', '')
    .orderBy('other.node_id')
    .execute();
  return rows.map((row) => row.node_id);
}
