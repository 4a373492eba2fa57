/**
 * Numbers of flows: the dialer's are odd, the acceptor's even, each side counts up. What the peer has opened before is remembered as
 * a watermark and the few numbers above it, so that a flow opened twice (after a lost session) is told from a new one.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

/** How far numbers may run ahead of the lowest that is missing. */
const AHEAD_MAX = 4 * limits.flows_per_channel_max;

export type Side = 'dialer' | 'acceptor';

export class FlowIds {
  #nextOwn: number;
  /** Every number of the peer's below this one was opened. */
  #watermark: number;
  readonly #above = new Set<number>();
  readonly #peerParity: number;

  constructor(side: Side) {
    this.#nextOwn = side === 'dialer' ? 1 : 2;
    this.#watermark = side === 'dialer' ? 2 : 1;
    this.#peerParity = this.#watermark % 2;
  }

  next(): number {
    const id = this.#nextOwn;
    this.#nextOwn += 2;
    return id;
  }

  /** Whether this number has been given, by either end. */
  wasGiven(id: number): boolean {
    return id % 2 === this.#peerParity ? id < this.#watermark || this.#above.has(id) : id < this.#nextOwn;
  }

  isPeers(id: number): boolean {
    return id % 2 === this.#peerParity;
  }

  /** True the first time. @throws flow_violation for a number that is not the peer's to give, or far ahead */
  admit(id: number): boolean {
    if (id % 2 !== this.#peerParity) throw new SelvedgeError('flow_violation', { why: `flow ${id} is not the peer's to open` });
    if (id < this.#watermark || this.#above.has(id)) return false;
    if (id > this.#watermark + AHEAD_MAX) throw new SelvedgeError('flow_violation', { why: `flow ${id} is far ahead of ${this.#watermark}` });
    this.#above.add(id);
    while (this.#above.delete(this.#watermark)) this.#watermark += 2;
    return true;
  }
}
