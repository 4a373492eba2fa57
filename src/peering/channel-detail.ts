/** All that is known of one channel at the moment, for people: `selvedge channel show`. Bounded, whatever the channel holds. */
import { toHex } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import type { Flow } from '../channel/flow.ts';
import type { ChannelStatus } from './mesh.ts';
import type { PeerChannel } from './peer-channel.ts';

export interface FlowDetail {
  readonly id: number;
  readonly class: string;
  readonly kind: string;
  readonly service: string;
  readonly opened_by: 'self' | 'peer';
  readonly bytes_sent: number;
  readonly bytes_received: number;
  /** Written, and not yet taken by the peer. */
  readonly unacknowledged_bytes: number;
}

export interface ChannelDetail extends ChannelStatus {
  /** Null: there is none now, and the next is dialed as `backoff` says. */
  readonly channel: string | null;
  readonly class_bytes: readonly { readonly class: string; readonly sent: number; readonly received: number }[];
  /** The oldest first, at most `channel_detail_flows_max`. */
  readonly flows: readonly FlowDetail[];
  readonly flows_open: number;
  readonly certificate: { readonly serial: string; readonly fingerprint: string; readonly not_before_ms: number; readonly not_after_ms: number } | null;
  readonly draining: { readonly self: boolean; readonly peer: boolean };
  readonly stale_frames_dropped: number;
  /** What this host goes by, as it says it in hellos. */
  readonly versions: { readonly directory: number; readonly trust: number; readonly routes: number };
  /** Of the end that dials; null: the other dials, or nothing has failed. `next_ms`: until the next attempt. */
  readonly backoff: { readonly attempts: number; readonly next_ms: number | null } | null;
}

type Live = Pick<ChannelDetail, 'channel' | 'class_bytes' | 'flows' | 'flows_open' | 'certificate' | 'draining' | 'stale_frames_dropped'>;

export const noChannel: Live = {
  channel: null,
  class_bytes: [],
  flows: [],
  flows_open: 0,
  certificate: null,
  draining: { self: false, peer: false },
  stale_frames_dropped: 0,
};

export function detailOf({ channel, verified }: PeerChannel): Live {
  const flows = [...channel.flows];
  return {
    channel: toHex(channel.id),
    class_bytes: [...channel.classBytes].map(([name, { sent, received }]) => ({ class: name, sent, received })),
    flows: flows.slice(0, limits.channel_detail_flows_max).map(flowDetail),
    flows_open: flows.length,
    certificate: verified && {
      serial: verified.serial,
      fingerprint: `sha256:${toHex(verified.fingerprint)}`,
      not_before_ms: verified.notBefore_ms,
      not_after_ms: verified.notAfter_ms,
    },
    draining: { self: channel.draining.isOwn, peer: channel.draining.isPeers },
    stale_frames_dropped: channel.staleDropped,
  };
}

function flowDetail(flow: Flow): FlowDetail {
  return {
    id: flow.id,
    class: flow.class,
    kind: flow.kind,
    service: flow.service,
    opened_by: flow.isOwn ? 'self' : 'peer',
    bytes_sent: flow.bytesOut,
    bytes_received: flow.bytesIn,
    unacknowledged_bytes: flow.send?.unacknowledged ?? 0,
  };
}
