/**
 * What a node does once its snapshot's time to live is over (spec 9.5): it says so, in its log and status, and has no channel with a peer any more, since who was
 * revoked meanwhile it cannot know: those that are there are closed with `policy_denied`, and none begins. The tower is dialed as ever, and a fresh snapshot ends it.
 */
import { SelvedgeError } from '../base/errors.ts';
import { type NodeIdentity, TOWER_ID } from '../base/ids.ts';
import type { Timers } from '../transport/system.ts';

/** The snapshot that is held, and until when it may be followed: milliseconds since the epoch. */
export interface HeldSnapshot {
  readonly snapshot: { readonly version: number };
  readonly snapshotExpires_ms: number;
}

export interface ExpiryOptions {
  readonly state: HeldSnapshot;
  readonly timers: Timers;
  /** It has expired, or is fresh again: channels are to be judged again. */
  readonly onChange: () => void;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

/** Between two looks at the clock on the wall, which may be set in between. */
const LOOK_MS_MAX = 3_600_000;

export class SnapshotExpiry {
  readonly #options: ExpiryOptions;
  #isTold = false;
  #isClosed = false;
  #cancel: () => void = () => {};

  constructor(options: ExpiryOptions) {
    this.#options = options;
  }

  get isExpired(): boolean {
    return this.#left_ms <= 0;
  }

  /** For status. */
  get facts(): { readonly snapshot_expires_ms: number; readonly snapshot_is_expired: boolean } {
    return { snapshot_expires_ms: this.#options.state.snapshotExpires_ms, snapshot_is_expired: this.isExpired };
  }

  /** Whether there may be a channel with this peer; null: there may. */
  objection({ node }: NodeIdentity): SelvedgeError | null {
    if (node === TOWER_ID || !this.isExpired) return null;
    return new SelvedgeError('policy_denied', { why: `the snapshot of this node expired at ${this.#at}; the tower has to be reached first` });
  }

  /** Call it at start, and whenever a newer snapshot holds. */
  follow(): void {
    this.#cancel();
    // A snapshot that is still taken while the daemon stops plans nothing.
    if (this.#isClosed) return;
    const { state, timers, log, onChange } = this.#options;
    if (this.isExpired !== this.#isTold) {
      this.#isTold = this.isExpired;
      const facts = { version: state.snapshot.version, expires: this.#at };
      log(this.#isTold ? 'snapshot expired: no channel with a peer until the tower is reached' : 'snapshot is fresh again', facts);
      onChange();
    }
    const left_ms = this.#left_ms;
    this.#cancel = timers.after(left_ms > 0 ? Math.min(left_ms, LOOK_MS_MAX) : LOOK_MS_MAX, () => this.follow());
  }

  close(): void {
    this.#isClosed = true;
    this.#cancel();
  }

  get #left_ms(): number {
    return this.#options.state.snapshotExpires_ms - this.#options.timers.clock.wall();
  }

  get #at(): string {
    return new Date(this.#options.state.snapshotExpires_ms).toISOString();
  }
}
