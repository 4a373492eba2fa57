/**
 * Nodes that are being revoked with time to finish (spec 9.4, normal severity): until its time has come a node keeps its certificate, its peers begin nothing
 * with it, and what is there drains. Then it is revoked as any other. The times are in the store, so that a tower which was down in between does it at its next start.
 */
import type { Timers } from '../transport/system.ts';
import type { NodeRow } from './store/store.ts';
import type { Tower } from './tower.ts';

/** When which node is to be revoked, in memory. */
export class Leaving {
  readonly #until = new Map<string, number>();

  set({ id, fingerprint, leaving_ms }: Pick<NodeRow, 'id' | 'fingerprint' | 'leaving_ms'>): void {
    if (fingerprint === null || leaving_ms === null) this.#until.delete(id);
    else this.#until.set(id, leaving_ms);
  }

  /** The first to be revoked; null: none is. */
  get next(): { readonly id: string; readonly at_ms: number } | null {
    let next: { id: string; at_ms: number } | null = null;
    for (const [id, at_ms] of this.#until) if (next === null || at_ms < next.at_ms) next = { id, at_ms };
    return next;
  }
}

export interface RevocationKeeper {
  /** Idempotent. */
  close(): void;
}

/** After an attempt that failed. */
const RETRY_MS = 5_000;
/** Between two looks at the clock on the wall, which may be set in between. */
const LOOK_MS_MAX = 60_000;

/** Revokes each when its time has come. `onDone` hears of each: with an error where it could not be done, and is tried again. */
export function keepRevocations(tower: Tower, timers: Timers, onDone: (node: string, error: unknown) => void): RevocationKeeper {
  let cancel = () => {};
  let isClosed = false;
  let isBusy = false;
  const look = (pause_ms = 0): void => {
    cancel();
    const next = tower.leaving.next;
    if (next === null || isClosed || isBusy) return;
    const left_ms = Math.max(pause_ms, next.at_ms - timers.clock.wall());
    if (left_ms > 0) {
      cancel = timers.after(Math.min(left_ms, LOOK_MS_MAX), () => look());
      return;
    }
    isBusy = true;
    tower
      .revokeNode(next.id, 'tower')
      .then(
        () => onDone(next.id, null),
        (error: unknown) => onDone(next.id, error),
      )
      .finally(() => {
        isBusy = false;
        look(tower.leaving.next?.id === next.id ? RETRY_MS : 0);
      });
  };
  const forget = tower.onChange(() => look());
  look();
  return {
    close() {
      isClosed = true;
      forget();
      cancel();
    },
  };
}
