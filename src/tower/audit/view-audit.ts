/**
 * Reading the platform owner's view, which shows everything, is itself audited (spec 13.3): who read which part of it. Once in a while for each, so that a program that
 * looks every second does not fill the log that others are to be found in.
 */
import { limits } from '../../base/limits.ts';
import type { Clock } from '../../base/seam.ts';
import type { Store } from '../store/store.ts';

export class ViewAudit {
  readonly #store: Pick<Store, 'note'>;
  readonly #clock: Clock;
  /** When each actor was noted last for each part; in the order of that. */
  readonly #noted = new Map<string, number>();

  constructor({ store, clock }: { readonly store: Pick<Store, 'note'>; readonly clock: Clock }) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Before it is shown. @throws what the store does: what cannot be noted is not shown */
  async read(part: string, actor: string): Promise<void> {
    const at_ms = this.#clock.wall();
    const key = `${actor} ${part}`;
    const last_ms = this.#noted.get(key);
    if (last_ms !== undefined && at_ms >= last_ms && at_ms - last_ms < limits.view_audit_ms) return;
    await this.#store.note({ action: 'view.read', subject: part, detail: {} }, { actor, at_ms });
    this.#noted.delete(key);
    this.#noted.set(key, at_ms);
    for (const oldest of this.#noted.keys()) {
      if (this.#noted.size <= limits.view_audit_actors_max) break;
      this.#noted.delete(oldest);
    }
  }
}
