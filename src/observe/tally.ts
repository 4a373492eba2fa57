/** Numbers by labels, where a label's values are a closed set: what counters are made of. */

export class Tally<Labels extends readonly string[]> {
  readonly #counts = new Map<string, { readonly labels: Labels; count: number }>();

  add(labels: Labels, by = 1): void {
    const key = labels.join('\0');
    const row = this.#counts.get(key);
    if (row) row.count += by;
    else this.#counts.set(key, { labels, count: by });
  }

  get(labels: Labels): number {
    return this.#counts.get(labels.join('\0'))?.count ?? 0;
  }

  *rows(): Generator<{ readonly labels: Labels; readonly count: number }> {
    yield* this.#counts.values();
  }
}
