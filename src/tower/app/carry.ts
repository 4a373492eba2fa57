/**
 * The tower in the middle of two hosts that have no channel with each other: it passes their sealed packets on, while they are members of a common app network and no
 * rule denies them class `vpn_packet`.
 */
import { SelvedgeError } from '../../base/errors.ts';
import { limits } from '../../base/limits.ts';
import { CarryRelay, type CarryRelayOptions } from '../../relay/carry-relay.ts';
import { RateLimit } from '../../api/rate-limit.ts';
import type { Touched } from '../tower.ts';

export interface CarryOptions extends Pick<CarryRelayOptions, 'mesh' | 'timers' | 'log'> {
  /** That both are members of one network. @throws policy_denied */
  readonly checkPartners: (from: string, to: string) => Promise<void>;
  /** What rules say. @throws channel_class_denied, not_found */
  readonly checkRules: (from: string, to: string) => Promise<void>;
}

export interface CarryService {
  /** Decisions go by these changes now: what is passed on is judged again. Null: anything may have changed. */
  changed(changes: readonly Touched[] | null): void;
  close(): void;
}

export function serveCarry({ mesh, timers, log, checkPartners, checkRules }: CarryOptions): CarryService {
  const rate = new RateLimit({ clock: timers.clock, per_minute: limits.carry_opens_per_minute_max });
  const check = async ({ from, to }: { readonly from: string; readonly to: string }): Promise<void> => {
    await checkPartners(from, to);
    await checkRules(from, to);
  };
  const relay = new CarryRelay({
    mesh,
    timers,
    log,
    judge: async (greeting) => {
      rate.take(greeting.from);
      await check(greeting);
    },
    judgeAgain: check,
  });
  return {
    changed(changes) {
      void relay.recheck(nodesOf(changes)).catch((error: unknown) => {
        log('carried flows could not be judged again', { reason: error instanceof SelvedgeError ? error.message : 'a bug' });
      });
    },
    close: () => relay.close(),
  };
}

/** A node's own change (revoked, disabled) tells its whole site, and a rule's may tell everybody. Null: all. */
function nodesOf(changes: readonly Touched[] | null): ReadonlySet<string> | null {
  const isWide = changes === null || changes.some(({ everybody = false, site, sites = [] }) => everybody || site !== null || sites.length > 0);
  return isWide ? null : new Set(changes.flatMap(({ nodes }) => nodes));
}
