/**
 * Admission of new channels (spec 8.1): how many begin here in a second, whoever comes. Beyond that nobody is turned away for good: each is told when to come
 * back, a moment of its own, one behind the other at the rate at which they are admitted. Who comes back then is let in; who comes early hears the same
 * moment again. So whoever was away, all at once, is back evenly, and knocks twice at most. What is there already and resumes passes ahead, and counts.
 *
 * It is asked behind the handshake and the chain decision, so that strangers use up nobody's turn, and before the channel and all that stands on it: the
 * directory, its signature, the flows. The rate is kept by a virtual time of the next turn (ITU-T I.371, generic cell rate algorithm). Times are milliseconds.
 */
import { SelvedgeError } from '../base/errors.ts';
import { limits } from '../base/limits.ts';
import type { Random } from '../base/seam.ts';

export interface AdmissionRate {
  readonly channels_per_s: number;
  /** Admitted at once after a quiet time. */
  readonly burst: number;
}

/** By so much they come more slowly than they are admitted. */
const SPREAD = 1.2;
const usualRate: AdmissionRate = { channels_per_s: limits.admission_channels_per_s, burst: limits.admission_burst };

export class Admission {
  readonly #self: string;
  readonly #random: Random;
  readonly #turn_ms: number;
  readonly #lead_ms: number;
  /** By this time all turns that were given are over. */
  #busyUntil = Number.NEGATIVE_INFINITY;
  /** Promised turns by node, the earliest first. */
  readonly #promised = new Map<string, number>();

  constructor(self: string, random: Random, { channels_per_s, burst }: AdmissionRate = usualRate) {
    this.#self = self;
    this.#random = random;
    this.#turn_ms = 1_000 / channels_per_s;
    this.#lead_ms = (burst - 1) * this.#turn_ms;
  }

  /** `node` wants a new channel: counted and let in, or told when to come back. @throws peer_busy */
  admit(node: string, now: number): void {
    this.#forget(now);
    const promised = this.#promised.get(node);
    if (promised !== undefined) {
      if (now < promised - limits.admission_early_ms_max) throw this.#comeBack(promised - now);
      this.#promised.delete(node);
      return;
    }
    const turn = this.#takeTurn(now);
    if (turn <= now) return;
    // Within its turn, so that they do not come in step with anything.
    const at = turn + this.#random.unit() * this.#turn_ms;
    if (at - now >= limits.admission_wait_ms_max - 1 || this.#promised.size >= limits.admission_promises_max) {
      // No turn is kept for it: another round, at some moment of the second half.
      this.#busyUntil -= this.#turn_ms;
      throw this.#comeBack(limits.admission_wait_ms_max * (0.5 + this.#random.unit() / 2));
    }
    this.#promised.set(node, at);
    throw this.#comeBack(at - now);
  }

  /** A channel that lives here goes on over another session: not held up, and those who come new make room for it. */
  resumed(now: number): void {
    this.#takeTurn(now);
  }

  /** Over how long so many should come back: a little longer than it takes to admit them, so that most need not knock twice. */
  spread_ms(count: number): number {
    return Math.round(SPREAD * count * this.#turn_ms);
  }

  /** How many were told to come back and have not yet. */
  get waiting(): number {
    return this.#promised.size;
  }

  /** When the next turn is: now, or later. */
  #takeTurn(now: number): number {
    const from = Math.max(this.#busyUntil, now);
    this.#busyUntil = from + this.#turn_ms;
    return Math.max(now, from - this.#lead_ms);
  }

  /** Turns of which nobody made use. */
  #forget(now: number): void {
    for (const [node, at] of this.#promised) {
      if (at + limits.admission_late_ms_max >= now) return;
      this.#promised.delete(node);
    }
  }

  #comeBack(ms: number): SelvedgeError {
    return new SelvedgeError('peer_busy', { peer: this.#self, ms: Math.ceil(ms) });
  }
}
