/** What both daemons do to be seen: an observatory that listens to the log, metrics over it, and the endpoint for a scraper where the configuration has one. */
import { systemClock } from '../src/transport/system.ts';
import { serveMetrics } from '../src/observe/endpoint.ts';
import { Metrics, type MetricSources } from '../src/observe/metrics.ts';
import { Observatory } from '../src/observe/observatory.ts';
import type { PeerMesh } from '../src/peering/peer-mesh.ts';
import type { Observed } from '../src/node/observe-routes.ts';
import type { MetricsConfig } from './config.ts';
import type { Closers } from './run.ts';

export const makeObservatory = (): Observatory => new Observatory({ wall: systemClock.wall });

/** @throws argument_invalid, port_in_use, permission_denied */
export async function observe(
  seen: Observatory,
  mesh: PeerMesh,
  sources: Pick<MetricSources, 'versions' | 'certificateEnds_ms' | 'snapshot' | 'apps'>,
  config: MetricsConfig | undefined,
  closers: Closers,
): Promise<Observed> {
  const metrics = new Metrics(seen, { channels: () => mesh.status(), drain: () => mesh.drainStatus, wall: systemClock.wall, ...sources });
  if (config !== undefined) {
    const endpoint = await serveMetrics(metrics, { address: config.address ?? '127.0.0.1', port: config.port });
    closers.add(() => endpoint.close());
  }
  return { events: seen.events, metrics, show: (node) => mesh.show(node) };
}
