/** Every metric: its name, type, labels and help. docs/metrics.md is made of it; units are in the names, as Prometheus has them. */

export interface MetricRow {
  readonly type: 'gauge' | 'counter';
  readonly help: string;
  readonly labels: readonly string[];
}

const gauge = (help: string, ...labels: string[]): MetricRow => ({ type: 'gauge', help, labels });
const counter = (help: string, ...labels: string[]): MetricRow => ({ type: 'counter', help, labels });

export const metricTable = {
  selvedge_channels: gauge('Channels by state and by which end dialed.', 'state', 'side'),
  selvedge_channels_active: gauge('Channels over which traffic may pass, by the transport in use; none: between two sessions.', 'transport'),
  selvedge_channels_suspect: gauge('Channels that carry and whose session is missing or silent at the moment.'),
  selvedge_class_channels: gauge('Channels with an open flow of the class.', 'class'),
  selvedge_class_bytes_total: counter('Octets of payload by class and direction.', 'class', 'direction'),
  selvedge_sessions_total: counter('Sessions that came to carry a channel: new, resumed after a loss, or migrated.', 'transport', 'mode'),
  selvedge_reconnects_total: counter('Sessions that took over a channel whose session was lost.'),
  selvedge_failures_total: counter('Failures by stage and code (docs/failure-reasons.md).', 'stage', 'code'),
  selvedge_heartbeat_rtt_seconds: gauge('Round trips of heartbeats over the live channels: least, median and greatest.', 'peer', 'stat'),
  selvedge_heartbeat_jitter_seconds: gauge('Variation of the round trip, median over the live channels.', 'peer'),
  selvedge_heartbeat_loss_ratio: gauge('Part of heartbeats without an answer, greatest over the live channels, 0 to 1.', 'peer'),
  selvedge_peers_waiting: gauge('Peers that this host dials and has no channel with.'),
  selvedge_backoff_attempts: gauge('Failed attempts in a row, greatest over those peers.'),
  selvedge_draining: gauge('1 while this host drains, 0 otherwise.'),
  selvedge_drain_flows: gauge('Flows that are not essential and still live.'),
  selvedge_revalidations_total: counter('Channels that were judged again, by outcome.', 'outcome'),
  selvedge_revocations_total: counter('What revoking has done: nodes revoked here (tower), and channels that ended since their peer was.', 'action'),
  selvedge_directory_version: gauge('Version of the directory that this host goes by.'),
  selvedge_trust_version: gauge('Version of the trust bundle.'),
  selvedge_policy_epoch: gauge('Version of the last change of rules that concerns this host.'),
  selvedge_snapshot_age_seconds: gauge('Time since the tower made the snapshot (node).'),
  selvedge_snapshot_expires_seconds: gauge('Time until the snapshot may not be followed any more; below 0: it has expired (node).'),
  selvedge_certificate_expires_seconds: gauge("Time until this host's certificate ends."),
  selvedge_peer_certificate_expires_days: gauge("Days until the first of the peers' certificates ends.", 'peer'),
  selvedge_stale_frames_dropped_total: counter('Frames of latest flows that newer ones took the place of.'),
  selvedge_tunnel_up: gauge('1 while selvedge-tunnel runs and answers, 0 otherwise (node).'),
  selvedge_app_networks: gauge('App networks that this node is a member of (node).'),
  selvedge_app_peers: gauge('Other members of those, by the path on which packets go to them.', 'path'),
  selvedge_app_network_bytes_total: counter('Octets of frames, by app network: sent from this host into it, received from it.', 'network', 'direction'),
  selvedge_app_network_refused_total: counter('Frames that got nowhere, by app network and reason.', 'network', 'reason'),
  selvedge_app_peer_bytes_total: counter('Octets of sealed packets, by peer.', 'node', 'name', 'direction'),
  selvedge_app_peer_dropped_total: counter(
    "Sealed packets that found no room, by peer: in the tunnel's queue, or on the way that carries them.",
    'node',
    'name',
    'reason',
  ),
  selvedge_app_peer_path: gauge('1 for the path on which packets go to the peer.', 'node', 'name', 'path'),
  selvedge_app_peer_handshake_age_seconds: gauge(
    'Time since the last handshake of WireGuard with the peer; more than 180 s while something is sent: none succeeds.',
    'node',
    'name',
  ),
  selvedge_events_total: counter('Events by kind.', 'kind'),
  selvedge_event_followers: gauge('Readers that follow events now.'),
  selvedge_event_followers_dropped_total: counter('Readers that were too slow, and were let go.'),
} as const satisfies Record<string, MetricRow>;

export type MetricName = keyof typeof metricTable;
export const metricNames = Object.keys(metricTable) as MetricName[];
