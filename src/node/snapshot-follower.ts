/**
 * The node's end of the flow of service `snapshot`: opened whenever there is a channel to the tower and none is open, it says what the node has
 * and where it listens, and takes what the tower sends. Whether a snapshot is good is `NodeState`'s to say.
 */
import { asSelvedgeError, SelvedgeError } from '../base/errors.ts';
import { TOWER_ID } from '../base/ids.ts';
import { Pieces } from '../enroll/pieces.ts';
import type { NodeState } from '../enroll/state.ts';
import { type Endpoint, SNAPSHOT_SERVICE, type SnapshotRequest } from '../enroll/wire.ts';
import type { FlowHandle, Mesh } from '../peering/mesh.ts';
import type { Timers } from '../transport/system.ts';

export interface FollowerOptions {
  readonly mesh: Mesh;
  readonly state: NodeState;
  readonly timers: Timers;
  readonly listen: readonly Endpoint[];
  /** What is held has to be confirmed: the tower is asked for a snapshot as of now, whatever its version. */
  readonly wantsFresh: () => boolean;
  /** A newer snapshot holds. */
  readonly onSnapshot: () => void;
  /** It is on disk, and the tower has been told of which trust bundle. */
  readonly onKept: () => void;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
}

/** After a flow that ended in an error. */
const RETRY_MS = 2_000;
/** Until a snapshot that found no room on the disk is tried again. */
const KEEP_MS = 30_000;

export class SnapshotFollower {
  readonly #options: FollowerOptions;
  #flow: FlowHandle | null = null;
  /** Version of the trust bundle that the tower was told of last, on this flow. */
  #told = 0;
  #cancelRetry: (() => void) | null = null;
  #cancelKeep: () => void = () => {};
  #isClosed = false;

  constructor(options: FollowerOptions) {
    this.#options = options;
  }

  /** A kill may have come between a bundle and the disk: nothing that is still to come would bring it there, and the tower waits for the word that it is. */
  start(): void {
    if (this.#options.state.keptTrust !== this.#options.state.trust.version) void this.#keep();
  }

  /** Call it whenever channels have changed. */
  poke(): void {
    if (this.#flow !== null || this.#isClosed || this.#cancelRetry !== null) return;
    const { mesh } = this.#options;
    try {
      const flow = mesh.open(TOWER_ID, 'fabric_control', 'messages', SNAPSHOT_SERVICE);
      this.#flow = flow;
      this.#request(flow);
      void this.#follow(flow);
    } catch (error) {
      // Without a channel there is nothing to ask; the next change of channels asks again.
      if (!(error instanceof SelvedgeError)) throw error;
    }
  }

  /** On the flow that is there; without one the next `poke` asks. */
  askAgain(): void {
    try {
      if (this.#flow !== null) this.#request(this.#flow);
    } catch (error) {
      // A flow that has just ended is followed by another.
      if (!(error instanceof SelvedgeError)) throw error;
    }
  }

  #request(flow: FlowHandle): void {
    const { state, listen, wantsFresh } = this.#options;
    this.#told = state.keptTrust;
    const request: SnapshotRequest = { have: wantsFresh() ? 0 : state.snapshot.version, listen: [...listen], trust: this.#told };
    flow.send(new TextEncoder().encode(JSON.stringify(request)));
  }

  async #follow(flow: FlowHandle): Promise<void> {
    const { state, timers, onSnapshot, log } = this.#options;
    const pieces = new Pieces();
    let failure: SelvedgeError | null = null;
    try {
      for (let message = await flow.receive(); message !== null; message = await flow.receive()) {
        const envelope = pieces.add(message);
        if (envelope !== null && state.takeSnapshot(envelope, timers.clock.wall())) {
          log('snapshot taken', { version: state.snapshot.version, peers: state.snapshot.peers.length });
          onSnapshot();
          await this.#keep();
        }
      }
      failure = await flow.closed;
    } catch (error) {
      failure = asSelvedgeError(error, 'document_invalid', { what: 'snapshot' });
      flow.reset(failure.code, failure.message);
    }
    this.#flow = null;
    if (this.#isClosed) return;
    if (failure) log('snapshot flow ended', { code: failure.code, reason: failure.message });
    this.#cancelRetry = timers.after(RETRY_MS, () => {
      this.#cancelRetry = null;
      this.poke();
    });
  }

  /** A full disk keeps this host from remembering what the tower says, not from doing it. */
  async #keep(): Promise<void> {
    const { state, timers, onKept, log } = this.#options;
    this.#cancelKeep();
    try {
      await state.keepSnapshot();
      if (state.keptTrust !== this.#told) this.askAgain();
      onKept();
    } catch (error) {
      const { code, message } = asSelvedgeError(error, 'internal_error', { what: 'keeping the snapshot' });
      log('snapshot not kept', { version: state.snapshot.version, code, reason: message });
      if (!this.#isClosed) this.#cancelKeep = timers.after(KEEP_MS, () => void this.#keep());
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#cancelKeep();
    this.#cancelRetry?.();
    this.#flow?.end();
  }
}
