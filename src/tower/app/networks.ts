/**
 * App networks at the tower: what an operator makes of them, and what a member asks for itself. Checks what comes in, changes the store, tells
 * the members. Who asks is known to the caller: the local socket's owner, or the node at the other end of a channel.
 */
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import { isHostAddress } from '../../transport/host-address.ts';
import type { AppChange, AppEndpointRow, AppNetworkRow, AppNetworkView, AppStore, WireguardFacts } from '../store/app-store.ts';
import { checkLive } from '../live.ts';
import type { By, PageRequest } from '../resources/resource-store.ts';
import type { NodeRow, Store } from '../store/store.ts';
import { checkAppSubnet } from './subnet.ts';

export interface AppNetworkRequest {
  readonly name: string;
  readonly subnet4?: string;
  readonly subnet6?: string;
  readonly mtu?: number;
  readonly learning?: boolean;
}

/** IPv6 asks for as much of every link (RFC 8200, section 5). */
const IPV6_MTU_MIN = 1_280;
const APP_NAME = /^[a-z][a-z0-9-]{0,31}$/;
const NODE_ID = /^[0-9a-f]{12}$/;
/** All zeros: what WireGuard takes for "no key". */
const NO_KEY = `${'A'.repeat(43)}=`;

export class AppNetworks {
  readonly #store: Store;
  readonly #clock: Clock;
  readonly #tell: (nodes: readonly string[]) => void;

  constructor(given: { store: Store; clock: Clock; tell: (nodes: readonly string[]) => void }) {
    this.#store = given.store;
    this.#clock = given.clock;
    this.#tell = given.tell;
  }

  /** @throws argument_invalid, app_network_exists, subnet_overlaps, limit_reached */
  async create({ name, subnet4, subnet6, mtu, learning = false }: AppNetworkRequest, actor: string): Promise<AppNetworkRow> {
    if (!APP_NAME.test(name)) throw invalid('name', `'${name}' is not a name: lower-case letters, digits and hyphens, a letter first, at most 32`);
    if (subnet4 === undefined && subnet6 === undefined) throw invalid('subnet', 'an app network has an IPv4 subnet, an IPv6 subnet, or both');
    const { app_mtu_bytes_min, app_mtu_bytes_max } = limits;
    const mtu_min = subnet6 === undefined ? app_mtu_bytes_min : IPV6_MTU_MIN;
    if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= mtu_min && mtu <= app_mtu_bytes_max))
      throw invalid('mtu', `a whole number from ${mtu_min} to ${app_mtu_bytes_max}${subnet6 === undefined ? '' : ', as IPv6 needs'}`);
    const canonical = {
      subnet4: subnet4 === undefined ? null : checkAppSubnet('subnet', subnet4, 4).text,
      subnet6: subnet6 === undefined ? null : checkAppSubnet('subnet6', subnet6, 6).text,
    };
    return await this.#app.create({ name, ...canonical, mtu: mtu ?? null, learning }, this.#by(actor));
  }

  /** With all its members. @throws not_found */
  async delete(name: string, actor: string): Promise<AppNetworkRow> {
    return this.#told(await this.#app.delete(name, this.#by(actor)));
  }

  /** `node` is an id or a name. @throws not_found, certificate_revoked, address_pool_full, limit_reached */
  async add(network: string, node: string, actor: string): Promise<AppEndpointRow> {
    return this.#told(await this.#app.addMember(network, (await this.#find(node)).id, this.#by(actor)));
  }

  /** `node` is an id or a name. @throws not_found */
  async remove(network: string, node: string, actor: string): Promise<AppEndpointRow> {
    return this.#told(await this.#app.removeMember(network, (await this.#find(node)).id, this.#by(actor)));
  }

  list(page: PageRequest): ReturnType<AppStore['networks']> {
    return this.#app.networks(page);
  }

  /** @throws not_found */
  show(name: string): Promise<AppNetworkView> {
    return this.#app.network(name);
  }

  /** A node says what its WireGuard is. @throws certificate_revoked, policy_denied, argument_invalid */
  async wireguard(node: string, facts: WireguardFacts): Promise<void> {
    await this.#mustBeLive(node);
    if (new Set(facts.keys).size !== facts.keys.length || facts.keys.includes(NO_KEY)) throw invalid('keys', 'each is a key, and none is there twice');
    const host = facts.listen?.host ?? null;
    if (host !== null && !isHostAddress(host)) throw invalid('listen', `'${host}' is not the IP address of one host`);
    this.#told(await this.#app.setWireguard(node, facts, this.#clock.wall()));
  }

  /** A member takes an address for a place of its own. @throws certificate_revoked, policy_denied, address_pool_full, limit_reached */
  async attach(node: string, network: string, attachment: string): Promise<AppEndpointRow> {
    await this.#mustBeLive(node);
    return this.#told(await this.#app.attach(network, node, attachment, this.#clock.wall()));
  }

  /** @throws certificate_revoked, policy_denied */
  async detach(node: string, network: string, attachment: string): Promise<void> {
    await this.#mustBeLive(node);
    this.#told(await this.#app.detach(network, node, attachment, this.#clock.wall()));
  }

  /** Whether two nodes are members of a common network, and live. Who is in none is told the same, whether the other exists or not. @throws policy_denied */
  async checkPartners(left: string, right: string): Promise<void> {
    const rows = [await this.#store.node(left), await this.#store.node(right)];
    const areLive = rows.every((row) => row !== null && row.fingerprint !== null && !row.disabled);
    if (!areLive || !(await this.#app.sharers(left)).includes(right)) throw new SelvedgeError('policy_denied', { why: 'no common app network' });
  }

  get #app(): AppStore {
    return this.#store.app;
  }

  /** `actor` as audit rows name whoever asks. */
  #by(actor: string): By {
    return { actor, at_ms: this.#clock.wall() };
  }

  #told<Row>({ row, told }: AppChange<Row>): Row {
    if (told.length > 0) this.#tell(told);
    return row;
  }

  async #mustBeLive(id: string): Promise<void> {
    const row = await this.#store.node(id);
    if (row === null) throw new SelvedgeError('not_found', { what: 'node', name: id });
    checkLive(row);
  }

  async #find(idOrName: string): Promise<NodeRow> {
    const byId = NODE_ID.test(idOrName) ? await this.#store.node(idOrName) : null;
    const row = byId ?? (await this.#store.nodeNamed(idOrName));
    if (row === null) throw new SelvedgeError('not_found', { what: 'node', name: idOrName });
    return row;
  }
}

function invalid(name: string, why: string): SelvedgeError {
  return new SelvedgeError('argument_invalid', { name, why });
}
