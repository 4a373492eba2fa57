/**
 * Draining a host (spec 9.2): every channel is told, nothing new begins but what is essential, what is there may finish until the deadline, and the outcome is
 * reported. What is left at the deadline is ended by force, or goes on and is reported as overdue, as policy says. Control messages are waited for in either case.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Channel } from '../channel/channel.ts';
import { classRow } from '../channel/classes.ts';
import type { Timers } from '../transport/system.ts';
import type { PeerChannel } from './peer-channel.ts';

export interface DrainRequest {
  readonly deadline_ms: number;
  /** Whether what is left at the deadline is ended. */
  readonly force: boolean;
}

/** `overdue`: the deadline has passed, something is left, and policy does not force. */
export type DrainState = 'none' | 'draining' | 'drained' | 'overdue';

export interface DrainStatus {
  readonly state: DrainState;
  /** Flows that are not essential and still live. */
  readonly flows: number;
  /** Flows that were ended by force. */
  readonly forced: number;
  readonly left_ms: number | null;
}

/** A host as those see it who empty it. */
export interface Drainable {
  /** Resolves once it has drained, is overdue, or was called off. */
  drain(request: DrainRequest): Promise<DrainStatus>;
  undrain(): void;
  readonly drainStatus: DrainStatus;
}

interface DrainOptions {
  readonly self: string;
  readonly timers: Timers;
  readonly log: (message: string, facts: Readonly<Record<string, string | number | boolean | null>>) => void;
  readonly channels: () => Iterable<PeerChannel>;
  readonly onChange: () => void;
}

export class HostDrain {
  readonly #options: DrainOptions;
  #request: DrainRequest | null = null;
  #deadline = 0;
  #state: DrainState = 'none';
  #forced = 0;
  #cancelLook: () => void = () => {};
  readonly #waiters = new Set<() => void>();

  constructor(options: DrainOptions) {
    this.#options = options;
  }

  get isDraining(): boolean {
    return this.#request !== null;
  }

  /** When what is left may be ended; null: this host does not drain. */
  get deadline(): number | null {
    return this.#request === null ? null : this.#deadline;
  }

  /** Again with another request: that one counts from now on. */
  begin(request: DrainRequest): void {
    const { timers, log, channels, onChange } = this.#options;
    this.#request = request;
    this.#deadline = timers.clock.now() + request.deadline_ms;
    this.#state = 'draining';
    this.#forced = 0;
    log('drain begins', { deadline_ms: request.deadline_ms, force: request.force, flows: this.status.flows });
    for (const channel of channels()) channel.drain(this.#deadline);
    onChange();
    this.#look();
  }

  /** Back in service. */
  end(): void {
    if (this.#request === null) return;
    this.#request = null;
    this.#cancelLook();
    this.#settle('none');
    for (const channel of this.#options.channels()) channel.undrain();
    this.#options.log('drain ends', {});
    this.#options.onChange();
  }

  get status(): DrainStatus {
    let flows = 0;
    for (const { channel } of this.#options.channels()) flows += [...unfinished(channel)].length;
    const left_ms = this.#request === null ? null : Math.max(0, Math.round(this.#deadline - this.#options.timers.clock.now()));
    return { state: this.#state, flows, forced: this.#forced, left_ms };
  }

  /** Once it has drained, is overdue, or has been called off. */
  settled(): Promise<DrainStatus> {
    if (this.#state !== 'draining') return Promise.resolve(this.status);
    return new Promise((resolve) => this.#waiters.add(() => resolve(this.status)));
  }

  close(): void {
    this.#cancelLook();
    this.#wake();
  }

  #look(): void {
    this.#cancelLook();
    const { timers, log } = this.#options;
    const now = timers.clock.now();
    const { flows } = this.status;
    const isOver = now >= this.#deadline;
    if (flows === 0 && (this.#isQuiet || now >= this.#deadline + limits.drain_flush_ms_max)) {
      log('drained', { forced: this.#forced });
      return this.#settle('drained');
    }
    if (flows > 0 && isOver && this.#request?.force === true) this.#force();
    else if (flows > 0 && isOver && this.#state !== 'overdue') {
      log('drain overdue', { code: 'peer_draining', flows });
      this.#settle('overdue');
    }
    this.#cancelLook = timers.after(limits.drain_look_ms, () => this.#look());
  }

  /** Whatever was said on the flows that remain has been taken by the peer. */
  get #isQuiet(): boolean {
    for (const { channel } of this.#options.channels()) {
      for (const flow of channel.flows) if (flow.hasWork || (flow.send?.unacknowledged ?? 0) > 0) return false;
    }
    return true;
  }

  #force(): void {
    for (const { channel, carrier } of this.#options.channels()) {
      for (const flow of [...unfinished(channel)]) {
        flow.reset('peer_draining', new SelvedgeError('peer_draining', { peer: this.#options.self }).message);
        this.#forced++;
      }
      carrier.schedulePump();
    }
  }

  #settle(state: DrainState): void {
    this.#state = state;
    this.#wake();
    this.#options.onChange();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }
}

function* unfinished(channel: Channel) {
  for (const flow of channel.flows) if (classRow(flow.class).essential !== true) yield flow;
}
