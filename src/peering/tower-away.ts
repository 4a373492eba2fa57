/**
 * Degraded mode (spec 9.5): what a node does while its tower is away. Once there has been no session with it for a bounded time, the node goes on by the snapshot
 * that it holds, and by those of its policies alone that count without a tower; it takes in nothing new. It ends when the tower has been reached and has sent a
 * fresh snapshot: a tower that is back may have revoked somebody meanwhile.
 *
 * Who enrolls, which roots count, what roles a node has and which relays it goes through are said by snapshots only, which a node takes from its tower only: none of
 * it can change while that is away. What could is the set of channels, so that is held here.
 */
import { SelvedgeError } from '../base/errors.ts';
import { type NodeIdentity, TOWER_ID } from '../base/ids.ts';
import type { Timers } from '../transport/system.ts';

export interface TowerAwayOptions {
  readonly site: string;
  /** Without a session with the tower, until the mode begins: milliseconds. */
  readonly after_ms: number;
  readonly timers: Timers;
  /** Whether a session carries the channel with the tower now. */
  readonly isReached: () => boolean;
  /** The tower is there again: it is asked for a snapshot as of now. */
  readonly ask: () => void;
  /** The mode has begun, or ended: channels are to be judged again. */
  readonly onChange: () => void;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

export class TowerAway {
  readonly #options: TowerAwayOptions;
  #isDegraded = false;
  #isAsked = false;
  #isClosed = false;
  #cancel: (() => void) | null = null;

  constructor(options: TowerAwayOptions) {
    this.#options = options;
  }

  get isDegraded(): boolean {
    return this.#isDegraded;
  }

  /** For status. */
  get facts(): { readonly degraded: boolean } {
    return { degraded: this.#isDegraded };
  }

  /** Why no new channel with this peer may begin (`policy_denied`); null: it may. With nodes of other sites none begins: they are further from what this node knows. */
  objection({ node, site }: NodeIdentity): SelvedgeError | null {
    if (!this.#isDegraded || node === TOWER_ID || site === this.#options.site) return null;
    return new SelvedgeError('policy_denied', {
      why: `this node is degraded: no new channel with a node of another site, ${site}, until the tower is reached`,
    });
  }

  /** Call it at start, and whenever channels have changed. */
  channelsChanged(): void {
    // The channels that end while the daemon stops are no sign of anything.
    if (this.#isClosed) return;
    const { timers, after_ms, isReached, ask } = this.#options;
    if (!isReached()) {
      this.#isAsked = false;
      if (!this.#isDegraded) this.#cancel ??= timers.after(after_ms, () => this.#begin());
      return;
    }
    this.#stop();
    if (!this.#isDegraded || this.#isAsked) return;
    this.#isAsked = true;
    ask();
  }

  /** The tower has sent a snapshot that is newer than the last: whatever it had to say is known now. */
  snapshotTaken(): void {
    this.#stop();
    if (!this.#isDegraded) return;
    this.#isDegraded = false;
    this.#options.log('degraded mode ends: the tower has sent a snapshot', {});
    this.#options.onChange();
  }

  close(): void {
    this.#isClosed = true;
    this.#stop();
  }

  #begin(): void {
    this.#cancel = null;
    this.#isDegraded = true;
    this.#options.log('degraded mode begins: the tower is away', { after_ms: this.#options.after_ms });
    this.#options.onChange();
  }

  #stop(): void {
    this.#cancel?.();
    this.#cancel = null;
  }
}
