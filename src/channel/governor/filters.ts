/** Extremes of the recent past, in bounded memory. */

const ENTRIES_MAX = 128;
const TOLD_APART_MS = 8;

/** Smallest value of the last `span` ms; the newest one however old it is. For a maximum, push negated values. */
export class SlidingMinimum {
  readonly #times: number[] = [];
  readonly #values: number[] = [];

  push(now: number, value: number, span_ms: number): void {
    const times = this.#times;
    const values = this.#values;
    while (values.length > 0 && (values[values.length - 1] as number) >= value) {
      values.pop();
      times.pop();
    }
    if (values.length === ENTRIES_MAX) {
      values.pop();
      times.pop();
    }
    values.push(value);
    times.push(now);
    while ((times[0] as number) < now - span_ms) {
      values.shift();
      times.shift();
    }
  }

  clear(): void {
    this.#times.length = 0;
    this.#values.length = 0;
  }

  get value(): number | null {
    return this.#values[0] ?? null;
  }
}

/**
 * An extreme of the last `count` seconds in which there was a value. Seconds without one do not count: what was known before a
 * silence is still the best that is known after it.
 */
export class SecondBuckets {
  readonly #count: number;
  readonly #pick: (left: number, right: number) => number;
  #second = Number.NaN;
  #buckets: number[] = [];
  #value: number | null = null;

  constructor(count: number, pick: (left: number, right: number) => number) {
    this.#count = count;
    this.#pick = pick;
  }

  add(now: number, value: number): void {
    const second = Math.floor(now / 1000);
    const last = this.#buckets.length - 1;
    if (second === this.#second && last >= 0) {
      this.#buckets[last] = this.#pick(this.#buckets[last] as number, value);
      this.#value = this.#pick(this.#value as number, value);
      return;
    }
    this.#second = second;
    this.#buckets.push(value);
    if (this.#buckets.length > this.#count) this.#buckets.shift();
    this.#value = this.#buckets.reduce((left, right) => this.#pick(left, right));
  }

  /** Forget all and go on from one value. */
  reset(value: number): void {
    this.#buckets = [value];
    this.#value = value;
  }

  get value(): number | null {
    return this.#value;
  }
}

/** A total that grows, remembered so that it can be read as it was a while ago. What is too old to be told apart counts as ever there. */
export class PastTotal {
  readonly #times: number[] = [];
  readonly #totals: number[] = [];
  #older = 0;
  #total = 0;

  add(now: number, amount: number): void {
    if (amount <= 0) return;
    this.#total += amount;
    const last = this.#times.length - 1;
    if (last >= 0 && now - (this.#times[last] as number) < TOLD_APART_MS) {
      this.#totals[last] = this.#total;
      return;
    }
    this.#times.push(now);
    this.#totals.push(this.#total);
    if (this.#times.length <= ENTRIES_MAX) return;
    this.#times.shift();
    this.#older = this.#totals.shift() ?? this.#older;
  }

  at(time: number): number {
    const index = this.#times.findLastIndex((known) => known <= time);
    return index < 0 ? this.#older : (this.#totals[index] ?? this.#older);
  }
}
