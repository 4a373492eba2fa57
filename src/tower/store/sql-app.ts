/** `AppStore` in SQL, for the same engines as sql.ts. What is given out is chosen in sql-app-assign.ts, how much there may be in sql-app-room.ts. */
import type { Selectable, Transaction } from 'kysely';
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { AppEndpoint } from '../../enroll/app-wire.ts';
import type { AppChange, AppEndpointRow, AppHostRow, AppNetworkRow, AppNetworkView, AppStore, AppView, NewAppNetwork, WireguardFacts } from './app-store.ts';
import type { By, PageRequest } from '../resources/resource-store.ts';
import type { Tables } from '../schema/tables.ts';
import { assignVni, assignVtep, clusterOf, forgetCursors, insertEndpoint } from './sql-app-assign.ts';
import { checkRoomForEndpoint, checkRoomForNetwork, membersOf, networksOf, sharersOf } from './sql-app-room.ts';
import { type Given, recordChange, scopeOfApp, scopeOfNode } from './sql-change.ts';
import { mustFind, nodeRow } from './sql-nodes.ts';
import { overlaps, readSubnet } from '../app/subnet.ts';
import { VersionCache } from '../version-cache.ts';

type Tx = Transaction<Tables>;

export class SqlAppStore implements AppStore {
  readonly #cache = new VersionCache<AppEndpoint>(limits.app_cache_endpoints_max);
  readonly #transact: Given['write'];
  readonly #look: Given['look'];

  constructor({ write, look }: Given) {
    this.#transact = write;
    this.#look = look;
  }

  /** What was remembered of a transaction that was lost may never have been. */
  forget(): void {
    this.#cache.clear();
  }

  networks({ after, limit }: PageRequest): Promise<readonly (AppNetworkRow & { readonly members: number; readonly attachments: number })[]> {
    return this.#transact(async (tx) => {
      const all = tx.selectFrom('app_networks').selectAll().orderBy('name').limit(limit);
      const rows = await (after === null ? all : all.where('name', '>', after)).execute();
      const names = rows.map((row) => row.name);
      const endpoints = await countsOf(tx, names, false);
      const members = await countsOf(tx, names, true);
      return rows.map((row) => {
        const count = members.get(row.name) ?? 0;
        return { ...networkRow(row), members: count, attachments: (endpoints.get(row.name) ?? 0) - count };
      });
    });
  }

  network(name: string): Promise<AppNetworkView> {
    return this.#transact(async (tx) => {
      const network = await mustFindNetwork(tx, name);
      const endpoints = await endpointsOf(tx, name);
      return { network, endpoints, hosts: await hostsOf(tx, await membersOf(tx, name)) };
    });
  }

  create(network: NewAppNetwork, { actor, at_ms }: By): Promise<AppNetworkRow> {
    return this.#transact(async (tx) => {
      const { name } = network;
      if ((await findNetwork(tx, name)) !== null) throw new SelvedgeError('app_network_exists', { name });
      await checkRoomForNetwork(tx);
      await checkNoOverlap(tx, network);
      const row: AppNetworkRow = { ...network, vni: await assignVni(tx), created_ms: at_ms };
      await tx
        .insertInto('app_networks')
        .values({ ...row, learning: row.learning ? 1 : 0 })
        .execute();
      const { created_ms: _at, name: _name, ...detail } = row;
      await recordChange(tx, { at_ms, actor, action: 'app.create', subject: name, detail, scopes: [] });
      return row;
    });
  }

  delete(name: string, { actor, at_ms }: By): Promise<AppChange<AppNetworkRow>> {
    return this.#transact(async (tx) => {
      const row = await mustFindNetwork(tx, name);
      const told = await membersOf(tx, name);
      await tx.deleteFrom('app_endpoints').where('network', '=', name).execute();
      await tx.deleteFrom('app_networks').where('name', '=', name).execute();
      await forgetCursors(tx, name);
      await tx.deleteFrom('versions').where('scope', '=', scopeOfApp(name)).execute();
      for (const node of told) await releaseVtep(tx, node);
      await recordChange(tx, { at_ms, actor, action: 'app.delete', subject: name, detail: { members: told }, scopes: told.map(scopeOfNode) });
      return { row, told };
    });
  }

  addMember(name: string, node: string, { actor, at_ms }: By): Promise<AppChange<AppEndpointRow>> {
    return this.#transact(async (tx) => {
      const network = await mustFindNetwork(tx, name);
      const { fingerprint } = await mustFind(tx, node);
      const found = await findEndpoint(tx, name, node, '');
      if (found !== null) return { row: found, told: [] };
      if (fingerprint === null) throw new SelvedgeError('certificate_revoked', { peer: node, why: 'the node was revoked' });
      await checkRoomForEndpoint(tx, name, node, '');
      const vtep = await assignVtep(tx, node);
      const row = await insertEndpoint(tx, network, node, '', at_ms);
      await recordChange(tx, { at_ms, actor, action: 'app.add', subject: name, detail: { ...detailOf(row), vtep }, scopes: [scopeOfApp(name)] });
      return { row, told: await membersOf(tx, name) };
    });
  }

  removeMember(name: string, node: string, { actor, at_ms }: By): Promise<AppChange<AppEndpointRow>> {
    return this.#transact(async (tx) => {
      await mustFindNetwork(tx, name);
      const row = await findEndpoint(tx, name, node, '');
      if (row === null) throw new SelvedgeError('not_found', { what: `member of app network ${name}`, name: node });
      const told = await membersOf(tx, name);
      await tx.deleteFrom('app_endpoints').where('network', '=', name).where('node_id', '=', node).execute();
      await releaseVtep(tx, node);
      const scopes = [scopeOfApp(name), scopeOfNode(node)];
      await recordChange(tx, { at_ms, actor, action: 'app.remove', subject: name, detail: detailOf(row), scopes });
      return { row, told };
    });
  }

  attach(name: string, node: string, attachment: string, at_ms: number): Promise<AppChange<AppEndpointRow>> {
    return this.#transact(async (tx) => {
      const network = await mustBeMember(tx, name, node);
      const found = await findEndpoint(tx, name, node, attachment);
      if (found !== null) return { row: found, told: [] };
      await checkRoomForEndpoint(tx, name, node, attachment);
      const row = await insertEndpoint(tx, network, node, attachment, at_ms);
      const scopes = [scopeOfApp(name)];
      await recordChange(tx, { at_ms, actor: `node:${node}`, action: 'app.attach', subject: name, detail: detailOf(row), scopes });
      return { row, told: await membersOf(tx, name) };
    });
  }

  detach(name: string, node: string, attachment: string, at_ms: number): Promise<AppChange<AppEndpointRow | null>> {
    return this.#transact(async (tx) => {
      await mustBeMember(tx, name, node);
      const row = await findEndpoint(tx, name, node, attachment);
      if (row === null) return { row, told: [] };
      await tx.deleteFrom('app_endpoints').where('network', '=', name).where('node_id', '=', node).where('attachment', '=', attachment).execute();
      const scopes = [scopeOfApp(name)];
      await recordChange(tx, { at_ms, actor: `node:${node}`, action: 'app.detach', subject: name, detail: detailOf(row), scopes });
      return { row, told: await membersOf(tx, name) };
    });
  }

  setWireguard(node: string, { keys, listen, underlay }: WireguardFacts, at_ms: number): Promise<AppChange<WireguardFacts>> {
    const row: WireguardFacts = { keys, listen, underlay };
    const columns = { keys: JSON.stringify(keys), listen: JSON.stringify(listen), underlay: JSON.stringify(underlay) };
    return this.#transact(async (tx) => {
      await mustFind(tx, node);
      const found = await tx.selectFrom('app_hosts').selectAll().where('node_id', '=', node).executeTakeFirst();
      if (found !== undefined && found.keys === columns.keys && found.listen === columns.listen && found.underlay === columns.underlay)
        return { row, told: [] };
      await takeKeys(tx, node, keys);
      if (found === undefined)
        await tx
          .insertInto('app_hosts')
          .values({ node_id: node, vtep: null, ...columns })
          .execute();
      else await tx.updateTable('app_hosts').set(columns).where('node_id', '=', node).execute();
      const scopes = (await networksOf(tx, node)).map(scopeOfApp);
      await recordChange(tx, { at_ms, actor: `node:${node}`, action: 'app.wireguard', subject: node, detail: { ...row }, scopes });
      return { row, told: await sharersOf(tx, node) };
    });
  }

  sharers(node: string): Promise<readonly string[]> {
    return this.#look((tx) => sharersOf(tx, node));
  }

  view(node: string): Promise<AppView | null> {
    return this.#look(async (tx) => {
      const names = await networksOf(tx, node);
      if (names.length === 0) return null;
      const hosts = (await hostsOf(tx, await sharersOf(tx, node))).filter((host) => host.isLive);
      const rows = await tx.selectFrom('app_networks').selectAll().where('name', 'in', names).orderBy('name').execute();
      const endpoints = await this.#liveEndpoints(tx, names);
      return { networks: rows.map((row) => ({ ...networkRow(row), endpoints: endpoints.get(row.name) ?? [] })), hosts };
    });
  }

  /** By network. Whoever is revoked, disabled, or back, moves the version of each of its networks. */
  async #liveEndpoints(tx: Tx, networks: readonly string[]): Promise<Map<string, readonly AppEndpoint[]>> {
    const scopes = await tx.selectFrom('versions').selectAll().where('scope', 'in', networks.map(scopeOfApp)).execute();
    const versions = new Map(scopes.map((row) => [row.scope, Number(row.version)]));
    const versionIn = (network: string) => versions.get(scopeOfApp(network)) ?? 0;
    const found = new Map(networks.map((network) => [network, this.#cache.get(network, versionIn(network))]));
    const missing = networks.filter((network) => found.get(network) === null);
    const read = Map.groupBy(missing.length === 0 ? [] : await liveEndpointsOf(tx, missing), (row) => row.network);
    for (const network of missing) {
      const endpoints = (read.get(network) ?? []).map(({ network: _network, node_id, ...shown }): AppEndpoint => ({ node: node_id, ...shown }));
      this.#cache.set(network, versionIn(network), endpoints);
      found.set(network, endpoints);
    }
    return new Map([...found].map(([network, endpoints]) => [network, endpoints ?? []]));
  }
}

function detailOf({ network: _network, created_ms: _at, ...shown }: AppEndpointRow): Readonly<Record<string, unknown>> {
  return shown;
}

async function findNetwork(tx: Tx, name: string): Promise<AppNetworkRow | null> {
  const row = await tx.selectFrom('app_networks').selectAll().where('name', '=', name).executeTakeFirst();
  return row === undefined ? null : networkRow(row);
}

async function mustFindNetwork(tx: Tx, name: string): Promise<AppNetworkRow> {
  const row = await findNetwork(tx, name);
  if (row === null) throw new SelvedgeError('not_found', { what: 'app network', name });
  return row;
}

/** A network that is not there and one that the node is not in read the same, so that no node can find out names. */
async function mustBeMember(tx: Tx, name: string, node: string): Promise<AppNetworkRow> {
  const network = await findNetwork(tx, name);
  const member = network === null ? null : await findEndpoint(tx, name, node, '');
  if (network === null || member === null) throw new SelvedgeError('policy_denied', { why: `node ${node} is no member of an app network ${name}` });
  return network;
}

async function findEndpoint(tx: Tx, network: string, node: string, attachment: string): Promise<AppEndpointRow | null> {
  const query = tx.selectFrom('app_endpoints').selectAll().where('network', '=', network).where('node_id', '=', node).where('attachment', '=', attachment);
  const row = await query.executeTakeFirst();
  return row === undefined ? null : endpointRow(row);
}

/** By network; of all endpoints, or of members alone. */
async function countsOf(tx: Tx, networks: readonly string[], membersOnly: boolean): Promise<Map<string, number>> {
  if (networks.length === 0) return new Map();
  const every = tx.selectFrom('app_endpoints').select((select) => ['network', select.fn.countAll().as('count')]);
  const all = every.where('network', 'in', networks);
  const rows = await (membersOnly ? all.where('attachment', '=', '') : all).groupBy('network').execute();
  return new Map(rows.map((row) => [row.network, Number(row.count)]));
}

async function endpointsOf(tx: Tx, network: string): Promise<AppEndpointRow[]> {
  const query = tx.selectFrom('app_endpoints').selectAll().where('network', '=', network).orderBy('node_id').orderBy('attachment');
  return (await query.execute()).map(endpointRow);
}

async function liveEndpointsOf(tx: Tx, networks: readonly string[]) {
  return await tx
    .selectFrom('app_endpoints')
    .innerJoin('nodes', 'nodes.id', 'app_endpoints.node_id')
    .select(['network', 'node_id', 'attachment', 'mac', 'address4', 'address6'])
    .where('network', 'in', networks)
    .where('nodes.fingerprint', 'is not', null)
    .where('nodes.disabled', '=', 0)
    .orderBy('network')
    .orderBy('node_id')
    .orderBy('attachment')
    .execute();
}

async function hostsOf(tx: Tx, nodes: readonly string[]): Promise<AppHostRow[]> {
  if (nodes.length === 0) return [];
  const rows = await tx
    .selectFrom('app_hosts')
    .innerJoin('nodes', 'nodes.id', 'app_hosts.node_id')
    .selectAll('nodes')
    .select(['app_hosts.vtep', 'app_hosts.keys', 'app_hosts.listen', 'app_hosts.underlay'])
    .where('app_hosts.node_id', 'in', nodes)
    .orderBy('app_hosts.node_id')
    .execute();
  return rows.map((row) => {
    const { id, name, site, fingerprint, disabled, endpoints } = nodeRow(row);
    const facts = { keys: JSON.parse(row.keys), listen: JSON.parse(row.listen), underlay: JSON.parse(row.underlay) } as WireguardFacts;
    return { node: id, name, site, isLive: fingerprint !== null && !disabled, vtep: row.vtep, ...facts, endpoints };
  });
}

/** Subnets are the cluster's: a node may be put into any two networks, and its host has one routing table. */
async function checkNoOverlap(tx: Tx, { subnet4, subnet6 }: NewAppNetwork): Promise<void> {
  const { vtep_range } = await clusterOf(tx);
  const networks = await tx.selectFrom('app_networks').select(['name', 'subnet4', 'subnet6']).orderBy('name').execute();
  const others = [{ name: null, subnet4: vtep_range, subnet6: null }, ...networks];
  for (const text of [subnet4, subnet6]) {
    if (text === null) continue;
    const subnet = readSubnet(text);
    for (const other of others) {
      const rival = subnet.family === 4 ? other.subnet4 : other.subnet6;
      if (rival === null || !overlaps(subnet, readSubnet(rival))) continue;
      const owner = other.name === null ? 'the range of VTEPs' : `app network ${other.name}`;
      throw new SelvedgeError('subnet_overlaps', { subnet: text, other: rival, owner });
    }
  }
}

/** Who is in no network any more has no VTEP; its keys stay said, for when it is in one again. */
async function releaseVtep(tx: Tx, node: string): Promise<void> {
  if ((await networksOf(tx, node)).length > 0) return;
  await tx.updateTable('app_hosts').set({ vtep: null }).where('node_id', '=', node).execute();
}

/** A key is one node's: with another's, a member could take that one's packets away from it at a third. */
async function takeKeys(tx: Tx, node: string, keys: readonly string[]): Promise<void> {
  await tx.deleteFrom('app_keys').where('node_id', '=', node).execute();
  for (const key of new Set(keys)) {
    const rival = await tx.selectFrom('app_keys').select('node_id').where('key', '=', key).executeTakeFirst();
    if (rival !== undefined) throw new SelvedgeError('policy_denied', { why: 'the WireGuard key is that of another node' });
    await tx.insertInto('app_keys').values({ key, node_id: node }).execute();
  }
}

// `bigint` columns come back as text from some drivers.

function networkRow(row: Selectable<Tables['app_networks']>): AppNetworkRow {
  return { ...row, learning: row.learning !== 0, created_ms: Number(row.created_ms) };
}

function endpointRow({ node_id, ...row }: Selectable<Tables['app_endpoints']>): AppEndpointRow {
  return { ...row, node: node_id, created_ms: Number(row.created_ms) };
}
