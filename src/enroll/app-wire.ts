/**
 * App networks on the wire: the part of a snapshot that tells a member of its networks, and what a node asks of the tower on flows of service
 * `app`. Shapes only, as in wire.ts; which address belongs to which subnet is the tower's to decide.
 */
import { type Static, Type } from 'typebox';
import { limits } from '../base/limits.ts';
import { closed, Label, NodeId, Port } from './shapes.ts';

const orNull = <Schema extends Parameters<typeof Type.Array>[0]>(schema: Schema) => Type.Union([schema, Type.Null()]);

/** Name of the flow's service: class `fabric_control`, kind `messages`. */
export const APP_SERVICE = 'app';

export const AppName = Type.String({ pattern: '^[a-z][a-z0-9-]{0,31}$' });
/** What a member calls a further place of its own on a network: a namespace, a container. */
export const AttachmentName = Type.String({ pattern: `^[A-Za-z0-9][A-Za-z0-9._-]{0,${limits.app_attachment_name_chars_max - 1}}$` });

const Address4 = Type.String({ pattern: '^[0-9]{1,3}(\\.[0-9]{1,3}){3}$' });
const Address6 = Type.String({ pattern: '^[0-9a-f:]{2,39}$' });
const Address = Type.String({ pattern: '^[0-9A-Fa-f.:]{2,45}$' });
const Subnet4 = Type.String({ pattern: '^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$' });
const Subnet6 = Type.String({ pattern: '^[0-9a-f:]{2,39}/[0-9]{1,3}$' });
/** Given by the tower: locally administered, never multicast. */
const Mac = Type.String({ pattern: '^02(:[0-9a-f]{2}){5}$' });
export const Vni = Type.Integer({ minimum: 1, maximum: 2 ** 24 - 1 });
export const AppMtu = Type.Integer({ minimum: limits.app_mtu_bytes_min, maximum: limits.app_mtu_bytes_max });
/** A WireGuard public key: 32 octets in base64, written in the one way that there is. */
const WireguardKey = Type.String({ pattern: '^[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$' });
const WireguardKeys = Type.Array(WireguardKey, { maxItems: limits.wireguard_keys_max });

/** A place on a network: a member itself (`attachment` is empty), or one of its attachments. */
export const AppEndpointSchema = closed({
  node: NodeId,
  attachment: Type.Union([Type.Literal(''), AttachmentName]),
  mac: Mac,
  address4: orNull(Address4),
  address6: orNull(Address6),
});
export type AppEndpoint = Static<typeof AppEndpointSchema>;

export const AppNetworkSchema = closed({
  name: AppName,
  vni: Vni,
  /** An operator's limit on the inner MTU; null: what the paths allow. */
  mtu: orNull(AppMtu),
  learning: Type.Boolean(),
  subnet4: orNull(Subnet4),
  subnet6: orNull(Subnet6),
  /** Of every member, the reader's own with them, ordered by node, then attachment. */
  endpoints: Type.Array(AppEndpointSchema, { maxItems: limits.app_network_endpoints_max }),
});
export type AppNetwork = Static<typeof AppNetworkSchema>;

/** What a host knows of the network below it, so that every member comes to the same inner MTU: the worst of all. */
const UnderlaySchema = closed({ mtu: AppMtu, ipv4_only: Type.Boolean() });
export type Underlay = Static<typeof UnderlaySchema>;

/** Another node that shares a network with the reader, at whatever site. */
export const AppHostSchema = closed({
  node: NodeId,
  name: Label,
  site: Label,
  vtep: Address4,
  /** Newest first; two while they change, none until the node has said any. */
  keys: WireguardKeys,
  /** Where its WireGuard is heard; null where it has no address of its own. */
  endpoint: orNull(closed({ host: Address, port: Port })),
  underlay: orNull(UnderlaySchema),
});
export type AppHost = Static<typeof AppHostSchema>;

/** What a member is told; a node that is in no network has no such part. */
export const AppSchema = closed({
  /** The reader's own. */
  vtep: Address4,
  networks: Type.Array(AppNetworkSchema, { maxItems: limits.app_networks_per_node_max }),
  hosts: Type.Array(AppHostSchema, { maxItems: limits.app_hosts_per_node_max }),
});
export type AppPart = Static<typeof AppSchema>;

/** What a node asks on its flow of service `app`: one message each, answered in order. */
export const AppRequestSchema = Type.Union([
  /** Said at each start of a channel and whenever keys change. `host` null: the address that the node advertises for its channels. */
  closed({
    op: Type.Literal('wireguard'),
    keys: WireguardKeys,
    listen: orNull(closed({ host: orNull(Address), port: Port })),
    underlay: orNull(UnderlaySchema),
  }),
  /** The same again gives the same answer. */
  closed({ op: Type.Literal('attach'), network: AppName, attachment: AttachmentName }),
  /** Also done where there was no such attachment. */
  closed({ op: Type.Literal('detach'), network: AppName, attachment: AttachmentName }),
]);
export type AppRequest = Static<typeof AppRequestSchema>;

const Fact = Type.Union([Type.String({ maxLength: limits.reason_bytes_max }), Type.Number(), Type.Boolean(), Type.Null()]);

export const AppAnswerSchema = Type.Union([
  closed({ ok: Type.Literal(true) }),
  /** Of `attach`. */
  closed({ ok: Type.Literal(true), mac: Mac, address4: orNull(Address4), address6: orNull(Address6) }),
  closed({
    error: closed({
      code: Type.String({ maxLength: 64 }),
      message: Type.String({ maxLength: 4 * limits.reason_bytes_max }),
      facts: Type.Record(Type.String({ maxLength: 64 }), Fact),
    }),
  }),
]);
export type AppAnswer = Static<typeof AppAnswerSchema>;
