/**
 * Whether a flow may be opened: the one authorization decision. It is asked by both ends, of each flow, after identity was judged.
 * What a cluster allows so far: members of one cluster, the classes that both ends offer.
 */
import { SelvedgeError } from '../base/errors.ts';
import type { NodeIdentity } from '../base/ids.ts';

export interface FlowRequest {
  readonly opener: NodeIdentity;
  readonly acceptor: NodeIdentity;
  readonly class: string;
  readonly service: string;
  /** Classes that both hellos offered. */
  readonly classes: readonly string[];
}

/** Null: allowed. */
export function authorizeFlow(request: FlowRequest): SelvedgeError | null {
  const { opener, acceptor } = request;
  if (opener.cluster !== acceptor.cluster) return new SelvedgeError('wrong_cluster', { found: opener.cluster, expected: acceptor.cluster });
  if (!request.classes.includes(request.class))
    return new SelvedgeError('channel_class_denied', { class: request.class, why: 'the other end does not offer it' });
  return null;
}
