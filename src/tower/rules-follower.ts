/**
 * Has the tower decide by its rules as they are now: reads them anew after each change, and tells of it once decisions go by them. Where they cannot be read, that is tried again,
 * with pauses, until they are: until then it is decided by those before. Changes that come meanwhile share the next reading.
 */
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';
import { Backoff } from '../channel/backoff.ts';
import type { Timers } from '../transport/system.ts';

export interface RulesFollowerOptions<Change> {
  readonly timers: Timers;
  readonly random: Random;
  readonly refresh: () => Promise<void>;
  /** Decisions go by what changed; null: anything may have. */
  readonly onFresh: (changes: readonly Change[] | null) => void;
  readonly onFailure: (error: unknown) => void;
}

export class RulesFollower<Change> {
  readonly #options: RulesFollowerOptions<Change>;
  readonly #backoff: Backoff;
  /** Null: more than are worth telling apart. */
  #changes: Change[] | null = [];
  #isReading = false;
  #isClosed = false;
  #cancel: (() => void) | null = null;

  constructor(options: RulesFollowerOptions<Change>) {
    this.#options = options;
    this.#backoff = new Backoff(options.random, limits.rules_retry_ms_base, limits.rules_retry_ms_max);
  }

  changed(change: Change): void {
    if (this.#changes !== null && this.#changes.length >= limits.rules_changes_max) this.#changes = null;
    this.#changes?.push(change);
    if (!this.#isReading && this.#cancel === null) void this.#read();
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel?.();
  }

  async #read(): Promise<void> {
    const { refresh, onFresh, onFailure, timers } = this.#options;
    this.#isReading = true;
    while (!this.#isClosed && this.#changes?.length !== 0) {
      const changes = this.#changes;
      this.#changes = [];
      try {
        await refresh();
        this.#backoff.reset();
        if (!this.#isClosed) onFresh(changes);
      } catch (error) {
        if (this.#isClosed) return;
        // Whoever the lost reading was about is not remembered: the next one is about everybody.
        this.#changes = null;
        onFailure(error);
        this.#cancel = timers.after(this.#backoff.next(), () => {
          this.#cancel = null;
          void this.#read();
        });
        break;
      }
    }
    this.#isReading = false;
  }
}
