/**
 * `authorize` for one host, again and again: about itself and a peer, by what it knows now. Answers are kept by peer, class and service until something else is
 * known; the bound is on how many. Pure.
 */
import { SelvedgeError } from '../base/errors.ts';
import { type NodeIdentity, TOWER_ID } from '../base/ids.ts';
import { limits } from '../base/limits.ts';
import { authorize, type Decision, type End, type Request } from './authorize.ts';
import { noRules, type Rules } from './rules.ts';

export interface View {
  readonly self: End;
  /** Null: nobody that this host is told of. */
  readonly peer: (identity: NodeIdentity) => End | null;
  /** The route epoch that a peer should have by now, as far as this host knows: 0 for any. */
  readonly epochOf: (identity: NodeIdentity) => number;
  readonly rules: Rules;
  /** The tower is away (spec 9.5): policies count that say so. */
  readonly degraded: boolean;
  /** When the revocation of a peer takes effect, milliseconds since the epoch; absent, or null: it is not being revoked. */
  readonly leavesAt?: (peer: NodeIdentity) => number | null;
  /** What time alone decides, so that it is asked at each look; absent, or null: nothing against it. */
  readonly objection?: (peer: NodeIdentity) => SelvedgeError | null;
}

export interface AskedFlow {
  readonly opener: 'self' | 'peer';
  readonly class: string;
  readonly service: string;
  /** Classes that the peer offers. */
  readonly offered: readonly string[];
}

export class Judge {
  readonly #classes: readonly string[];
  readonly #kept = new Map<string, SelvedgeError | null>();
  #view: View;

  /** `classes`: all that this host offers. */
  constructor(classes: readonly string[], view: View) {
    this.#classes = classes;
    this.#view = view;
  }

  /** What is known is something else from now on. */
  follow(view: View): void {
    this.#view = view;
    this.#kept.clear();
  }

  /** Whether there may be a channel; null: there may. */
  channel(peer: NodeIdentity): SelvedgeError | null {
    const objection = this.#view.objection?.(peer) ?? null;
    if (objection !== null) return objection;
    return this.#answer(`${peer.node}/${peer.site}`, peer, (self, other) => ({ from: self, to: other, flow: null, classes: this.#classes }));
  }

  /** Whether a flow may be opened; null: it may. */
  flow(peer: NodeIdentity, { opener, class: cls, service, offered }: AskedFlow): SelvedgeError | null {
    const isOffered = offered.includes(cls);
    return this.#answer(`${peer.node}/${peer.site} ${opener} ${cls} ${isOffered} ${service}`, peer, (self, other) => {
      const [from, to] = opener === 'self' ? [self, other] : [other, self];
      return { from, to, flow: { class: cls, service }, classes: isOffered ? this.#classes : [] };
    });
  }

  /** When this peer is to be revoked, milliseconds since the epoch; null: it is not. */
  leavesAt(peer: NodeIdentity): number | null {
    return this.#view.leavesAt?.(peer) ?? null;
  }

  /** Whether a new channel may begin, which needs more than that there may be one; null: it may. */
  begin(peer: NodeIdentity): SelvedgeError | null {
    return this.leavesAt(peer) === null ? this.channel(peer) : new SelvedgeError('peer_draining', { peer: peer.node });
  }

  /** Whether what goes on with this peer goes on without the tower. */
  isDegraded({ node }: NodeIdentity): boolean {
    return this.#view.degraded && node !== TOWER_ID;
  }

  /** Whether a peer that has come so far may begin a channel, or has to hear from the tower first; null: it may. */
  staleness(peer: NodeIdentity, epoch: number): SelvedgeError | null {
    const expected = this.#view.epochOf(peer);
    return epoch >= expected ? null : new SelvedgeError('route_epoch_stale', { found: epoch, expected, peer: peer.node });
  }

  /** Answers that are kept. */
  get size(): number {
    return this.#kept.size;
  }

  #answer(key: string, peer: NodeIdentity, ask: (self: End, other: End) => Omit<Request, 'degraded'>): SelvedgeError | null {
    const kept = this.#kept.get(key);
    if (kept !== undefined) return kept;
    const { self, rules, degraded } = this.#view;
    const other = this.#view.peer(peer);
    const answer = other === null ? unknown() : refusalOf({ ...ask(self, other), degraded }, rules);
    // What is asked about is the peer's to choose: it may fill this room, and no more.
    if (this.#kept.size >= limits.policy_decisions_max) this.#kept.clear();
    this.#kept.set(key, answer);
    return answer;
  }
}

/** What holds where an operator has said nothing. */
export function judgeWithoutRules(self: NodeIdentity, classes: readonly string[]): Judge {
  return new Judge(classes, { self: endOf(self), peer: endOf, epochOf: () => 0, rules: noRules, degraded: false });
}

/** A host of which no more is known than its name. */
export function endOf({ cluster, site, node }: NodeIdentity): End {
  return { cluster, site, id: node, tenant: null, roles: [] };
}

/** The decision as the error to refuse with; null: allowed. */
export function refusalOf(request: Request, rules: Rules): SelvedgeError | null {
  return errorOf(authorize(request, rules), request);
}

export function errorOf({ code, reason }: Decision, { from, to, flow }: Request): SelvedgeError | null {
  if (code === null) return null;
  if (code === 'wrong_cluster') return new SelvedgeError(code, { found: to.cluster, expected: from.cluster, why: reason });
  return new SelvedgeError(code, { why: reason, class: flow?.class ?? null, peer: from.gone === undefined ? to.id : from.id });
}

/** The same for a node that is not there, and for one that this host may not talk to. */
function unknown(): SelvedgeError {
  return new SelvedgeError('policy_denied', { why: 'no such node is among those that this one may talk to' });
}
