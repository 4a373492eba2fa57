/** The decision in full, for whoever asks why: of the flow, and of the channel that it would go over. Pure. */
import { authorize, type Decision, type End, flowServiceOf } from './authorize.ts';
import type { Rules } from './rules.ts';

export interface Asked {
  readonly class: string;
  /** A declared service; null: a flow of none. */
  readonly service: string | null;
  readonly degraded: boolean;
}

export interface Explanation extends Decision {
  readonly channel: Decision;
}

export function explain(from: End, to: End, { class: cls, service, degraded }: Asked, rules: Rules, classes: readonly string[]): Explanation {
  const flow = { class: cls, service: service === null ? '' : flowServiceOf(service) };
  const request = { from, to, classes, degraded };
  return { ...authorize({ ...request, flow }, rules), channel: authorize({ ...request, flow: null }, rules) };
}
