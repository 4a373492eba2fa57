/**
 * What a node tells its tower of itself (flow of service `report`, class `health`): how its channels are and what has failed, as numbers, and the few channels that
 * are not well by name. Bounded by its schema; nothing of what is carried is in it.
 */
import { type Static, Type } from 'typebox';
import { type ErrorCode, errorCodes } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import { channelStates } from '../channel/states.ts';
import { Label, NodeId } from '../enroll/shapes.ts';
import { checker } from '../enroll/wire.ts';
import type { ChannelStatus } from '../peering/mesh.ts';
import type { DrainStatus } from '../peering/drain.ts';
import type { Observatory } from './observatory.ts';
import { failureStages } from './vocabulary.ts';

export const REPORT_SERVICE = 'report';

const strict = { additionalProperties: false };
const Count = Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER });
const State = Type.Enum([...channelStates]);
const Code = Type.Enum(errorCodes);

export const ReportSchema = Type.Object(
  {
    snapshot_version: Count,
    snapshot_expires_ms: Type.Number(),
    certificate_ends_ms: Type.Number(),
    draining: Type.Boolean(),
    channels: Type.Array(Type.Object({ state: State, count: Count }, strict), { maxItems: channelStates.length }),
    /** The first that carry nothing, or whose session is missing or silent. */
    unwell: Type.Array(Type.Object({ peer: Type.Union([NodeId, Label]), state: State, code: Type.Union([Code, Type.Null()]) }, strict), {
      maxItems: limits.report_unwell_max,
    }),
    /** Since the start of its daemon, the most frequent first. */
    failures: Type.Array(Type.Object({ stage: Type.Enum([...failureStages]), code: Code, count: Count }, strict), { maxItems: limits.report_failures_max }),
  },
  strict,
);
export type Report = Static<typeof ReportSchema>;

/** @throws request_invalid */
export const checkReport = checker(ReportSchema);

export interface ReportSources {
  readonly channels: () => readonly ChannelStatus[];
  readonly drain: () => DrainStatus;
  readonly facts: () => Pick<Report, 'snapshot_version' | 'snapshot_expires_ms' | 'certificate_ends_ms'>;
}

const well: ReadonlySet<string> = new Set(['established', 'revalidating', 'draining', 'closing', 'closed']);

export function makeReport(seen: Observatory, { channels, drain, facts }: ReportSources): Report {
  const all = channels();
  const counts = channelStates.map((state) => ({ state, count: all.filter((one) => one.state === state).length }));
  const unwell = all.filter(({ state, suspect }) => suspect || !well.has(state)).slice(0, limits.report_unwell_max);
  const failures = [...seen.failures.rows()].map(({ labels: [stage, code], count }) => ({ stage, code, count }));
  return {
    ...facts(),
    draining: drain().state !== 'none',
    channels: counts.filter(({ count }) => count > 0),
    unwell: unwell.map(({ peer, state, last_error }) => ({ peer, state, code: (last_error?.code ?? null) as ErrorCode | null })),
    failures: failures.sort((left, right) => right.count - left.count).slice(0, limits.report_failures_max),
  };
}
