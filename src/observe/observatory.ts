/**
 * Everything that a daemon sees of itself: it listens to the log and to the channel table, keeps the latest events, and counts. It decides nothing and nothing
 * waits for it. Labels of what is counted come from closed sets, never from a peer.
 */
import { type ErrorCode, isErrorCode } from '../base/errors.ts';
import { type TrafficClass, trafficClassNames } from '../channel/classes.ts';
import type { HelloMode } from '../channel/hello.ts';
import type { ChannelState } from '../channel/states.ts';
import type { ChannelMove, ChannelObserver } from '../peering/observer.ts';
import type { PeerChannel } from '../peering/peer-channel.ts';
import type { TransportName } from '../transport/session.ts';
import { EventRing, type Facts } from './event-ring.ts';
import { Tally } from './tally.ts';
import { type EventKind, type FailureStage, rowOf } from './vocabulary.ts';

export type Log = (message: string, facts: Facts) => void;

type Direction = 'sent' | 'received';

export interface ObservatoryOptions {
  /** Milliseconds since 1970. */
  readonly wall: () => number;
}

export class Observatory implements ChannelObserver {
  readonly events: EventRing;
  readonly failures = new Tally<readonly [FailureStage, ErrorCode]>();
  readonly sessions = new Tally<readonly [TransportName, HelloMode]>();
  readonly revalidations = new Tally<readonly ['passed' | 'failed']>();
  readonly kinds = new Tally<readonly [EventKind]>();
  /** Nodes that were revoked here (tower), and channels that ended since their peer was. */
  readonly revocations = new Tally<readonly ['node' | 'channel']>();
  /** Of channels that have ended. */
  readonly #past = new Tally<readonly [TrafficClass, Direction]>();
  #pastStale = 0;
  readonly #live = new Set<PeerChannel>();
  /** In which state a channel was when it was judged again last. */
  readonly #judgedIn = new WeakMap<PeerChannel, ChannelState>();
  readonly #wall: () => number;

  constructor({ wall }: ObservatoryOptions, events = new EventRing()) {
    this.#wall = wall;
    this.events = events;
  }

  /** The same log, listened to. */
  listen(log: Log): Log {
    return (message, facts) => {
      log(message, facts);
      this.#heard(message, facts);
    };
  }

  #heard(message: string, facts: Facts): void {
    const { kind } = this.events.add(this.#wall(), message, facts);
    this.kinds.add([kind]);
    const { code } = facts;
    if (typeof code === 'string' && isErrorCode(code)) this.failures.add([rowOf(message).stage ?? 'other', code]);
    if (message === 'node revoked') this.revocations.add(['node']);
    if (message === 'channel revalidation failed' && code === 'certificate_revoked') this.revocations.add(['channel']);
  }

  // ---- of the channel table

  moved(channel: PeerChannel, { before, now, error }: ChannelMove): void {
    const hasEnded = now === 'closed' || now === 'failed';
    if (!hasEnded) this.#live.add(channel);
    else this.#ended(channel);
    if (before === 'revalidating') this.revalidations.add([now === 'failed' ? 'failed' : 'passed']);
    // A look at what has not changed is no news; that it found something is.
    if (now === 'revalidating') return void this.#judgedIn.set(channel, before);
    if (before === 'revalidating' && this.#judgedIn.get(channel) === now) return;
    const why = error === null ? {} : { code: error.code, reason: error.message };
    this.kinds.add(['channel']);
    this.events.add(this.#wall(), 'channel state', { peer: channel.name, side: channel.channel.side, before, state: now, ...why });
  }

  carried(_channel: PeerChannel, transport: TransportName, mode: HelloMode): void {
    this.sessions.add([transport, mode]);
  }

  #ended(channel: PeerChannel): void {
    if (!this.#live.delete(channel)) return;
    for (const [cls, direction, bytes] of bytesOf(channel)) this.#past.add([cls, direction], bytes);
    this.#pastStale += channel.channel.staleDropped;
  }

  // ---- sums

  /** Octets of payload by class and direction since the start; every class has its rows. */
  traffic(): Tally<readonly [TrafficClass, Direction]> {
    const all = new Tally<readonly [TrafficClass, Direction]>();
    for (const name of trafficClassNames) for (const direction of ['sent', 'received'] as const) all.add([name, direction], this.#past.get([name, direction]));
    for (const channel of this.#live) for (const [cls, direction, bytes] of bytesOf(channel)) all.add([cls, direction], bytes);
    return all;
  }

  get staleDropped(): number {
    let count = this.#pastStale;
    for (const { channel } of this.#live) count += channel.staleDropped;
    return count;
  }
}

function* bytesOf({ channel }: PeerChannel): Generator<readonly [TrafficClass, Direction, number]> {
  for (const [cls, { sent, received }] of channel.classBytes) {
    yield [cls, 'sent', sent];
    yield [cls, 'received', received];
  }
}
