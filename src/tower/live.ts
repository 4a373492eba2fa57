/** Whether the tower listens to a node at all. */
import { SelvedgeError } from '../base/errors.ts';
import type { NodeRow } from './store.ts';

/** @throws certificate_revoked */
export function checkLive({ id, fingerprint, disabled }: NodeRow): void {
  if (fingerprint === null || disabled) throw new SelvedgeError('certificate_revoked', { peer: id, why: 'the node was revoked or disabled' });
}
