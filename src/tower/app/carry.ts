/** The tower in the middle of two hosts that have no channel with each other: it passes their sealed packets on, while they are members of a common app network. */
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { CarryRelay, type CarryRelayOptions } from '../../relay/carry-relay.ts';
import { RateLimit } from '../../api/rate-limit.ts';
import type { Tower } from '../tower.ts';

/** Closed by its caller. */
export function serveCarry({ mesh, timers, log }: Pick<CarryRelayOptions, 'mesh' | 'timers' | 'log'>, tower: Tower): { close(): void } {
  const rate = new RateLimit({ clock: timers.clock, per_minute: limits.carry_opens_per_minute_max });
  const mayShare = ({ from, to }: { readonly from: string; readonly to: string }) => tower.app.checkPartners(from, to);
  const relay = new CarryRelay({
    mesh,
    timers,
    log,
    judge: async (greeting) => {
      rate.take(greeting.from);
      await mayShare(greeting);
    },
    judgeAgain: mayShare,
  });
  const unsubscribe = tower.onChange(({ site, nodes }) => {
    // A node's own change (revoked, disabled) tells its whole site.
    void relay.recheck(site === null ? new Set(nodes) : null).catch((error: unknown) => {
      log('carried flows could not be judged again', { reason: error instanceof SelvedgeError ? error.message : 'a bug' });
    });
  });
  return {
    close() {
      unsubscribe();
      relay.close();
    },
  };
}
