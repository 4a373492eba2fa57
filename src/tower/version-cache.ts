/**
 * What snapshots tell alike to many, kept between one node's and the next one's: the endpoints of an app network, the nodes of a site. A change of a network of fifty is told
 * fifty times, and each of those may be in two hundred others that have not changed. What is kept is believed for as long as its
 * scope has the version that it was read at; the caller reads that version and the rows in one transaction.
 */
interface Kept<Item> {
  readonly version: number;
  readonly items: readonly Item[];
}

export class VersionCache<Item> {
  /** In the order of use, so that the first is the one to forget. */
  readonly #kept = new Map<string, Kept<Item>>();
  readonly #items_max: number;
  #items = 0;

  constructor(items_max: number) {
    this.#items_max = items_max;
  }

  get(scope: string, version: number): readonly Item[] | null {
    const kept = this.#kept.get(scope);
    if (kept === undefined || kept.version !== version) return null;
    this.#kept.delete(scope);
    this.#kept.set(scope, kept);
    return kept.items;
  }

  set(scope: string, version: number, items: readonly Item[]): void {
    this.#forget(scope);
    if (items.length > this.#items_max) return;
    this.#kept.set(scope, { version, items });
    this.#items += items.length;
    for (const oldest of this.#kept.keys()) {
      if (this.#items <= this.#items_max) break;
      this.#forget(oldest);
    }
  }

  clear(): void {
    this.#kept.clear();
    this.#items = 0;
  }

  /** Items held. */
  get size(): number {
    return this.#items;
  }

  #forget(scope: string): void {
    this.#items -= this.#kept.get(scope)?.items.length ?? 0;
    this.#kept.delete(scope);
  }
}
