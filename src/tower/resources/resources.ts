/** The simple resources at the tower: changed in the store, then told to the nodes whose snapshots differ by it. Who asks, and whether they may, is known to the caller. */
import { SelvedgeError } from '../../base/errors.ts';
import { checkLabel } from '../../base/ids.ts';
import type { Clock } from '../../base/seam.ts';
import { completeSpec, type KindName, kinds, type Specs } from './kinds.ts';
import type { Match, PageRequest, ResourceChange, ResourceRow, ResourceStore, ResourceStores, Told } from './resource-store.ts';

/** What a request says of a resource: all, or what its defaults do not. */
export type Said<Name extends KindName> = Partial<Specs[Name]>;

export class Resources {
  readonly #stores: ResourceStores;
  readonly #clock: Clock;
  readonly #tell: (told: Told) => void;

  constructor(given: { stores: ResourceStores; clock: Clock; tell: (told: Told) => void }) {
    this.#stores = given.stores;
    this.#clock = given.clock;
    this.#tell = given.tell;
  }

  page<Name extends KindName>(kind: Name, request: PageRequest): Promise<readonly ResourceRow<Specs[Name]>[]> {
    return this.#of(kind).page(request);
  }

  /** @throws not_found */
  async get<Name extends KindName>(kind: Name, name: string): Promise<ResourceRow<Specs[Name]>> {
    const row = await this.#of(kind).get(name);
    if (row === null) throw new SelvedgeError('not_found', { what: kind, name });
    return row;
  }

  /** @throws argument_invalid, resource_exists, limit_reached, not_found */
  async create<Name extends KindName>(kind: Name, name: string, said: Said<Name>, actor: string): Promise<ResourceRow<Specs[Name]>> {
    checkLabel('name', name);
    return this.#told(await this.#of(kind).create(name, completeSpec(kinds[kind], said), { actor, at_ms: this.#clock.wall() }));
  }

  /** The whole of it anew: what is not said is its default again. @throws not_found, changed_meanwhile */
  async change<Name extends KindName>(kind: Name, name: string, said: Said<Name>, match: Match, actor: string): Promise<ResourceRow<Specs[Name]>> {
    return this.#told(await this.#of(kind).change(name, completeSpec(kinds[kind], said), match, { actor, at_ms: this.#clock.wall() }));
  }

  /** @throws not_found, changed_meanwhile, resource_in_use */
  async delete<Name extends KindName>(kind: Name, name: string, match: Match, actor: string): Promise<ResourceRow<Specs[Name]>> {
    return this.#told(await this.#of(kind).delete(name, match, { actor, at_ms: this.#clock.wall() }));
  }

  /** How nodes enroll at a site and unseal there; of a site that nobody has made yet, the defaults. */
  async siteSettings(site: string): Promise<Specs['site']> {
    return (await this.#stores.site.get(site))?.spec ?? completeSpec(kinds.site, {});
  }

  #of<Name extends KindName>(kind: Name): ResourceStore<Specs[Name]> {
    return this.#stores[kind] as unknown as ResourceStore<Specs[Name]>;
  }

  #told<Spec>({ row, told }: ResourceChange<Spec>): ResourceRow<Spec> {
    if (told.everybody || told.nodes.length > 0) this.#tell(told);
    return row;
  }
}
