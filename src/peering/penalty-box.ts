/**
 * Peers that broke the protocol, and came back: each time they are held off for longer. The first few times are let pass, since a version with a bug is not hostile, and an
 * admission turn is waited for anyway. Who is held off is known by its node id and by the leaf that it showed, so that it is refused before its chain is judged: the handshake has
 * proved that it has the leaf's key. Not by its address: behind it may be a whole site, whose other nodes would be held off with it. Times are milliseconds.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';

interface Offender {
  readonly times: number;
  readonly until: number;
}

export class PenaltyBox {
  readonly #self: string;
  /** By name, who offended longest ago first. */
  readonly #offenders = new Map<string, Offender>();

  constructor(self: string) {
    this.#self = self;
  }

  /** Whoever is known by these names has broken the protocol. For how long it is held off. */
  blame(names: readonly string[], now: number): number {
    const times = 1 + Math.max(0, ...names.map((name) => this.#timesOf(name, now)));
    const over = times - limits.penalty_free_times;
    const hold_ms = over <= 0 ? 0 : Math.min(limits.penalty_ms_base * 2 ** (over - 1), limits.penalty_ms_max);
    for (const name of names) this.#remember(name, { times, until: now + hold_ms });
    return hold_ms;
  }

  /** `peer_busy`, with the time that is left, while whoever is known by this name is held off; else null. */
  objection(name: string, now: number): SelvedgeError | null {
    const left_ms = (this.#offenders.get(name)?.until ?? now) - now;
    return left_ms <= 0 ? null : new SelvedgeError('peer_busy', { peer: this.#self, ms: Math.ceil(left_ms) });
  }

  get size(): number {
    return this.#offenders.size;
  }

  #timesOf(name: string, now: number): number {
    const known = this.#offenders.get(name);
    return known === undefined || now - known.until > limits.penalty_forgotten_ms ? 0 : known.times;
  }

  #remember(name: string, offender: Offender): void {
    this.#offenders.delete(name);
    const [oldest] = this.#offenders.keys();
    if (this.#offenders.size >= limits.penalty_names_max && oldest !== undefined) this.#offenders.delete(oldest);
    this.#offenders.set(name, offender);
  }
}
