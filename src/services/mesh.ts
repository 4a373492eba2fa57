/**
 * What services need of the mesh: open a flow to a node, be told of incoming ones, and see how the channels are. The rooms of this
 * row do not import each other, so this is the seam; `peering` has the implementation.
 */
import type { FlowKind, TrafficClass } from '../channel/classes.ts';
import type { FlowHandle } from '../transport/flow-handle.ts';

export type { FlowHandle };

/** The part of a channel's status that services and the control API read. */
export interface ChannelFacts {
  /** Node id of the other end. */
  readonly peer: string;
  readonly name: string;
  readonly state: string;
  readonly transport: string | null;
  /** Why this transport and not a better one; or why there is none. */
  readonly why: string | null;
  readonly rtt_ms: number | null;
  /** Classes with open flows. */
  readonly classes: readonly string[];
  readonly bytes_sent: number;
  readonly bytes_received: number;
  /** Days that the peer's certificate is still valid. */
  readonly certificate_days: number | null;
}

export interface ServiceMesh {
  /** @throws not_connected, channel_class_denied, limit_reached */
  open(node: string, cls: TrafficClass, kind: FlowKind, service: string): FlowHandle;
  handle(service: string, accept: (flow: FlowHandle) => void): void;
  status(): readonly ChannelFacts[];
}
