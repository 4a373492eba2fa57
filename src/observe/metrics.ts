/** The metrics of a daemon: one look at what is, at the moment that somebody asks, put into a registry of its own. Labels are of closed sets alone. */
import { Gauge, Registry, Counter } from 'prom-client';
import { TOWER_ID } from '../base/ids.ts';
import { trafficClassNames } from '../channel/classes.ts';
import { channelStates } from '../channel/states.ts';
import type { AppCounters } from '../overlay/counters.ts';
import type { ChannelStatus } from '../peering/mesh.ts';
import type { DrainStatus } from '../peering/drain.ts';
import { type MetricName, metricNames, metricTable } from './metric-table.ts';
import type { Observatory } from './observatory.ts';

/** What is looked at; all of it must be cheap. */
export interface MetricSources {
  readonly channels: () => readonly ChannelStatus[];
  readonly drain: () => DrainStatus;
  readonly versions: () => { readonly directory: number; readonly trust: number; readonly routes?: number };
  /** Milliseconds since 1970. */
  readonly wall: () => number;
  readonly certificateEnds_ms: () => number;
  /** Of a node; milliseconds since 1970. */
  readonly snapshot?: () => { readonly issued_ms: number; readonly expires_ms: number };
  /** Of a node. */
  readonly apps?: () => AppCounters;
}

/** One metric as `selvedge metrics --json` shows it. */
export interface MetricValues {
  readonly name: string;
  readonly type: string;
  readonly help: string;
  readonly values: readonly { readonly labels: Readonly<Record<string, string | number>>; readonly value: number }[];
}

type Labels = Readonly<Record<string, string>>;

export class Metrics {
  readonly #seen: Observatory;
  readonly #sources: MetricSources;
  readonly #registry = new Registry();
  readonly #metrics = new Map<MetricName, Gauge | Counter>();

  constructor(seen: Observatory, sources: MetricSources) {
    this.#seen = seen;
    this.#sources = sources;
    for (const name of metricNames) {
      // A tower follows nobody's snapshot, and is in no app network: 0 would be a lie.
      if (sources.snapshot === undefined && name.startsWith('selvedge_snapshot_')) continue;
      if (sources.apps === undefined && appMetric.test(name)) continue;
      const { type, help, labels } = metricTable[name];
      const settings = { name, help, labelNames: [...labels], registers: [this.#registry] };
      this.#metrics.set(name, type === 'gauge' ? new Gauge(settings) : new Counter(settings));
    }
  }

  /** In the text format of Prometheus. */
  async text(): Promise<string> {
    this.#look();
    return await this.#registry.metrics();
  }

  async json(): Promise<MetricValues[]> {
    this.#look();
    const all = await this.#registry.getMetricsAsJSON();
    return all.map(({ name, help, type, values }) => ({
      name,
      help,
      type: String(type),
      values: (values as readonly { labels: Labels; value: number }[]).map(({ labels, value }) => ({ labels, value })),
    }));
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  #set(name: MetricName, value: number, labels: Labels = {}): void {
    this.#metrics.get(name)?.inc(labels, value);
  }

  #look(): void {
    for (const metric of this.#metrics.values()) metric.reset();
    const channels = this.#sources.channels();
    this.#lookAtChannels(channels);
    this.#lookAtHeartbeats(channels);
    this.#lookAtCounts();
    this.#lookAtHost(channels);
    if (this.#sources.apps !== undefined) this.#lookAtApps(this.#sources.apps());
  }

  #lookAtChannels(channels: readonly ChannelStatus[]): void {
    for (const state of channelStates) {
      for (const side of ['dialer', 'acceptor']) {
        this.#set('selvedge_channels', channels.filter((one) => one.state === state && one.side === side).length, { state, side });
      }
    }
    const active = channels.filter(({ state }) => carrying.has(state));
    for (const transport of ['quic', 'tcp', 'none']) {
      this.#set('selvedge_channels_active', active.filter((one) => (one.transport ?? 'none') === transport).length, { transport });
    }
    this.#set('selvedge_channels_suspect', active.filter(({ suspect }) => suspect).length);
    for (const name of trafficClassNames) this.#set('selvedge_class_channels', active.filter(({ classes }) => classes.includes(name)).length, { class: name });
    const waiting = channels.filter(({ side, since_ms }) => side === 'dialer' && since_ms === null);
    this.#set('selvedge_peers_waiting', waiting.length);
    this.#set('selvedge_backoff_attempts', Math.max(0, ...waiting.map(({ reconnects }) => reconnects)));
  }

  /** By what kind of peer, never by which. */
  #lookAtHeartbeats(channels: readonly ChannelStatus[]): void {
    for (const peer of peerKinds) {
      const live = channels.filter((one) => kindOf(one) === peer && carrying.has(one.state));
      const rtts = sorted(live.map(({ heartbeat_rtt_ms }) => heartbeat_rtt_ms));
      if (rtts.length === 0) continue;
      for (const [stat, rtt_ms] of [
        ['min', rtts[0]],
        ['median', median(rtts)],
        ['max', rtts.at(-1)],
      ] as const) {
        this.#set('selvedge_heartbeat_rtt_seconds', (rtt_ms ?? 0) / 1_000, { peer, stat });
      }
      this.#set('selvedge_heartbeat_jitter_seconds', median(sorted(live.map(({ heartbeat_jitter_ms }) => heartbeat_jitter_ms))) / 1_000, { peer });
      this.#set('selvedge_heartbeat_loss_ratio', Math.max(0, ...live.map(({ heartbeat_loss_part }) => heartbeat_loss_part ?? 0)), { peer });
    }
  }

  #lookAtCounts(): void {
    const seen = this.#seen;
    for (const { labels, count } of seen.traffic().rows()) this.#set('selvedge_class_bytes_total', count, { class: labels[0], direction: labels[1] });
    let reconnects = 0;
    for (const { labels, count } of seen.sessions.rows()) {
      const [transport, mode] = labels;
      this.#set('selvedge_sessions_total', count, { transport, mode });
      if (mode === 'resume') reconnects += count;
    }
    this.#set('selvedge_reconnects_total', reconnects);
    for (const { labels, count } of seen.failures.rows()) this.#set('selvedge_failures_total', count, { stage: labels[0], code: labels[1] });
    for (const outcome of ['passed', 'failed'] as const) this.#set('selvedge_revalidations_total', seen.revalidations.get([outcome]), { outcome });
    for (const action of ['node', 'channel'] as const) this.#set('selvedge_revocations_total', seen.revocations.get([action]), { action });
    this.#set('selvedge_stale_frames_dropped_total', seen.staleDropped);
    for (const { labels, count } of seen.kinds.rows()) this.#set('selvedge_events_total', count, { kind: labels[0] });
    this.#set('selvedge_event_followers', seen.events.following);
    this.#set('selvedge_event_followers_dropped_total', seen.events.letGo);
  }

  #lookAtApps({ isTunnelUp, networkCount, networks, peers, paths }: AppCounters): void {
    this.#set('selvedge_tunnel_up', isTunnelUp ? 1 : 0);
    for (const path of ['direct', 'carried'] as const) this.#set('selvedge_app_peers', paths[path], { path });
    this.#set('selvedge_app_networks', networkCount);
    for (const { network, sent, received, refused } of networks) {
      this.#set('selvedge_app_network_bytes_total', sent, { network, direction: 'sent' });
      this.#set('selvedge_app_network_bytes_total', received, { network, direction: 'received' });
      for (const [reason, count] of refused) this.#set('selvedge_app_network_refused_total', count, { network, reason });
    }
    for (const { node, name, sent, received, queueDropped, carryDropped, path, handshake_ms } of peers) {
      this.#set('selvedge_app_peer_bytes_total', sent, { node, name, direction: 'sent' });
      this.#set('selvedge_app_peer_bytes_total', received, { node, name, direction: 'received' });
      this.#set('selvedge_app_peer_dropped_total', queueDropped, { node, name, reason: 'queue' });
      this.#set('selvedge_app_peer_dropped_total', carryDropped, { node, name, reason: 'carry' });
      if (path !== null) this.#set('selvedge_app_peer_path', 1, { node, name, path });
      if (handshake_ms !== null) this.#set('selvedge_app_peer_handshake_age_seconds', handshake_ms / 1_000, { node, name });
    }
  }

  #lookAtHost(channels: readonly ChannelStatus[]): void {
    const { drain, versions, wall, certificateEnds_ms, snapshot } = this.#sources;
    const { state, flows } = drain();
    this.#set('selvedge_draining', state === 'none' ? 0 : 1);
    this.#set('selvedge_drain_flows', flows);
    const { directory, trust, routes = 0 } = versions();
    this.#set('selvedge_directory_version', directory);
    this.#set('selvedge_trust_version', trust);
    this.#set('selvedge_policy_epoch', routes);
    const now_ms = wall();
    this.#set('selvedge_certificate_expires_seconds', (certificateEnds_ms() - now_ms) / 1_000);
    for (const peer of peerKinds) {
      const days = sorted(channels.filter((one) => kindOf(one) === peer).map(({ certificate_days }) => certificate_days))[0];
      if (days !== undefined) this.#set('selvedge_peer_certificate_expires_days', days, { peer });
    }
    if (snapshot === undefined) return;
    const { issued_ms, expires_ms } = snapshot();
    this.#set('selvedge_snapshot_age_seconds', (now_ms - issued_ms) / 1_000);
    this.#set('selvedge_snapshot_expires_seconds', (expires_ms - now_ms) / 1_000);
  }
}

const appMetric = /^selvedge_(app|tunnel)_/;

const carrying: ReadonlySet<string> = new Set(['established', 'revalidating', 'degraded', 'draining', 'closing']);

/** What a label may say of a peer. */
const peerKinds = ['tower', 'node'] as const;

function kindOf({ peer }: ChannelStatus): (typeof peerKinds)[number] {
  return peer === TOWER_ID ? 'tower' : 'node';
}

function sorted(values: readonly (number | null)[]): number[] {
  return values.filter((value) => value !== null).sort((left, right) => left - right);
}

function median(values: readonly number[]): number {
  return values[Math.floor((values.length - 1) / 2)] ?? 0;
}
