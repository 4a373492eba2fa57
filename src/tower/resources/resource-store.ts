/** `ResourceStore`: rows of one simple kind. One interface, and one implementation for SQL (../store/sql-resources.ts), for all of them. */
import type { KindName, Specs } from './kinds.ts';

/** Who changes something, and when; every audit row says so. */
export interface By {
  readonly actor: string;
  readonly at_ms: number;
}

export interface ResourceRow<Spec> {
  readonly name: string;
  readonly spec: Spec;
  /** The store's version of its last change. */
  readonly revision: number;
  readonly created_ms: number;
  readonly changed_ms: number;
}

/** The revision that the caller has seen; null: whatever it is now. */
export type Match = number | null;

/** Rows in the order of their names, after this one (null: from the first), at most so many. */
export interface PageRequest {
  readonly after: string | null;
  readonly limit: number;
}

/** Whose snapshots differ now. */
export interface Told {
  readonly everybody: boolean;
  readonly nodes: readonly string[];
  /** And those of whoever may hear of these sites' nodes. */
  readonly sites: readonly string[];
}

export interface ResourceChange<Spec> {
  readonly row: ResourceRow<Spec>;
  readonly told: Told;
}

export interface ResourceStore<Spec> {
  get(name: string): Promise<ResourceRow<Spec> | null>;
  page(request: PageRequest): Promise<readonly ResourceRow<Spec>[]>;
  /** @throws resource_exists, limit_reached, not_found (what it names) */
  create(name: string, spec: Spec, by: By): Promise<ResourceChange<Spec>>;
  /** The whole document anew. @throws not_found, changed_meanwhile */
  change(name: string, spec: Spec, match: Match, by: By): Promise<ResourceChange<Spec>>;
  /** @throws not_found, changed_meanwhile, resource_in_use */
  delete(name: string, match: Match, by: By): Promise<ResourceChange<Spec>>;
}

export type ResourceStores = { readonly [Name in KindName]: ResourceStore<Specs[Name]> };
