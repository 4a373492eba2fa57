/** What a node last said of itself to its tower, in words. */
import { flag, list, maybe, number, shape, text, whole } from './answers.ts';

const health = shape({
  at_ms: number,
  snapshot_version: number,
  snapshot_expires_ms: number,
  certificate_ends_ms: number,
  draining: flag,
  channels: list(shape({ state: text, count: number })),
  unwell: list(shape({ peer: text, state: text, code: maybe(text) })),
  failures: list(shape({ stage: text, code: text, count: number })),
});
export const readHealth = whole(shape({ health: maybe(health) }));

export function* healthInWords(health: ReturnType<typeof readHealth>['health']): Generator<string> {
  if (health === null) return yield 'it has not reported since the tower started';
  const { at_ms, channels, unwell, failures, draining, snapshot_version } = health;
  const counts = channels.map(({ state, count }) => `${count} ${state}`).join(', ') || 'none';
  yield `reported ${new Date(at_ms).toISOString()}: channels ${counts}; snapshot ${snapshot_version}${draining ? '; draining' : ''}`;
  for (const { peer, state, code } of unwell) yield `  channel with ${peer}: ${state}${code === null ? '' : ` [${code}]`}`;
  for (const { stage, code, count } of failures) yield `  ${count} × ${code} (${stage})`;
}
