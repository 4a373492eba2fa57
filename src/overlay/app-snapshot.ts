/**
 * What overlay reads of a snapshot: the app networks that this node is a member of, and the hosts that it shares one with. The schema that checks it
 * stands with the rest of the snapshot's; these are the shapes alone.
 */

/** What a host says of the network that carries its WireGuard packets. */
export interface Underlay {
  readonly mtu: number;
  /** Nothing of it ever goes over IPv6, which saves 20 octets of headers. */
  readonly ipv4_only: boolean;
}

/** An address of an app network and where it lives. `attachment` is '' for the host itself. */
export interface AppEndpoint {
  readonly node: string;
  readonly attachment: string;
  readonly mac: string;
  readonly address4: string | null;
  readonly address6: string | null;
}

export interface AppNetwork {
  readonly name: string;
  readonly vni: number;
  /** An operator's limit. */
  readonly mtu: number | null;
  readonly learning: boolean;
  readonly subnet4: string | null;
  readonly subnet6: string | null;
  /** Every member's, this node's too. */
  readonly endpoints: readonly AppEndpoint[];
}

/** Another member of some network of this node. */
export interface AppHost {
  readonly node: string;
  readonly name: string;
  readonly site: string;
  readonly vtep: string;
  /** WireGuard public keys, base64, newest first. */
  readonly keys: readonly string[];
  readonly endpoint: { readonly host: string; readonly port: number } | null;
  readonly underlay: Underlay | null;
}

export interface AppSnapshot {
  /** This node's. */
  readonly vtep: string;
  readonly networks: readonly AppNetwork[];
  readonly hosts: readonly AppHost[];
}
