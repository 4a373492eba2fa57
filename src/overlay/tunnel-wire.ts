/**
 * What the daemon and selvedge-tunnel say to each other over the control socket: the state that is desired, and the shapes of the answers. An answer may have
 * more in it than stands here, since the tunnel may be of a newer version; what stands here is checked.
 */
import { type Static, type TProperties, type TSchema, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

export const TUNNEL_PROTOCOL = 1;

export type Path = 'direct' | 'carried';
export type EngineChoice = 'auto' | 'kernel' | 'user';

export interface TunnelPeer {
  readonly node: string;
  readonly vtep: string;
  readonly keys: readonly string[];
  readonly endpoint: { readonly host: string; readonly port: number } | null;
  readonly path: Path;
  readonly keepalive_s: number;
}

export interface Neighbour {
  readonly mac: string;
  readonly addresses: readonly string[];
}

export interface TunnelAttachment extends Neighbour {
  readonly name: string;
  readonly netns: string;
  readonly interface: string;
  /** Name of the host's end. */
  readonly host: string;
}

export interface TunnelNetwork extends Neighbour {
  readonly name: string;
  readonly vni: number;
  readonly bridge: string;
  readonly tap: string;
  readonly mtu: number;
  readonly learning: boolean;
  readonly broadcast_pps: number;
  readonly remote: readonly (Neighbour & { readonly vtep: string })[];
  readonly local: readonly Neighbour[];
  readonly attachments: readonly TunnelAttachment[];
}

/** Everything that shall be there. Equal states are equal texts: lists are sorted, and fields always come in the same order. */
export interface DesiredState {
  readonly owner: string;
  readonly wireguard: {
    readonly engine: EngineChoice;
    /** Newest first. */
    readonly keys: readonly { readonly privateKey: string; readonly listenPort: number }[];
    readonly fwmark: number;
    readonly vtep: string;
  };
  readonly peers: readonly TunnelPeer[];
  readonly networks: readonly TunnelNetwork[];
}

/** Fields that are named must be there; others are passed over. */
const shape = <Properties extends TProperties>(properties: Properties) => Type.Object(properties);
const maybe = <Schema extends TSchema>(schema: Schema) => Type.Optional(Type.Union([schema, Type.Null()]));

const Text = Type.String({ maxLength: 1_024 });
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
/** Milliseconds ago; null: never. */
const Age = maybe(Type.Number({ minimum: 0 }));
const Listed = <Schema extends TSchema>(schema: Schema) => Type.Array(schema, { maxItems: limits.tunnel_list_max });

export const HelloAnswer = shape({
  version: Type.Integer(),
  program: Text,
  pid: Type.Integer({ minimum: 1 }),
  engine: maybe(Text),
  features: Listed(Text),
  generation: maybe(Count),
});
export type HelloAnswer = Static<typeof HelloAnswer>;

export const FailureSchema = shape({ code: Text, what: Text, why: Text, remedy: Type.Optional(Text) });
export type TunnelFailure = Static<typeof FailureSchema>;

export const ApplyAnswer = shape({ generation: Count, changed: Listed(Text), failures: Listed(FailureSchema) });
export type ApplyAnswer = Static<typeof ApplyAnswer>;

const PeerStats = shape({
  node: Text,
  path: Type.Union([Type.Literal('direct'), Type.Literal('carried')]),
  why: maybe(Text),
  endpoint: maybe(shape({ host: Text, port: Count })),
  latestHandshake_ms: Age,
  directHeard_ms: Age,
  carriedHeard_ms: Age,
  rxBytes: Count,
  txBytes: Count,
  dropped: Type.Optional(Count),
});
export type PeerStats = Static<typeof PeerStats>;

/** Why the tunnel refuses a frame, as it names it (native/tunnel/state/actual.go); `other`: for a reason of a newer one. */
export const refusalReasons = [
  'forged_source',
  'wrong_vni',
  'unknown_mac',
  'not_member',
  'broadcast_limited',
  'malformed',
  'vlan_tagged',
  'not_ip',
  'too_big',
  'arp_forged',
  'queue_full',
  'other',
] as const;
export type RefusalReason = (typeof refusalReasons)[number];

const NetworkStats = shape({
  name: Text,
  rxPackets: Type.Optional(Count),
  txPackets: Type.Optional(Count),
  rxBytes: Type.Optional(Count),
  txBytes: Type.Optional(Count),
  /** Packets that were refused, by cause. */
  refused: Type.Optional(Type.Record(Type.String({ maxLength: 64 }), Count)),
});
export type NetworkStats = Static<typeof NetworkStats>;

export const StatsAnswer = shape({
  peers: Listed(PeerStats),
  networks: Listed(NetworkStats),
  keys: Type.Optional(Listed(shape({ publicKey: Text, lastUsed_ms: Age }))),
});
export type StatsAnswer = Static<typeof StatsAnswer>;

const UnderlaySchema = Type.Union([shape({ interface: Text, mtu: Count, why: maybe(Text) }), Type.Null()]);

/** Of what is there, the part that only the host itself knows. */
export const ActualAnswer = shape({
  wireguard: shape({ engine: maybe(Text), why: maybe(Text) }),
  peers: Listed(shape({ node: Text, underlay: Type.Optional(UnderlaySchema) })),
});
export type ActualAnswer = Static<typeof ActualAnswer>;

export const PingAnswer = shape({ rtt_ms: Type.Number({ minimum: 0 }) });
export type PingAnswer = Static<typeof PingAnswer>;
export const AnyAnswer = Type.Unknown();

/** One line of the tunnel: an answer to a request, or an event. */
export const LineSchema = shape({
  id: Type.Optional(Type.Union([Type.Integer(), Type.Null()])),
  result: Type.Optional(Type.Unknown()),
  error: Type.Optional(shape({ code: Text, message: Type.String({ maxLength: 4_096 }) })),
  event: Type.Optional(Text),
  data: Type.Optional(Type.Unknown()),
});

export const UnderlayEvent = shape({ node: Text, underlay: UnderlaySchema });

export type Check<Shape> = (value: unknown) => Shape;

/** A compiled check. The result throws `tunnel_answer_invalid`, naming the first place that does not fit. */
export function checker<Schema extends TSchema>(schema: Schema): Check<Static<Schema>> {
  const compiled = Compile(schema);
  return (value) => {
    if (compiled.Check(value)) return value as Static<Schema>;
    const [first] = compiled.Errors(value);
    throw new SelvedgeError('tunnel_answer_invalid', { why: `${first?.instancePath || '/'}: ${first?.message ?? 'does not fit its schema'}` });
  };
}
