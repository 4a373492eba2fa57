/**
 * The 12 states of a channel and the one table of its transitions (spec 5.3). Each edge is named after its cause. `StateMachine`
 * is the only writer of a state; an edge that is not in the table is a bug and throws.
 */
import { assert } from '../base/errors.ts';

export const channelStates = [
  'idle',
  'connecting',
  'handshaking',
  'authenticating',
  'authorizing',
  'established',
  'revalidating',
  'degraded',
  'draining',
  'closing',
  'closed',
  'failed',
] as const;

export type ChannelState = (typeof channelStates)[number];

export type Cause =
  | 'dial'
  | 'accept'
  | 'connected'
  | 'handshaken'
  | 'authenticated'
  | 'authorized'
  | 'revalidate'
  | 'revalidated'
  | 'degrade'
  | 'drain'
  | 'undrain'
  | 'close'
  | 'closed'
  | 'failure';

/** State, then cause, gives the next state. What is not here is not allowed. */
export const transitions: Record<ChannelState, Partial<Record<Cause, ChannelState>>> = {
  idle: { dial: 'connecting', accept: 'handshaking', close: 'closed', failure: 'failed' },
  connecting: { connected: 'handshaking', failure: 'failed', close: 'closed' },
  handshaking: { handshaken: 'authenticating', failure: 'failed', close: 'closed' },
  authenticating: { authenticated: 'authorizing', failure: 'failed', close: 'closed' },
  authorizing: { authorized: 'established', failure: 'failed', close: 'closed' },
  established: { revalidate: 'revalidating', degrade: 'degraded', drain: 'draining', close: 'closing', failure: 'failed' },
  revalidating: { revalidated: 'established', degrade: 'degraded', drain: 'draining', close: 'closing', failure: 'failed' },
  degraded: { revalidate: 'revalidating', drain: 'draining', close: 'closing', failure: 'failed' },
  draining: { undrain: 'established', close: 'closing', failure: 'failed' },
  closing: { closed: 'closed', failure: 'failed' },
  closed: {},
  failed: {},
};

/** States in which application traffic may pass. New flows need more: see `Channel.open`. */
const carrying: ReadonlySet<ChannelState> = new Set(['established', 'revalidating', 'degraded', 'draining', 'closing']);
const ended: ReadonlySet<ChannelState> = new Set(['closed', 'failed']);

export class StateMachine {
  #state: ChannelState = 'idle';

  get state(): ChannelState {
    return this.#state;
  }

  get isCarrying(): boolean {
    return carrying.has(this.#state);
  }

  get hasEnded(): boolean {
    return ended.has(this.#state);
  }

  allows(cause: Cause): boolean {
    return transitions[this.#state][cause] !== undefined;
  }

  move(cause: Cause): ChannelState {
    const next = transitions[this.#state][cause];
    assert(next !== undefined, `channel in state ${this.#state} has no edge '${cause}'`);
    this.#state = next;
    return next;
  }
}
