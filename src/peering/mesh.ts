/** `Mesh`: the channels of this host, as services, node and tower see them. */
import type { NodeIdentity } from '../base/ids.ts';
import type { FlowKind, TrafficClass } from '../channel/classes.ts';
import type { GovernorFacts } from '../channel/governor.ts';
import type { PeerView } from '../channel/heartbeat.ts';
import type { ChannelState } from '../channel/states.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';
import type { TransportName } from '../transport/session.ts';

export type { FlowHandle } from '../transport/flow-handle.ts';

/** Where a peer listens; a port is null where the transport is not offered. */
export interface Endpoint {
  readonly host: string;
  readonly tcp: number | null;
  readonly udp: number | null;
}

/** A peer that this host should have a channel with. */
export interface Candidate {
  readonly identity: NodeIdentity;
  readonly name: string;
  readonly endpoints: readonly Endpoint[];
  /** Whether this end dials; else it waits to be dialed. */
  readonly isDialed: boolean;
  /** SHA-256 of the leaf that it shows now, where that is known: a session with an older one is followed by another, without haste. */
  readonly leaf?: Uint8Array;
}

export interface ChannelStatus {
  readonly peer: string;
  readonly name: string;
  readonly site: string;
  readonly side: 'dialer' | 'acceptor';
  readonly state: ChannelState;
  /** Since when, milliseconds of the wall clock; null: there is no channel. */
  readonly since_ms: number | null;
  /** A session is missing or silent at the moment, while the state holds. */
  readonly suspect: boolean;
  readonly transport: TransportName | null;
  /** Why this transport, in words. */
  readonly why: string;
  readonly remote: string | null;
  readonly rtt_ms: number | null;
  readonly rtt_min_ms: number | null;
  readonly loss_part: number | null;
  /** What heartbeats and their echoes measured on the session in use; `loss_part` from 0 to 1. */
  readonly heartbeat_rtt_ms: number | null;
  readonly heartbeat_jitter_ms: number | null;
  readonly heartbeat_loss_part: number | null;
  readonly mtu_bytes: number | null;
  readonly classes: readonly TrafficClass[];
  readonly bytes_sent: number;
  readonly bytes_received: number;
  /** Days until the peer's certificate expires. */
  readonly certificate_days: number | null;
  readonly reconnects: number;
  /** Last failure: its code and message. */
  readonly last_error: { readonly code: string; readonly message: string } | null;
  readonly governor: GovernorFacts | null;
  /** What the peer said last of the path and of itself; null: nothing yet. */
  readonly peer_view?: PeerView | null;
}

export interface Mesh {
  /** `node` is an id or a name. @throws not_connected, not_found, channel_class_denied, policy_denied, peer_draining, limit_reached */
  open(node: string, cls: TrafficClass, kind: FlowKind, service: string): FlowHandle;
  /** Incoming flows of a service. */
  handle(service: string, accept: (flow: FlowHandle) => void): void;
  status(): ChannelStatus[];
  close(): Promise<void>;
}
