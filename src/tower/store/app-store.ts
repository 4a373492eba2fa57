/**
 * `AppStore`: the rows of app networks, part of the `Store`. As there, each change is one transaction with its version, its scopes and its
 * audit row; `told` names the nodes whose snapshots differ by it: the members of the network concerned, at whatever site, and nobody else.
 */
import type { AppEndpoint, Underlay } from '../../enroll/app-wire.ts';
import type { Endpoint } from '../../enroll/wire.ts';
import type { By, PageRequest } from '../resources/resource-store.ts';

export interface AppNetworkRow {
  readonly name: string;
  readonly vni: number;
  /** Canonical; null where the network has no such addresses. */
  readonly subnet4: string | null;
  readonly subnet6: string | null;
  readonly mtu: number | null;
  readonly learning: boolean;
  readonly created_ms: number;
}

export type NewAppNetwork = Pick<AppNetworkRow, 'name' | 'subnet4' | 'subnet6' | 'mtu' | 'learning'>;

/** A member itself (`attachment` is empty), or one of its attachments. */
export interface AppEndpointRow {
  readonly network: string;
  readonly node: string;
  readonly attachment: string;
  readonly mac: string;
  readonly address4: string | null;
  readonly address6: string | null;
  readonly created_ms: number;
}

/** What a node says of its WireGuard. */
export interface WireguardFacts {
  /** Public keys, newest first. */
  readonly keys: readonly string[];
  /** `host` null: where it advertises its channels. */
  readonly listen: { readonly host: string | null; readonly port: number } | null;
  readonly underlay: Underlay | null;
}

export interface AppHostRow extends WireguardFacts {
  readonly node: string;
  readonly name: string;
  readonly site: string;
  /** Neither revoked nor disabled. */
  readonly isLive: boolean;
  /** Null while it is in no network. */
  readonly vtep: string | null;
  /** Where it advertises its channels. */
  readonly endpoints: readonly Endpoint[];
}

/** What one node may know of app networks, at one moment: revoked and disabled nodes are not in it. */
export interface AppView {
  /** Ordered by name; their endpoints by node, then attachment. */
  readonly networks: readonly (AppNetworkRow & { readonly endpoints: readonly AppEndpoint[] })[];
  /** The node itself and all that share a network with it, ordered by id. */
  readonly hosts: readonly AppHostRow[];
}

export interface AppNetworkView {
  readonly network: AppNetworkRow;
  readonly endpoints: readonly AppEndpointRow[];
  readonly hosts: readonly AppHostRow[];
}

export interface AppChange<Row> {
  readonly row: Row;
  /** Empty where nothing changed. */
  readonly told: readonly string[];
}

export interface AppStore {
  /** In the order of their names. */
  networks(page: PageRequest): Promise<readonly (AppNetworkRow & { readonly members: number; readonly attachments: number })[]>;
  /** All of one network, its revoked and disabled members with it. @throws not_found */
  network(name: string): Promise<AppNetworkView>;
  /** @throws app_network_exists, subnet_overlaps, limit_reached, address_pool_full (of VNIs) */
  create(network: NewAppNetwork, by: By): Promise<AppNetworkRow>;
  /** With all its members. @throws not_found */
  delete(name: string, by: By): Promise<AppChange<AppNetworkRow>>;
  /** A member again is no change. @throws not_found, certificate_revoked, address_pool_full, limit_reached */
  addMember(network: string, node: string, by: By): Promise<AppChange<AppEndpointRow>>;
  /** With its attachments. @throws not_found */
  removeMember(network: string, node: string, by: By): Promise<AppChange<AppEndpointRow>>;
  /** The same attachment again gives the same row. @throws policy_denied for who is no member, address_pool_full, limit_reached */
  attach(network: string, node: string, attachment: string, at_ms: number): Promise<AppChange<AppEndpointRow>>;
  /** No such attachment is no change, and row null. @throws policy_denied for who is no member */
  detach(network: string, node: string, attachment: string, at_ms: number): Promise<AppChange<AppEndpointRow | null>>;
  /** The same again is no change. @throws policy_denied for a key that another node has, not_found */
  setWireguard(node: string, facts: WireguardFacts, at_ms: number): Promise<AppChange<WireguardFacts>>;

  /** The nodes that share a network with this one, and this one if it is in any. */
  sharers(node: string): Promise<readonly string[]>;
  /** Null for a node that is in no network. */
  view(node: string): Promise<AppView | null>;
}
