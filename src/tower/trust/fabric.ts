/** What a retired root means for the channels that the tower has: it shows its other leaf at once, and those that stand on the old root end when their time to move over is over. */
import { limits } from '../../base/limits.ts';
import type { Host } from '../../peering/host.ts';
import type { Timers } from '../../transport/system.ts';
import type { Tower } from '../tower.ts';

/** `onRetired` hears of it, with the version of the bundle. The returned function ends it. */
export function followRetirement(tower: Tower, host: Pick<Host, 'renewed' | 'mesh'>, timers: Timers, onRetired: (version: number) => void): () => void {
  let cancel = () => {};
  const unsubscribe = tower.onRetired(() => {
    void host.renewed();
    onRetired(tower.trust.version);
    cancel();
    cancel = timers.after(limits.trust_grace_ms, () => host.mesh.revalidate());
  });
  return () => {
    unsubscribe();
    cancel();
  };
}
