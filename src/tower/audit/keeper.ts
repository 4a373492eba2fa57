/** Signs the head of the audit log now and then while the tower runs, and once more when it stops. */
import { limits } from '../../base/limits.ts';
import type { Timers } from '../../transport/system.ts';
import type { Tower } from '../tower.ts';

export interface AuditKeeper {
  /** Signs what came since. Idempotent. */
  close(): Promise<void>;
}

/** `onFailure` hears of a head that could not be signed or written; the next turn tries again. */
export function keepAuditHead(tower: Tower, timers: Timers, onFailure: (error: unknown) => void): AuditKeeper {
  let closed: Promise<void> | null = null;
  let turn = Promise.resolve();
  const sign = () => {
    turn = turn.then(() => tower.keepAuditHead()).catch(onFailure);
  };
  let cancel = () => {};
  const later = () => {
    cancel = timers.after(limits.audit_head_ms, () => {
      sign();
      later();
    });
  };
  sign();
  later();
  return {
    close() {
      cancel();
      if (closed === null) {
        sign();
        closed = turn;
      }
      return closed;
    },
  };
}
