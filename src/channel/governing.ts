/** When a channel's bulk is governed: while somebody waits at an interactive flow, and shortly after; and what the path carried last, for the next time. */
import type { Attached } from './attached.ts';
import { classRow, type TrafficClass } from './classes.ts';
import { Governor } from './governor.ts';

/** Interactive flows keep the governor on for this long after the last one closed. */
const GOVERNED_MS_AFTER = 5_000;

export class Governing {
  readonly #isGoverned: boolean;
  #governor: Governor | null = null;
  #interactive = 0;
  #interactiveUntil = Number.NEGATIVE_INFINITY;
  #rememberedRate: number | undefined;

  constructor(isGoverned: boolean, rememberedRate: number | undefined) {
    this.#isGoverned = isGoverned;
    this.#rememberedRate = rememberedRate;
  }

  /** Null while the path is left to itself. */
  get governor(): Governor | null {
    return this.#governor;
  }

  /** What the path carried when it was governed last, octets per second. */
  get rememberedRate(): number | undefined {
    return this.#rememberedRate;
  }

  /** When the governor goes off unless something interactive begins; null: that is not to be expected. */
  get endsAt(): number | null {
    return this.#governor !== null && this.#interactive === 0 ? this.#interactiveUntil : null;
  }

  began(cls: TrafficClass): void {
    if (classRow(cls).interactive) this.#interactive++;
  }

  ended(cls: TrafficClass, now: number): void {
    if (!classRow(cls).interactive) return;
    this.#interactive--;
    this.#interactiveUntil = now + GOVERNED_MS_AFTER;
  }

  /** On or off, as it should be now over this session. */
  update(now: number, current: Attached | null): void {
    const isWanted = this.#isGoverned && (this.#interactive > 0 || now < this.#interactiveUntil);
    if (!isWanted || current === null) return this.release();
    if (this.#governor !== null) return;
    const base = current.liveness.rttMin_ms;
    this.#governor = new Governor(now, {
      ...(base === null ? {} : { rtt_base_ms: base }),
      ...(this.#rememberedRate === undefined ? {} : { initial_rate_bytes_per_s: this.#rememberedRate }),
      sent_bytes: current.bulkSent,
      lead_ms: current.shape.lead_ms ?? 0,
    });
  }

  release(): void {
    if (this.#governor === null) return;
    this.#rememberedRate = this.#governor.capacity_bytes_per_s;
    this.#governor = null;
  }
}
