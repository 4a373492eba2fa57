/** Whether the tower listens to a node at all. */
import { SelvedgeError } from '../base/errors.ts';
import type { NodeRow } from './store/store.ts';

/** @throws certificate_revoked, peer_disabled */
export function checkLive({ id, fingerprint, disabled }: NodeRow): void {
  if (fingerprint === null) throw new SelvedgeError('certificate_revoked', { peer: id, why: 'the node was revoked' });
  if (disabled) throw new SelvedgeError('peer_disabled', { peer: id });
}
